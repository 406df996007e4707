from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from players import NoteTools, Players, ReachReward, play, reach, say, short, shorts, talkative, use

from simkit.components.agent import Act, Decision
from simkit.components.reward import Hit, ScoreTurn
from simkit.components.tools import StartTools, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.core.events import BranchAdded, Episode, EpisodeStarted, Event
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder
from simkit.core.records import CallRecord
from simkit.errors import DataMissing, Fault, JournalFailed, NotForkable, UsageError
from simkit.search.josh import BeamSearch, Josh

pytestmark = pytest.mark.anyio


def at(places: dict[str, str], *, step: int = 0) -> Callable[[Act], Decision]:
    """Reach a goal at each of these `path.turn`, and speak."""

    def plan(request: Act) -> Decision:
        goal = places.get(f"{request.key.path}.{request.key.turn}")
        if goal is not None and request.step == step:
            return reach(request, *goal)
        return say() if request.step > step or goal is None else use(request, ("read", ""))

    return plan


async def test_the_tree_doubles_while_it_fits_and_resumes_when_leaves_are_gone() -> None:
    def answer(request: Speak) -> UserTurn:
        return UserTurn("bye", end=request.key.turn == 3 and request.key.path != "LLL")

    played = await play(Josh(limits=Limits(turns=5)), Players(lambda request: say(), answer))
    widths = [sum(branch.turn == turn for branch in played.branches.values()) for turn in range(1, 6)]
    assert widths == [2, 4, 8, 2, 4]
    assert played.outcomes["LLR.3"] == "user_ended"


@pytest.mark.parametrize(("factor", "beam", "widths"), [(3, 9, [3, 9, 9]), (3, 8, [3, 3, 3]), (2, 1, [1, 1, 1])])
async def test_factor_and_beam(factor: int, beam: int, widths: list[int]) -> None:
    search = BeamSearch(factor=factor, beam=beam)
    played = await play(Josh(search, Limits(turns=3)), Players(lambda request: say()))
    assert [sum(branch.turn == turn for branch in played.branches.values()) for turn in (1, 2, 3)] == widths
    if widths[-1] == 9:
        assert {branch.path for branch in played.branches.values() if branch.turn == 2} == {
            f"{a}.{b}" for a in range(3) for b in range(3)
        }


async def test_a_harvest_marks_takes_and_drops() -> None:
    played = await play(Josh(limits=Limits(turns=4)), Players(at({"LR.2": "a", "RL.2": "a"}), goals=("a", "b")))
    harvest = played.harvests[0]
    assert short(harvest.winner_id) == "LR.2"
    assert shorts(harvest.golden) == [".0", "L.1", "LR.2"]
    assert shorts(harvest.successful) == [".0", "L.1", "LR.2", "R.1", "RL.2"]
    assert {name: played.outcomes[name] for name in ("LL.2", "LR.2", "RL.2", "RR.2")} == {
        "LL.2": "dropped",
        "LR.2": None,
        "RL.2": "dropped",
        "RR.2": "dropped",
    }
    assert [row.credited for row in played.branches["RL.2"].rewards] == [False]
    assert {branch.path for branch in played.branches.values() if branch.turn == 3} == {"LRL", "LRR"}
    assert "user" in played.authors("LR.2"), "the winner's user answers"
    assert (played.episode.final_branch_id or "").endswith("LR.2")


async def test_the_next_harvest_starts_from_the_last_winner() -> None:
    played = await play(Josh(), Players(at({"L.1": "a", "LR.2": "b"}), goals=("a", "b")))
    assert [shorts(harvest.golden) for harvest in played.harvests] == [[".0", "L.1"], ["L.1", "LR.2"]]
    assert [harvest.harvest for harvest in played.harvests] == [0, 1]
    assert played.outcomes["LR.2"] == "goals_done"
    assert played.episode.achieved == ("a", "b")


@pytest.mark.parametrize("branch_by", ["turn", "action"])
async def test_each_leaf_goes_on_with_the_words_of_its_user(branch_by: Any) -> None:
    heard: dict[tuple[str, int], list[str]] = {}

    def plan(request: Act) -> Decision:
        words = [word.text for word in request.conversation.heard() if word.speaker == "user"]
        heard[request.key.path, request.key.turn] = words
        return say()

    def answer(request: Speak) -> UserTurn:
        return UserTurn(f"{request.key.path}{request.key.turn}")

    search = BeamSearch(beam=2, branch_by=branch_by)
    await play(Josh(search, Limits(turns=3)), Players(plan, answer))
    assert heard == {
        (path, turn): ["0", *(f"{path}{before}" for before in range(1, turn))] for path in "LR" for turn in (1, 2, 3)
    }


