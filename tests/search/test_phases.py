"""What happens between the phases of an episode: its beginning, its forks, its commits, and who watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from players import NoteTools, Players, ReachReward, play, reach, say, shorts, use

from simkit.components.agent import Act, AgentStart, Decision, StartAgent
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.core.events import EpisodeStarted
from simkit.core.ids import TurnKey
from simkit.core.limits import Limits
from simkit.core.messages import ToolResult
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Goal, Task
from simkit.errors import Fault
from simkit.search import episode as episodes
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.search.tree import first_error, together

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("supervisor", [Rollout(), Josh()], ids=["rollout", "josh"])


def crash(request: object) -> Any:
    raise RuntimeError("out of order")


class GoallessReward(ReachReward):
    def goals(self, task: Task) -> tuple[Goal, ...]:
        return crash(task)


class NoTools(NoteTools):
    def start(self, request: StartTools) -> ToolsStart:
        return crash(request)


@BOTH
@pytest.mark.parametrize(
    ("players", "outcome", "who"),
    [
        (Players(crash, crash, reward=GoallessReward()), "reward_fault", "reward `reach`"),
        (Players(crash, crash, tools=NoTools()), "tool_fault", "tools `notes`"),
        (Players(crash, crash, start=crash), "agent_fault", "agent `planned`"),
    ],
    ids=["reward", "tools", "agent"],
)
async def test_a_component_that_cannot_begin_ends_the_episode_and_is_named(
    supervisor: Search, players: Players, outcome: str, who: str
) -> None:
    played = await play(supervisor, players)
    ended = played.episode
    assert (ended.outcome, ended.reward, ended.turns, ended.branches, ended.faults) == (outcome, None, 0, 0, 1)
    assert ended.error == f"{who}, turn 0 of t1 at the root: RuntimeError: out of order"
    assert (ended.final_branch_id, ended.calls, played.branches) == (None, 0, {})
    assert sum(isinstance(event, EpisodeStarted) for event in played.events) == 1


@BOTH
async def test_a_task_without_goals_counts_nothing(supervisor: Search) -> None:
    ended = (await play(supervisor, Players(crash, crash, goals=()))).episode
    assert (ended.turns, ended.branches, ended.faults, ended.calls, ended.final_branch_id) == (0, 0, 0, 0, None)


class Asked(ReachReward):
    """Keeps what it is asked at the end."""

    def __init__(self) -> None:
        self.episodes: list[ScoreEpisode] = []

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        self.episodes.append(request)
        return await super().score_episode(request)


async def test_a_tree_without_a_goal_is_scored_at_its_opening() -> None:
    reward = Asked()
    await play(Josh(BeamSearch(beam=1)), Players(lambda request: say(end=True), reward=reward))
    (request,) = reward.episodes
    assert request.key == TurnKey(7, "t1", 0, "", 0)
    assert [entry.author for entry in request.conversation] == ["system", "user"]
    assert request.start == ()


async def test_a_state_that_changes_in_place_is_no_start_for_a_reward() -> None:
    reward = Asked()
    players = Players(lambda request: say(end=True), reward=reward, tools=CopiedTools(Copies()))
    await play(Rollout(), players)
    (request,) = reward.episodes
    assert request.start is None
    assert isinstance(request.world, Copies)


async def test_a_user_that_cannot_open_leaves_a_tree_without_turns() -> None:
    ended = (await play(Josh(), Players(crash, crash))).episode
    assert (ended.turns, ended.branches, ended.faults, ended.calls) == (0, 0, 1, 0)
    assert ended.error == "user `planned`, turn 0 of t1 at the root: RuntimeError: out of order"


@dataclass
class Copies:
    """A state that counts its forks, and fails at one of them; `used` has those that a component was given."""

    fails_at: int = -1
    number: int = 0
    count: list[int] = field(default_factory=lambda: [0])
    used: set[int] = field(default_factory=set[int])

    def fork(self) -> Copies:
        self.count[0] += 1
        if self.count[0] == self.fails_at:
            raise RuntimeError("out of paper")
        return Copies(self.fails_at, self.count[0], self.count, self.used)


def used(state: object) -> object:
    """The state, after taking note that a component was given it."""
    if isinstance(state, Copies):
        state.used.add(state.number)
    return state


class CopiedTools(NoteTools):
    """A world that is one state."""

    def __init__(self, state: object) -> None:
        self._state = state

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart(super().start(request).specs, state=self._state)

    async def call(self, request: CallTool) -> ToolReturn:
        return ToolReturn(ToolResult(value="ok"), used(request.state))


def forking(part: str, state: Copies, plan: Callable[[Act], Any]) -> Players:
    """Players of whom one alone, `part`, has a state that forks."""

    def start(request: StartAgent) -> AgentStart:
        return AgentStart(state=state if part == "agent" else None)

    def answer(request: Speak) -> UserTurn:
        if request.key.turn == 0:
            return UserTurn("user 0", state=state if part == "user" else None)
        return UserTurn(f"user {request.key.turn}", state=used(request.state))

    tools = CopiedTools(state) if part == "tools" else NoteTools()
    return Players(plan, answer, start=start, tools=tools, goals="ab")


def read_and_say(request: Act) -> Decision:
    state = used(request.state)
    return use(request, ("read", ""), state=state) if request.step == 0 else say(state=state)


@pytest.mark.parametrize("part", ["agent", "user", "tools"])
async def test_each_branch_has_a_state_of_its_own_when_one_part_alone_forks(part: str) -> None:
    state = Copies()
    await play(Josh(limits=Limits(turns=2)), forking(part, state, read_and_say))
    assert len(state.used) == 2 + 4
    kept = 1 if part == "tools" else 0  # the world of the opening, to be scored
    assert state.count == [kept + 2 + 4]


@pytest.mark.parametrize("part", ["agent", "user", "tools"])
@pytest.mark.parametrize("supervisor", [Rollout(Limits(turns=2)), Josh(BeamSearch(beam=1), Limits(turns=2))])
async def test_nothing_is_forked_for_turns_where_nothing_branches(supervisor: Search, part: str) -> None:
    state = Copies()
    await play(supervisor, forking(part, state, read_and_say))
    kept = 1 if part == "tools" and isinstance(supervisor, Josh) else 0
    assert (state.used, state.count) == ({0}, [kept])


@pytest.mark.parametrize(
    ("part", "outcome"), [("agent", "agent_fault"), ("user", "user_fault"), ("tools", "tool_fault")]
)
async def test_a_state_that_cannot_fork_ends_that_branch_alone(part: str, outcome: str) -> None:
    state = Copies(fails_at=2 if part == "tools" else 1)
    players = forking(part, state, read_and_say)
    played = await play(Josh(BeamSearch(beam=2), Limits(turns=1)), players)
    assert played.outcomes == {".0": None, "L.1": outcome, "R.1": "turn_limit"}
    assert played.branches["L.1"].error == ("forking for turn 1 of t1 at L: RuntimeError: out of paper")
    assert (played.episode.outcome, played.episode.faults, played.episode.branches) == ("turn_limit", 1, 2)


async def test_a_world_that_cannot_fork_at_the_opening_ends_the_episode() -> None:
    players = forking("tools", Copies(fails_at=1), crash)
    played = await play(Josh(), players)
    assert played.outcomes == {".0": "tool_fault"}
    ended = played.episode
    assert (ended.outcome, ended.reward, ended.faults, ended.branches) == ("tool_fault", None, 1, 0)
    assert ended.error == "forking for turn 0 of t1 at the root: RuntimeError: out of paper"


async def test_a_winner_whose_world_cannot_fork_has_failed_and_the_next_one_wins() -> None:
    def plan(request: Act) -> Decision:
        return reach(request, "a", state=request.state) if request.step == 0 else say(state=request.state)

    played = await play(Josh(limits=Limits(turns=1)), forking("tools", Copies(fails_at=4), plan))
    assert played.outcomes["L.1"] == "tool_fault"
    assert played.branches["L.1"].rewards == ()
    assert shorts([harvest.winner_id for harvest in played.harvests]) == ["R.1"]
    assert shorts(played.harvests[0].successful) == [".0", "R.1"]
    assert (played.episode.achieved, played.episode.faults) == (("a",), 1)


class Committed(MemoryRecorder):
    """Knows how many of its events are committed."""

    def __init__(self) -> None:
        super().__init__()
        self.committed = 0

    async def commit(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.committed = len(self.events)


@pytest.mark.parametrize(("supervisor", "first"), [(Josh(), 1), (Rollout(), 2)], ids=["josh", "rollout"])
async def test_a_turn_is_committed_before_the_next_one_begins(supervisor: Search, first: int) -> None:
    recorder = Committed()
    late: list[int] = []

    def plan(request: Act) -> Decision:
        if request.step == 0 and request.key.turn >= first and recorder.committed < len(recorder.events):
            late.append(request.key.turn)
        return use(request, ("read", "")) if request.step == 0 else say()

    players = Players(plan, lambda request: UserTurn("go on", end=request.key.turn == 3))
    await play(supervisor, players, recorder=recorder)
    assert late == []
    assert recorder.committed == len(recorder.events)


class Stuck(MemoryRecorder):
    """Its commits never end."""

    async def commit(self) -> None:
        await anyio.sleep_forever()


@BOTH
async def test_a_store_that_hangs_does_not_hold_a_cancelled_episode_for_long(
    supervisor: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "LAST_COMMIT_SECONDS", 0.01)
    with anyio.fail_after(5), anyio.CancelScope() as scope:

        async def answer(request: Speak) -> UserTurn:
            scope.cancel()
            await anyio.sleep_forever()
            return UserTurn("never")

        await play(supervisor, Players(crash, answer), recorder=Stuck())
    assert scope.cancelled_caught


async def test_a_cancelled_episode_stays_cancelled_when_its_commit_waits_for_nothing() -> None:
    went_on = False
    with anyio.CancelScope() as scope:
        async with episodes.committed(MemoryRecorder()):
            scope.cancel()
            await anyio.sleep_forever()
        went_on = True
    assert scope.cancelled_caught
    assert not went_on


class Watching:
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def live(self, change: int) -> None:
        self.told.append(("live", change))

    def turn(self) -> None:
        self.told.append(("turn", 1))

    def flag(self, flags: Sequence[str]) -> None:
        pass

    def hit(self, goals: int) -> None:
        self.told.append(("hit", goals))

    def fault(self, fault: Fault) -> None:
        pass


async def test_a_watch_is_told_of_a_single_conversation_as_it_goes() -> None:
    def plan(request: Act) -> Decision:
        return reach(request, "a", "b") if (request.key.turn, request.step) == (2, 0) else say()

    watch = Watching()
    players = Players(plan, lambda request: UserTurn("go on", end=request.key.turn == 2), goals="abc")
    played = await play(Rollout(), players, watch=watch)
    assert watch.told == [("live", 1), ("turn", 1), ("turn", 1), ("hit", 2), ("live", -1)]
    assert [row.credited for row in played.branches[".2"].rewards] == [True, True]


def test_the_defaults_are_the_papers() -> None:
    assert BeamSearch() == BeamSearch(factor=2, beam=8, winner="first", eager=False, branch_by="turn")


def test_of_several_errors_the_first_one_that_is_no_group_is_told() -> None:
    first = ValueError("first")
    inner = ExceptionGroup("inner", [first, KeyError("second")])
    assert first_error(ExceptionGroup("outer", [inner, TypeError("third")])) is first


@pytest.mark.parametrize("with_cause", [True, False])
async def test_an_error_of_one_branch_keeps_its_own_cause_and_otherwise_names_the_group(with_cause: bool) -> None:
    own = KeyError("the cause")

    async def fails() -> None:
        if with_cause:
            raise ValueError("failed") from own
        raise ValueError("failed")

    async def waits() -> None:
        await anyio.sleep_forever()

    with pytest.raises(ValueError, match="failed") as raised:
        await together([waits, fails])
    cause = raised.value.__cause__
    assert cause is own if with_cause else isinstance(cause, ExceptionGroup)


async def test_a_tree_has_as_many_turns_as_its_longest_branch_even_if_a_slower_one_ends_last() -> None:
    def plan(request: Act) -> Decision:
        if (request.key.path, request.key.turn) == ("R", 1):
            return use(request, ("read", "")) if request.step == 0 else say(end=True)
        return say(end=request.key.turn == 2)

    played = await play(Josh(BeamSearch(beam=2, branch_by="action")), Players(plan))
    assert (played.outcomes["R.1.1"], played.episode.turns) == ("agent_ended", 2)
