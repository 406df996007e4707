"""Components that declare `concurrency` and `sessions`: kept to, in order, without a change to what is played."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from players import NoteTools, PlannedAgent, PlannedUser, Players, ReachReward, introduced, reach, say

from simkit.actors.scope import open_scope
from simkit.components.agent import Act, Decision
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.core.events import BranchAdded, BranchEnded, BranchExtended, Episode, Event
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.run.casting import Players as Cast
from simkit.run.engine import PlayContext, RunProgress, play_units
from simkit.search.base import Search, WorkUnit
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio

TASKS = [
    Task(id=f"t{number}", world="test", split="test", instructions="", goals=(Goal("a"), Goal("b")))
    for number in range(4)
]
JOSH = Josh(BeamSearch(beam=4), Limits(turns=4))


@dataclass
class Count:
    """How many of something there are at once."""

    now: int = 0
    most: int = 0
    order: list[str] = field(default_factory=list[str])

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class BoundTools(NoteTools):
    """Counts the requests that it serves at once, and notes the tasks it was asked to start."""

    def __init__(self, concurrency: int | None = None, sessions: int | None = None) -> None:
        self.concurrency = concurrency
        self.sessions = sessions
        self.count = Count()

    def start(self, request: StartTools) -> ToolsStart:
        self.count.order.append(request.task.id)
        return super().start(request)

    async def call(self, request: CallTool) -> ToolReturn:
        with self.count:
            await checkpoint()
            return await super().call(request)


class BoundAgent(PlannedAgent):
    def __init__(self, concurrency: int | None = None) -> None:
        super().__init__(by_path, introduced)
        self.concurrency = concurrency


def by_path(request: Act) -> Decision:
    """Reaches one goal in the second turn of left branches, the other one later; pauses by where it is."""
    if request.step:
        return say(f"turn {request.key.turn} at {request.key.path}")
    wanted = "a" if request.key.turn == 2 else "b"
    return reach(request, wanted if request.key.path.endswith("L") else "c")


async def talks(request: Speak) -> UserTurn:
    for _ in range(len(request.key.path) % 3):
        await checkpoint()
    return UserTurn(f"user {request.key.turn}")


class BoundUser(PlannedUser):
    def __init__(self, sessions: int | None = None) -> None:
        super().__init__(talks)
        self.sessions = sessions


@dataclass(frozen=True)
class Ran:
    events: list[Event]
    progress: RunProgress


async def ran(supervisor: Search, tools: BoundTools, agent: BoundAgent, user: BoundUser, at_once: int = 4) -> Ran:
    recorder, progress = MemoryRecorder(), RunProgress()
    players = Cast(agent=agent, user=user, tools=tools, reward=ReachReward())
    with anyio.fail_after(20):
        async with open_scope() as scope:
            progress.load = scope.load
            context = PlayContext(search=supervisor, cast=players.cast(scope), recorder=recorder, progress=progress)
            await play_units(context, [WorkUnit("run", 7, task) for task in TASKS], at_once)
            assert all(state.open == 0 == state.serving for state in scope.load())
    return Ran(recorder.events, progress)


def tree(events: list[Event]) -> dict[str, Any]:
    """What was played, without the time of day and the order among episodes."""
    found: dict[str, Any] = {}
    for event in events:
        match event:
            case BranchAdded():
                messages = [row.message for row in event.messages]
                found[event.branch_id] = [event.parent_id, messages, event.rewards, event.outcome]
            case BranchExtended():
                found[event.branch_id].append([row.message for row in event.messages])
            case BranchEnded():
                found[event.branch_id].append(event.outcome)
            case Episode():
                found[event.episode_id] = (event.reward, event.outcome, event.achieved, event.branches)
            case _:
                pass
    return found


@pytest.mark.parametrize(
    ("concurrency", "sessions", "at_once"), [(1, 4, 4), (1, None, 1), (2, 5, 3), (3, 8, 4), (None, 4, 2), (64, 64, 4)]
)
async def test_one_seed_gives_one_tree_for_any_limits(
    concurrency: int | None, sessions: int | None, at_once: int
) -> None:
    free = await ran(JOSH, BoundTools(), BoundAgent(), BoundUser())
    tools = BoundTools(concurrency, sessions)
    limited = await ran(JOSH, tools, BoundAgent(concurrency), BoundUser(sessions), at_once)
    assert tree(limited.events) == tree(free.events)
    assert any(event.rewards for event in limited.events if isinstance(event, BranchAdded))
    assert tools.count.most <= (concurrency or 64)


async def test_conversations_wait_for_a_session_in_the_order_of_their_tasks() -> None:
    tools = BoundTools(sessions=1)
    await ran(Rollout(Limits(turns=2)), tools, BoundAgent(), BoundUser(sessions=2))
    assert tools.count.order == [task.id for task in TASKS]
    assert tools.count.most == 1


async def test_trees_that_need_all_sessions_are_played_one_after_another() -> None:
    tools = BoundTools(sessions=4)
    played = await ran(JOSH, tools, BoundAgent(), BoundUser(sessions=4))
    assert tools.count.order == [task.id for task in TASKS]
    assert [(state.name, state.sessions, state.most_queued) for state in played.progress.load()] == [
        ("planned", 4, 3),
        ("notes", 4, 0),
    ]


@pytest.mark.parametrize("who", ["notes", "planned"])
async def test_a_tree_with_more_leaves_than_sessions_is_refused_before_any_work(who: str) -> None:
    tools = BoundTools(sessions=3 if who == "notes" else None)
    user = BoundUser(sessions=3 if who == "planned" else None)
    with pytest.raises(UsageError, match=f"`{who}` holds 3 conversations .* up to 4 side by side; .*--beam"):
        await ran(JOSH, tools, BoundAgent(), user)
    assert tools.count.order == []


@pytest.mark.parametrize(("factor", "beam", "most"), [(2, 8, 8), (2, 7, 6), (3, 8, 6), (4, 3, 1), (2, 1, 1), (2, 2, 2)])
def test_how_many_leaves_a_tree_has_at_most(factor: int, beam: int, most: int) -> None:
    assert BeamSearch(factor=factor, beam=beam).conversations == most


async def test_a_cancelled_episode_gives_its_place_in_the_queue_and_its_sessions_back() -> None:
    inside, stay = anyio.Event(), anyio.Event()

    class Slow(BoundTools):
        async def call(self, request: CallTool) -> ToolReturn:
            inside.set()
            await stay.wait()
            return await super().call(request)

    players = Cast(agent=BoundAgent(), user=BoundUser(), tools=Slow(sessions=1), reward=ReachReward())
    with anyio.fail_after(20):
        async with open_scope() as scope:
            cast = players.cast(scope)

            async def play(task: Task) -> None:
                context = PlayContext(search=Rollout(), cast=cast, recorder=MemoryRecorder(), progress=RunProgress())
                await play_units(context, [WorkUnit("run", 7, task)], 1)

            async with anyio.create_task_group() as playing:
                playing.start_soon(play, TASKS[0])
                await inside.wait()
                playing.start_soon(play, TASKS[1])
                await anyio.wait_all_tasks_blocked()
                (state,) = scope.load()
                assert (state.open, state.queued) == (1, 1)
                playing.cancel_scope.cancel()
            (state,) = scope.load()
            assert (state.open, state.queued) == (0, 0)


async def test_players_without_limits_leave_nothing_to_wait_for() -> None:
    players = Players(by_path)
    assert players.tools.sessions is None
    async with open_scope() as scope:
        Cast(agent=BoundAgent(), user=BoundUser(), tools=BoundTools(), reward=ReachReward()).cast(scope)
        assert scope.load() == ()