@pytest.mark.parametrize(("winner", "expected"), [("first", "L.1"), ("earliest", "R.1"), ("most_goals", "R.1")])
async def test_who_wins(winner: Any, expected: str) -> None:
    def plan(request: Act) -> Decision:
        late = request.key.path == "L"
        if request.step == (1 if late else 0):
            return reach(request, *("a" if late else "ab"))
        return use(request, ("read", "")) if request.step == 0 else say()

    played = await play(Josh(BeamSearch(winner=winner), Limits(turns=1)), Players(plan, goals="abc"))
    assert short(played.harvests[0].winner_id) == expected


async def test_earliest_is_by_the_first_goal_a_leaf_reached_not_by_its_last() -> None:
    def plan(request: Act) -> Decision:
        goals = {("L", 1): "a", ("R", 0): "a", ("R", 2): "b"}.get((request.key.path, request.step))
        if goals is not None:
            return reach(request, goals)
        return use(request, ("read", "")) if request.step < 2 else say()

    search = BeamSearch(winner="earliest")
    played = await play(Josh(search, Limits(turns=1)), Players(plan, goals="abc"))
    assert short(played.harvests[0].winner_id) == "R.1"
    assert played.episode.achieved == ("a", "b")


@pytest.mark.parametrize(
    ("ends", "outcome", "words"),
    [
        ({"L": "first fault", "RL": "second fault", "RR": "third fault"}, "agent_fault", "second fault"),
        ({"L": "bye", "RL": "first fault", "RR": "second fault"}, "agent_ended", None),
        ({"L": "first fault", "RL": "bye", "RR": "second fault"}, "agent_ended", None),
    ],
)
async def test_a_fault_names_the_episode_only_while_no_leaf_ended_in_order_and_then_the_last_step_s(
    ends: dict[str, str], outcome: str, words: str | None
) -> None:
    def plan(request: Act) -> Decision:
        end = ends.get(request.key.path)
        if end is not None and end != "bye":
            raise ValueError(end)
        return say(end=end == "bye")

    played = await play(Josh(), Players(plan))
    assert played.episode.outcome == outcome
    assert (words is None) is (played.episode.error is None)
    assert (words or "") in str(played.episode.error)


async def test_a_winner_that_ended_the_conversation_ends_the_search() -> None:
    played = await play(Josh(), Players(lambda request: reach(request, "a", end=True), goals="ab"))
    assert (played.episode.outcome, played.episode.reward, played.episode.turns) == ("agent_ended", 0.5, 1)


async def test_eager_cancels_the_siblings_in_flight() -> None:
    async def plan(request: Act) -> Decision:
        if request.key.path != "R":
            await anyio.sleep_forever()
        return reach(request, "a") if request.step == 0 else say()

    with anyio.fail_after(5):
        played = await play(Josh(BeamSearch(eager=True)), Players(plan))
    assert list(played.branches) == [".0", "R.1"]
    assert played.episode.reward == 1.0


async def test_eager_waits_for_siblings_of_a_branch_without_a_reward() -> None:
    left = anyio.Event()

    async def plan(request: Act) -> Decision:
        if request.key.path == "L":
            left.set()
            return say()
        await left.wait()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        return reach(request, "a") if request.step == 0 else say()

    played = await play(Josh(BeamSearch(eager=True)), Players(plan))
    assert list(played.branches) == [".0", "L.1", "R.1"]
    assert played.episode.reward == 1.0


async def test_branching_by_action_forks_before_every_decision() -> None:
    def plan(request: Act) -> Decision:
        if request.step == 0:
            return use(request, ("read", ""))
        if request.key.path == "RL" and request.step == 1:
            return reach(request, "a")
        return say()

    search = BeamSearch(beam=4, branch_by="action")
    played = await play(Josh(search, Limits(turns=2)), Players(plan, goals=("a", "b")))
    first = [name for name, branch in played.branches.items() if branch.turn == 1]
    assert first == ["L.1", "R.1", "LL.1.1", "LR.1.1", "RL.1.1", "RR.1.1", "RLL.1.2", "RLR.1.2"]
    assert short(played.harvests[0].winner_id) == "RL.1.1"
    assert shorts(played.harvests[0].golden) == [".0", "R.1", "RL.1.1"]
    assert played.authors("L.1") == ["agent", "tool"], "nobody has spoken yet, so no user answers"
    assert played.authors("RLL.1.2") == ["agent", "user"]
    assert [row.step for row in played.branches["RLL.1.2"].messages] == [2]
    seconds = [branch.path for branch in played.branches.values() if branch.turn == 2]
    assert seconds[:4] == ["RLLL", "RLLR", "RLRL", "RLRR"]


