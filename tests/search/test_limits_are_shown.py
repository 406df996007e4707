"""What waits for a component with limits: the live display and `simkit doctor` show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from simkit.cli.progress import describe
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.world import World
from simkit.core.events import ComponentsWaitedFor, Event
from simkit.core.records import ComponentLoad
from simkit.monitoring.doctor import diagnose
from simkit.run import background
from simkit.run.engine import RunProgress
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
            self.shown = describe(self._run.progress)
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


class Observed(Narrow):
    """The same; the first call waits until a queue has been recorded, and diagnoses the run from its store."""

    def __init__(self, world: World, run: Run, recorded: anyio.Event) -> None:
        super().__init__(world, run)
        self._recorded = recorded
        self.rows: list[dict[str, Any]] = []

    async def call(self, request: CallTool) -> ToolReturn:
        if not self.rows:
            await self._recorded.wait()
            await self._run.commit()
            self.rows = (await anyio.to_thread.run_sync(diagnose, self._run.store, self._run.id)).components
        return await self._tools.call(request)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_doctor_shows_what_waits_while_the_run_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LOAD_EVERY", 0.0)
    recorded = anyio.Event()
    loads: list[tuple[ComponentLoad, ...]] = []

    def tap(event: Event) -> None:
        if isinstance(event, ComponentsWaitedFor):
            loads.append(event.components)
            if event.components[0].waiting and event.components[0].queued:
                recorded.set()

    run = Run(store=tmp_path, concurrency=4, taps=[tap])
    async with run:
        world = run.world("builtin")
        agent = fixed_agent([("search_hotel", {"area": "harbour"}), "Here is one."])
        tools = Observed(world, run, recorded)
        players = run.cast(world, agent=agent, user=fixed_user(["A hotel, please.", "Goodbye."]), tools=tools)
        await run.play(Rollout(), players, run.tasks(world, "val", 4))
    (row,) = tools.rows
    assert (row["component"], row["serving"], row["waiting"], row["open"], row["queued"]) == ("narrow", 1, 1, 2, 2)
    found = run.store.query("select distinct run_id, attempt, name, concurrency, sessions from component_loads")
    assert found.rows == [(run.id, 0, "narrow", 1, 2)]
    assert all(load[0].concurrency == 1 for load in loads)


def test_a_limit_without_a_queue_is_shown_without_one() -> None:
    progress = RunProgress(planned=1, load=lambda: (ComponentLoad(name="desk", concurrency=3, serving=2),))
    assert describe(progress).endswith("desk: 2 of 3 requests")
