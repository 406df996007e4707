"""Where a component failed is recorded with its fault."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from players import NoteTools, Played, Players, ReachReward, play, reach, say, short, use

from simkit import FaultPolicy, Rollout, Run
from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Decision, StartAgent
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolsStart
from simkit.components.user import UserTurn
from simkit.core.events import FaultTraced
from simkit.errors import AgentFault, ModelFault, RateLimited
from simkit.search.josh import BeamSearch, Josh

pytestmark = pytest.mark.anyio


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


class Blank:
    def fork(self) -> Blank:
        raise LookupError("out of paper")


def traced(played: Played) -> list[FaultTraced]:
    return [event for event in played.events if isinstance(event, FaultTraced)]


async def failing(error: BaseException) -> FaultTraced:
    def plan(request: Act) -> Decision:
        raise error

    played = await play(Rollout(), Players(plan))
    (event,) = traced(played)
    return event


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (KeyError("stars"), "KeyError: 'stars'"),
        (SystemExit(3), "SystemExit: 3"),
        (Unreadable(), "Unreadable (its message cannot be read: its `__str__` raises)"),
        (ExceptionGroup("two", [ValueError("one of them")]), "ValueError: one of them"),
        (ModelFault("a model of one's own"), "ModelFault: a model of one's own"),
        (RateLimited("too often"), "RateLimited: too often"),
    ],
)
async def test_the_traceback_names_the_error_and_the_line_that_raised_it(error: BaseException, first: str) -> None:
    event = await failing(error)
    assert first in event.traceback
    assert f'File "{__file__}", line ' in event.traceback
    assert "raise error" in event.traceback
    assert (event.component, short(event.branch_id or "")) == (
        "model" if "Model" in first or "Rate" in first else "agent",
        ".1",
    )


async def test_an_async_generator_and_the_cause_of_an_error_are_in_the_traceback() -> None:
    async def words() -> AsyncGenerator[str]:
        yield "one"
        try:
            raise ZeroDivisionError("at the bottom")
        except ZeroDivisionError as error:
            raise TypeError("on top") from error

    async def plan(request: Act) -> Decision:
        return say(" ".join([word async for word in words()]))

    (event,) = traced(await play(Rollout(), Players(plan)))
    assert "TypeError: on top" in event.traceback
    assert "caused by: ZeroDivisionError: at the bottom" in event.traceback
    assert event.traceback.index("on top") < event.traceback.index("at the bottom")


async def test_every_component_has_its_traceback() -> None:
    class Tools(NoteTools):
        async def call(self, request: CallTool) -> ToolReturn:
            raise OSError("no tools")

    class Judge(ReachReward):
        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            raise ArithmeticError("no verdict")

    def mute(request: Any) -> UserTurn:
        raise EOFError("no words")

    def closed(request: StartAgent) -> Any:
        raise PermissionError("no start")

    def ends(request: Act) -> Decision:
        return say(end=True)

    cases = {
        "tool": Players(lambda request: use(request, ("write", "x")), tools=Tools()),
        "user": Players(lambda request: say(), answer=mute),
        "reward": Players(ends, reward=Judge()),
        "agent": Players(ends, start=closed),
    }
    for component, players in cases.items():
        (event,) = traced(await play(Rollout(), players))
        assert (event.component, event.run_id) == (component, "run")
        assert f'File "{__file__}"' in event.traceback
        assert (event.branch_id is None) == (component == "agent")


async def test_a_failing_fork_in_a_tree_is_traced_once_for_each_branch_that_it_ended() -> None:
    def plan(request: Act) -> Decision:
        return reach(request, "a") if request.key.turn == 2 else say(state=Blank())

    played = await play(Josh(BeamSearch(beam=4)), Players(plan))
    faulted = [name for name, outcome in played.outcomes.items() if outcome == "agent_fault"]
    assert faulted
    assert sorted(short(event.branch_id or "") for event in traced(played)) == sorted(faulted)
    assert all("out of paper" in event.traceback for event in traced(played))


async def test_a_world_that_cannot_be_forked_at_the_opening_of_a_tree_is_traced_there() -> None:
    class Stuck(NoteTools):
        def start(self, request: StartTools) -> ToolsStart:
            return replace(super().start(request), state=Blank())

    played = await play(Josh(), Players(lambda request: say(), tools=Stuck()))
    (event,) = traced(played)
    assert (played.episode.outcome, event.component, short(event.branch_id or "")) == ("tool_fault", "tool", ".0")
    assert "out of paper" in event.traceback


async def test_a_reply_of_the_wrong_kind_and_a_run_without_faults_have_no_traceback() -> None:
    wrong = await play(Rollout(), Players(lambda request: "not a decision"))
    assert wrong.episode.outcome == "agent_fault"
    assert traced(wrong) == []
    assert traced(await play(Rollout(), Players(lambda request: say(end=True)))) == []


class Breaks(ScriptedAgent):
    name: ClassVar[str] = "breaks"

    async def act(self, request: Act) -> Decision:
        raise LookupError("a bug of the author's")


async def test_a_run_that_stops_at_the_first_fault_raises_it_from_the_components_own_error(tmp_path: Path) -> None:
    run = Run(store=tmp_path, policy=FaultPolicy(fail_fast=True))

    async def evaluated() -> None:
        async with run:
            world = run.world("builtin")
            await run.play(Rollout(), run.cast(world, agent=Breaks(world)), run.tasks(world, "test", 2))

    with pytest.raises(AgentFault) as raised:
        await evaluated()
    cause = raised.value.__cause__
    assert isinstance(cause, LookupError)
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    assert trace.tb_frame.f_code.co_filename == __file__
    assert run.status == "failed"
    assert "stops at the first fault" in (run.problem or "")


async def test_an_error_of_a_recipe_is_recorded_with_its_place(tmp_path: Path) -> None:
    run = Run(store=tmp_path)

    async def broken() -> None:
        async with run:
            await run.commit()
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await broken()
    ((component, episode, trace),) = run.store.query("select component, episode_id, traceback from faults").rows
    assert (component, episode) == ("run", None)
    assert "_ = 1 / 0" in trace
