"""What a search reports while it plays (`Watch`), and the explanations of missed goals that it records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from phones import phones, press
from players import Played, Players, ReachReward, play, reach, say, use

from simkit.components.agent import Act, Decision
from simkit.components.reward import EpisodeReward, ExplainGoals, ScoreEpisode
from simkit.components.user import Speak, UserTurn
from simkit.core.events import BranchExtended, FaultTraced, GoalsExplained
from simkit.errors import ContextTooLong, Fault
from simkit.recipes.best_of_n import BestOfN
from simkit.search.base import NoWatch, Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio


class Notes(NoWatch):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.lives: list[int] = []
        self.faults: list[str] = []
        self.flags: list[str] = []
        self.hits: list[int] = []

    def hit(self, goals: int) -> None:
        self.hits.append(goals)

    def live(self, change: int) -> None:
        self.lives.append(change)

    def fault(self, fault: Fault) -> None:
        self.faults.append(fault.component)

    def flag(self, flags: Sequence[str]) -> None:
        self.flags += flags


def two_turns(request: Speak) -> UserTurn:
    return UserTurn(f"user {request.key.turn}", end=request.key.turn == 2)


SEARCHES = pytest.mark.parametrize(
    "search", [Rollout(), BestOfN(n=1), Josh(BeamSearch(beam=1))], ids=["rollout", "best_of_n", "josh"]
)


@SEARCHES
async def test_doubts_are_recorded_with_their_messages_and_counted_once(search: Search) -> None:
    def answer(request: Speak) -> UserTurn:
        return UserTurn("Goodbye.", end=True, flags=("left",)) if request.key.turn == 1 else UserTurn("Hello.")

    notes = Notes()
    played = await play(search, Players(lambda request: say(flags=("unsure",)), answer), watch=notes)
    assert notes.flags == ["unsure", "left"]
    rows = [row for added in played.branches.values() for row in added.messages]
    rows += [row for event in played.events if isinstance(event, BranchExtended) for row in event.messages]
    assert [(row.author, row.flags) for row in rows if row.flags] == [("agent", ("unsure",)), ("user", ("left",))]


@SEARCHES
async def test_doubts_and_goals_of_the_users_calls_are_counted(search: Search) -> None:
    def answer(request: Speak) -> UserTurn:
        match request.key.turn, request.step:
            case (1, 0):
                return press(request, ("set", "u1"), ("set", "u2"), flags=("unsure",))
            case (2, 0):
                return press(request, ("look", ""))
            case (turn, _):
                return UserTurn(f"user {turn}", end=turn == 2)

    notes = Notes()
    played = await play(search, phones(answer, goals=("u1", "u2", "u3")), watch=notes)
    assert played.episode.outcome == "user_ended"
    assert (notes.flags, notes.hits) == (["unsure"], [2])


@SEARCHES
async def test_messages_without_doubts_are_counted_nowhere(search: Search) -> None:
    notes = Notes()
    await play(search, Players(lambda request: say(), two_turns), watch=notes)
    assert notes.flags == []


def broken(request: Any) -> Any:
    raise RuntimeError("out of order")


def broken_later(request: Speak) -> UserTurn:
    return broken(request) if request.key.turn else UserTurn("Hello.")


class Broken(ReachReward):
    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        raise RuntimeError("out of order")


@SEARCHES
@pytest.mark.parametrize(
    ("players", "component"),
    [
        (Players(broken), "agent"),
        (Players(lambda request: say(), broken), "user"),
        (Players(lambda request: say(), broken_later), "user"),
        (Players(lambda request: use(request, ("broken", ""))), "tool"),
        (Players(lambda request: say(end=True), reward=Broken()), "reward"),
        (Players(lambda request: say(), start=broken), "agent"),
    ],
    ids=["agent", "opening", "user", "tool", "reward", "start"],
)
async def test_a_fault_is_reported_and_traced_once(search: Search, players: Players, component: str) -> None:
    notes = Notes()
    played = await play(search, players, watch=notes)
    traced = [event for event in played.events if isinstance(event, FaultTraced)]
    assert notes.faults == [component]
    assert [event.component for event in traced] == [component]


@pytest.mark.parametrize(
    "search", [Rollout(), BestOfN(n=1), BestOfN(n=3)], ids=["rollout", "one of one", "best of three"]
)
async def test_a_live_branch_is_counted_while_it_is_played(search: Search) -> None:
    notes = Notes()

    def plan(request: Act) -> Decision:
        assert sum(notes.lives) >= 1
        return say()

    played = await play(search, Players(plan, two_turns), watch=notes)
    assert played.episode.outcome == "user_ended"
    arms = search.n if isinstance(search, BestOfN) else 1
    assert sorted(notes.lives) == [-1] * arms + [1] * arms


class Explaining(ReachReward):
    """Explains missed goals, or does what it is given instead."""

    def __init__(self, answer: Callable[[ExplainGoals], Mapping[str, str]] | None = None) -> None:
        self.missed: list[tuple[str, ...]] = []
        self._answer = answer

    async def explain_goals(self, request: ExplainGoals) -> Mapping[str, str]:
        self.missed.append(tuple(goal.key for goal in request.missed))
        return (
            {goal.key: f"{goal.key}: no" for goal in request.missed} if self._answer is None else self._answer(request)
        )


async def explained(reward: Explaining, goals: Sequence[str], reached: Sequence[str]) -> Played:
    def plan(request: Act) -> Decision:
        return reach(request, *reached) if request.step == 0 and reached else say(end=True)

    return await play(Rollout(), Players(plan, goals=goals, reward=reward))


def explanations(played: Played) -> list[dict[str, str]]:
    return [
        dict(zip(event.missed, event.explanations, strict=True))
        for event in played.events
        if isinstance(event, GoalsExplained)
    ]


@pytest.mark.parametrize(
    ("goals", "reached", "missed"),
    [
        (("a", "b", "c"), ("b",), ("a", "c")),
        (("a", "b"), (), ("a", "b")),
        (("a", "a"), ("a",), ("a",)),
        (("a", "b", "a"), ("a", "b"), ("a",)),
    ],
)
async def test_missed_goals_are_explained_by_the_reward(
    goals: tuple[str, ...], reached: tuple[str, ...], missed: tuple[str, ...]
) -> None:
    reward = Explaining()
    played = await explained(reward, goals, reached)
    assert reward.missed == [missed]
    assert explanations(played) == [{key: f"{key}: no" for key in missed}]


async def test_an_episode_that_reached_its_goals_asks_for_no_explanation() -> None:
    reward = Explaining()
    assert explanations(await explained(reward, ("a", "a"), ("a", "a"))) == []
    assert reward.missed == []


async def test_a_reward_without_an_explanation_records_none() -> None:
    assert explanations(await explained(Explaining(lambda request: {}), ("a",), ())) == []


async def test_an_episode_without_a_score_or_scored_as_failed_is_not_explained() -> None:
    class Unscored(Explaining):
        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            raise RuntimeError("out of order")

    def full(request: Act) -> Decision:
        raise ContextTooLong("8200 tokens, the model reads 8192")

    unscored, failed = Unscored(), Explaining()
    assert (await explained(unscored, ("a",), ())).episode.outcome == "reward_fault"
    played = await play(Rollout(), Players(full, reward=failed))
    assert (played.episode.outcome, played.episode.reward) == ("context_limit", 0.0)
    assert (unscored.missed, failed.missed) == ([], [])


async def test_an_explanation_that_fails_costs_only_itself() -> None:
    notes = Notes()

    def fails(request: ExplainGoals) -> Mapping[str, str]:
        raise LookupError("no words")

    players = Players(lambda request: say(end=True), reward=Explaining(fails))
    played = await play(Rollout(), players, watch=notes)
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("agent_ended", 0.0, 0)
    assert explanations(played) == []
    (event,) = [event for event in played.events if isinstance(event, FaultTraced)]
    assert (event.component, "no words" in event.traceback) == ("reward", True)