async def test_branching_by_action_keeps_one_turn_in_several_nodes_without_a_fork() -> None:
    search = BeamSearch(beam=1, branch_by="action")
    played = await play(Josh(search, Limits(turns=1, steps=2)), Players(lambda request: use(request, ("read", ""))))
    assert list(played.branches) == [".0", ".1", ".1.1"]
    assert played.authors(".1.1") == ["agent", "tool", "runtime", "user"]
    assert played.episode.turns == 1


def timeless(event: Event) -> Event:
    if isinstance(event, EpisodeStarted | Episode):
        return replace(event, at=0.0)
    if isinstance(event, BranchAdded):
        calls: tuple[CallRecord, ...] = tuple(replace(call, seconds=0.0) for call in event.tool_calls)
        return replace(event, at=0.0, tool_calls=calls)
    return event


ORDERS: tuple[Callable[[str], int], ...] = (
    lambda path: 0,
    lambda path: len(path) + path.count("L") * 3,
    lambda path: path.count("R") * 5,
)


async def test_one_seed_gives_one_tree_in_whatever_order_the_branches_run() -> None:
    async def plan(request: Act) -> Decision:
        rng = request.key.rng("agent", request.step)
        for _ in range(waits(request)):
            await anyio.lowlevel.checkpoint()
        if request.step < 2 and rng.random() < 0.5:
            return reach(request, rng.choice("abcdef"))
        return say(f"{rng.random()}")

    told: list[list[Event]] = []
    for order in ORDERS:

        def waits(request: Act, order: Callable[[str], int] = order) -> int:
            return order(request.key.path)

        played = await play(Josh(), Players(plan, goals=("a", "b", "c", "d")))
        told.append([timeless(event) for event in played.events])
    assert told[0] == told[1] == told[2]
    other = await play(Josh(), Players(plan, goals=("a", "b", "c", "d"), seed=8))
    assert [timeless(event) for event in other.events] != told[0]


async def test_the_wall_clock_ends_the_search_and_what_was_achieved_counts() -> None:
    async def plan(request: Act) -> Decision:
        if request.key.turn == 2:
            await anyio.sleep_forever()
        return reach(request, "a") if request.step == 0 else say()

    played = await play(Josh(limits=Limits(wall_seconds=0.2)), Players(plan, goals=("a", "b")))
    assert (played.episode.outcome, played.episode.reward) == ("time_limit", 0.5)
    assert played.outcomes == {".0": None, "L.1": "time_limit", "R.1": "dropped"}


async def test_tokens_end_a_leaf_in_order() -> None:
    played = await play(Josh(limits=Limits(tokens=20)), Players(lambda request: say(tokens=10)))
    assert (played.episode.outcome, played.episode.turns, played.episode.reward) == ("token_limit", 2, 0.0)


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"unforkable": ("tools `mcp`",)}, NotForkable, "tools `mcp` cannot be forked"),
        ({"deterministic": True}, UsageError, "temperature above 0"),
    ],
)
async def test_what_cannot_branch_is_refused_before_any_work(
    more: dict[str, Any], error: type[Exception], words: str
) -> None:
    recorder = MemoryRecorder()
    with pytest.raises(error, match=words):
        await play(Josh(), Players(lambda request: say(), **more), recorder=recorder)
    assert recorder.events == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"factor": 1}, "at least 2"),
        ({"beam": 0}, "at least 1"),
        ({"winner": "last"}, "`winner` is 'last'; choose one of: first, earliest, most_goals"),
        ({"branch_by": "token"}, "`branch_by` is 'token'; choose one of: turn, action"),
    ],
)
def test_a_search_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        BeamSearch(**values)


class Invented(ReachReward):
    async def score_turn(self, request: ScoreTurn) -> Any:
        return self.hits

    def __init__(self, hits: object) -> None:
        self.hits = hits


