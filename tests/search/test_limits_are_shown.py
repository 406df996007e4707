"""What waits for a component with limits is shown while a run goes, and by `simkit doctor` after it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from simkit.actors.actor import ActorState
from simkit.cli.progress import describe
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.world import World
from simkit.monitoring.doctor import diagnose
from simkit.run.engine import Tally
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.testing import fixed_agent, fixed_user


class Narrow(ToolServer):
    """The tools of a world, one call and two conversations at a time; the first call notes what is shown meanwhile."""

    name = "narrow"
    concurrency = 1
    sessions = 2

    def __init__(self, world: World, run: Run) -> None:
        self._tools, self._run = world.tools(), run
        self.shown = ""

    def start(self, request: StartTools) -> ToolsStart:
        return self._tools.start(request)

    async def call(self, request: CallTool) -> ToolReturn:
        if not self.shown:
            await anyio.wait_all_tasks_blocked()
            self.shown = describe(self._run.tally)
        return await self._tools.call(request)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_run_shows_what_waits_and_doctor_what_waited(tmp_path: Path) -> None:
    run = Run(store=tmp_path, concurrency=4)
    async with run:
        world = run.world("builtin")
        agent = fixed_agent([("search_hotel", {"area": "harbour"}), "Here is one."])
        tools = Narrow(world, run)
        players = run.cast(world, agent=agent, user=fixed_user(["A hotel, please.", "Goodbye."]), tools=tools)
        await run.play(Rollout(), players, run.tasks(world, "val", 4))
    assert "narrow: 1 of 1 requests, 1 waiting; 2 of 2 sessions, 2 episodes waiting" in tools.shown
    (row,) = diagnose(run.store, run.id).components
    assert (row["component"], row["concurrency"], row["sessions"]) == ("narrow", 1, 2)
    assert (row["most_waiting"], row["most_queued"]) == (1, 2)


def test_a_limit_without_a_queue_is_shown_without_one() -> None:
    tally = Tally(planned=1, load=lambda: (ActorState(name="desk", concurrency=3, serving=2),))
    assert describe(tally).endswith("desk: 2 of 3 requests")