@pytest.mark.parametrize(
    ("hits", "words"),
    [
        ((Hit("z", "call"),), "reward `reach`, turn 1 of t1 at L: hit `z`, of which no copy remains"),
        ((Hit("a", "call"), Hit("a", "call")), "hit `a`, of which no copy remains"),
        (("a",), "ScoreTurn was answered with 'a'; return a Hit"),
        (None, "ScoreTurn was answered with None"),
    ],
)
async def test_a_reward_that_invents_goals_is_at_fault(hits: object, words: str) -> None:
    played = await play(Josh(), Players(lambda request: say(), reward=Invented(hits)))
    assert (played.episode.outcome, played.episode.reward, played.harvests) == ("reward_fault", None, [])
    assert words in str(played.episode.error)


async def test_a_user_that_fails_to_open_leaves_the_episode_unscored() -> None:
    def answer(request: Speak) -> UserTurn:
        raise RuntimeError("no words")

    played = await play(Josh(), Players(lambda request: say(), answer))
    assert (played.episode.outcome, played.episode.reward, played.episode.branches) == ("user_fault", None, 0)
    assert played.outcomes == {".0": "user_fault"}


class NoData(NoteTools):
    def start(self, request: StartTools) -> ToolsStart:
        raise DataMissing("no data here; run `simkit data toolwoz`")


async def test_missing_data_is_the_callers_business_and_no_fault() -> None:
    with pytest.raises(DataMissing, match="simkit data toolwoz"):
        await play(Josh(), Players(lambda request: say(), tools=NoData()))


class FullDisk(MemoryRecorder):
    async def commit(self) -> None:
        raise JournalFailed("no space left on device")


async def test_a_store_that_fails_ends_the_run_as_itself() -> None:
    with pytest.raises(JournalFailed):
        await play(Josh(), Players(lambda request: say()), recorder=FullDisk())


async def test_a_store_error_inside_a_branch_comes_out_as_itself() -> None:
    def plan(request: Act) -> Decision:
        raise JournalFailed("no space left on device")

    with pytest.raises(JournalFailed):
        await play(Josh(), Players(plan))


class CountingRecorder(MemoryRecorder):
    def __init__(self) -> None:
        super().__init__()
        self.committed = 0

    async def commit(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.committed = len(self.events)


async def test_cancelling_commits_what_was_recorded() -> None:
    recorder, third = CountingRecorder(), anyio.Event()

    async def plan(request: Act) -> Decision:
        if request.key.turn == 3:
            recorder.committed = 0
            third.set()
            await anyio.sleep_forever()
        return say()

    finished = False

    async def run() -> None:
        nonlocal finished
        await play(Josh(), Players(plan), recorder=recorder)
        finished = True

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        with anyio.fail_after(5):
            await third.wait()
        group.cancel_scope.cancel()
    assert not finished
    assert recorder.committed == len(recorder.events) > 0
    assert not any(isinstance(event, Episode) for event in recorder.events)


class Tally:
    def __init__(self) -> None:
        self.now = self.most = self.turns = self.goals = 0

    def live(self, change: int) -> None:
        self.now += change
        self.most = max(self.most, self.now)

    def turn(self) -> None:
        self.turns += 1

    def flag(self, flags: Sequence[str]) -> None:
        pass

    def hit(self, goals: int) -> None:
        self.goals += goals

    def fault(self, fault: Fault) -> None:
        pass


async def test_a_watch_is_left_with_no_live_leaf_when_time_is_up_or_the_store_fails() -> None:
    async def slow(request: Act) -> Decision:
        if request.key.turn == 2:
            await anyio.sleep_forever()
        return say()

    tally = Tally()
    played = await play(Josh(limits=Limits(wall_seconds=0.05)), Players(slow), watch=tally)
    assert (played.episode.outcome, tally.now) == ("time_limit", 0)
    assert tally.most > 0

    def failing(request: Act) -> Decision:
        if request.key.turn == 3:
            raise JournalFailed("no space left on device")
        return say()

    tally = Tally()
    with pytest.raises(JournalFailed):
        await play(Josh(), Players(failing), watch=tally)
    assert (tally.most, tally.now) == (4, 0)


async def test_a_watch_is_told_of_leaves_turns_and_goals() -> None:
    tally = Tally()
    played = await play(Josh(), Players(at({"LLL.4": "a"}), talkative), watch=tally)
    assert (tally.now, tally.most, tally.goals) == (0, 8, 1)
    assert tally.turns == played.episode.branches == 2 + 4 + 8 + 8
