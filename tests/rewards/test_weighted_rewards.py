"""Several rewards as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from simkit.components.reward import EpisodeReward, ExplainGoals, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.core.conversation import Conversation
from simkit.core.messages import ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import RewardFault, UsageError
from simkit.rewards.composite import Weighted, WeightedRewards

pytestmark = pytest.mark.anyio

TASK = Task(id="t", world="w", split="test", instructions="", goals=(Goal("a"), Goal("b", weight=3.0)))


class EveryGoal(Reward):
    """Credits the first remaining goal, at a given step."""

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self.asked: list[tuple[Goal, ...]] = []

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        self.asked.append(request.remaining)
        return tuple(Hit(goal.key, "seen", self.step) for goal in request.remaining[:1])


class Polite(Reward):
    """A reward without goals, given at the end."""

    def goals(self, task: Task) -> tuple[Goal, ...]:
        return ()

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        assert request.goals == ()
        assert request.achieved == ()
        return EpisodeReward(0.5, (RewardPart("thanks", 0.5),))


def turn(remaining: tuple[Goal, ...]) -> ScoreTurn:
    return ScoreTurn(TASK, remaining, (), Conversation())


def episode(goals: tuple[Goal, ...], *achieved: Hit) -> ScoreEpisode:
    return ScoreEpisode(TASK, goals, achieved, (), Conversation(), None)


async def test_goals_carry_their_parts_name_and_weight() -> None:
    reward = WeightedRewards.of({"calls": (EveryGoal(), 2.0), "polite": Polite()})
    assert [(goal.key, goal.weight) for goal in reward.goals(TASK)] == [("calls/a", 0.5), ("calls/b", 1.5)]


async def test_a_part_is_asked_about_its_own_goals_as_it_knows_them() -> None:
    first, second = EveryGoal(step=1), EveryGoal(step=0)
    reward = WeightedRewards(Weighted("one", first, 5.0), Weighted("two", second))
    found = await reward.score_turn(turn(reward.goals(TASK)))
    assert first.asked == second.asked == [TASK.goals]
    assert found == (Hit("two/a", "seen", 0), Hit("one/a", "seen", 1))
    assert await reward.score_turn(turn(())) == ()


async def test_an_episode_is_the_weighted_mean_of_the_parts() -> None:
    reward = WeightedRewards.of({"calls": (EveryGoal(), 3.0), "polite": (Polite(), 1.0)})
    goals = reward.goals(TASK)
    scored = await reward.score_episode(episode(goals, Hit("calls/b", "c7")))
    assert scored.value == pytest.approx(0.75 * 0.75 + 0.25 * 0.5)
    assert [(part.name, part.value) for part in scored.parts] == [
        ("calls", 0.75),
        ("calls/a", 0.0),
        ("calls/b", 1.0),
        ("polite", 0.5),
        ("polite/thanks", 0.5),
    ]
    assert [part.weight for part in scored.parts if "/" not in part.name] == [0.75, 0.25]


async def test_names_that_begin_alike_are_kept_apart() -> None:
    short, long = EveryGoal(), EveryGoal()
    reward = WeightedRewards.of({"goal": short, "goals": long})
    await reward.score_turn(turn(tuple(goal for goal in reward.goals(TASK) if goal.key.startswith("goals/"))))
    assert (short.asked, long.asked) == ([()], [TASK.goals])


async def test_compositions_nest() -> None:
    inner = WeightedRewards.of({"x": EveryGoal()})
    outer = WeightedRewards.of({"in": inner, "polite": Polite()})
    goals = outer.goals(TASK)
    assert [goal.key for goal in goals] == ["in/x/a", "in/x/b"]
    found = await outer.score_turn(turn(goals))
    assert [hit.goal for hit in found] == ["in/x/a"]
    assert (await outer.score_episode(episode(goals, *found))).value == pytest.approx(0.5 * 0.25 + 0.5 * 0.5)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "at least one"),
        ([Weighted("a", Polite()), Weighted("a", Polite())], "called `a`"),
        ([Weighted("a/b", Polite())], "without `/`"),
        ([Weighted("", Polite())], "cannot name"),
        ([Weighted("a", Polite(), 0.0)], "above 0"),
        ([Weighted("a", Polite(), float("nan"))], "above 0"),
    ],
)
async def test_a_composition_that_cannot_be_is_refused(parts: list[Weighted], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        WeightedRewards(*parts)


class TwoCopies(EveryGoal):
    """Two copies of one goal that differ in detail and weight."""

    def goals(self, task: Task) -> tuple[Goal, ...]:
        return (Goal("a", {"day": "friday"}), Goal("a", {"day": "monday"}, weight=3.0))


async def test_copies_of_a_goal_are_given_back_as_the_part_knows_them() -> None:
    part = TwoCopies()
    reward = WeightedRewards.of({"in": part, "other": (EveryGoal(), 4.0)})
    own = [goal for goal in reward.goals(TASK) if goal.key == "in/a"]
    assert [goal.weight for goal in own] == [0.25, 0.75]
    await reward.score_turn(turn((own[1],)))
    await reward.score_turn(turn(tuple(own)))
    assert part.asked == [part.goals(TASK)[1:], part.goals(TASK)]


async def test_a_goal_the_part_does_not_know_is_handed_on_under_its_own_name() -> None:
    part = EveryGoal()
    await WeightedRewards.of({"in": part}).score_turn(turn((Goal("in/new", {"x": 1}, weight=0.5),)))
    assert part.asked == [(Goal("new", {"x": 1}, weight=0.5),)]


async def test_what_is_given_without_a_weight_weighs_one() -> None:
    for reward in (
        WeightedRewards.of({"one": EveryGoal(), "three": (EveryGoal(), 3.0)}),
        WeightedRewards(Weighted("one", EveryGoal()), Weighted("three", EveryGoal(), 3.0)),
    ):
        scored = await reward.score_episode(episode(reward.goals(TASK)))
        assert [part.weight for part in scored.parts if "/" not in part.name] == [0.25, 0.75]
    assert reward.name == "weighted"


class Signed(Polite):
    """A reward with a range of its own."""

    def __init__(self, low: float, high: float) -> None:
        self.range = (low, high)


async def test_the_range_is_the_mean_of_the_parts_ranges_by_weight() -> None:
    reward = WeightedRewards.of({"signed": (Signed(-2.0, 4.0), 3.0), "polite": (Polite(), 1.0)})
    assert reward.range == (-1.5, 3.25)
    assert WeightedRewards.of({"a": Signed(1.0, 4.0), "b": Signed(3.0, 5.0)}).range == (2.0, 4.5)


class Limited(Polite):
    """A reward that takes few requests and conversations at once, and knows one tool."""

    def __init__(self, concurrency: int | None, sessions: int | None, tool: str = "") -> None:
        self.concurrency, self.sessions, self.tool = concurrency, sessions, tool

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        if self.tool not in [tool.name for tool in tools]:
            raise UsageError(f"the task `{task.id}` has no `{self.tool}`")


def test_the_tightest_limit_of_a_part_is_that_of_the_composition() -> None:
    reward = WeightedRewards.of({"a": Limited(3, None), "b": Limited(2, 5), "c": Limited(4, 6), "d": Polite()})
    assert (reward.concurrency, reward.sessions) == (2, 5)
    assert WeightedRewards.of({"a": Polite()}).concurrency is None


def test_a_composition_judges_ends_if_a_part_does() -> None:
    end = Polite()
    end.final = True
    assert WeightedRewards.of({"a": Polite(), "b": end}).final
    assert not WeightedRewards.of({"a": Polite()}).final


def test_every_part_checks_a_task() -> None:
    reward = WeightedRewards.of({"a": Limited(1, 1, "book"), "b": Limited(1, 1, "pay")})
    reward.check_task(TASK, [ToolSpec.of(name, "", {}) for name in ("book", "pay")])
    with pytest.raises(UsageError, match="the task `t` has no `pay`"):
        reward.check_task(TASK, [ToolSpec.of("book", "", {})])


class Replies(Reward):
    """Answers one question with what it was given, the others with nothing."""

    def __init__(self, question: str, reply: Any) -> None:
        self.reply = {question: reply}

    def goals(self, task: Task) -> tuple[Goal, ...]:
        return self.reply.get("goals", ())

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        return self.reply.get("score_turn", ())

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        return self.reply.get("score_episode", EpisodeReward(0.0))

    async def explain_goals(self, request: ExplainGoals) -> Mapping[str, str]:
        return self.reply.get("explain_goals", {})


@pytest.mark.parametrize(
    ("question", "reply", "wrong"),
    [
        ("goals", [Goal("a")], r"a list .*; give a tuple"),
        ("score_turn", (Hit("a", "seen", -1),), "a hit in the step -1"),
        ("score_episode", EpisodeReward(1.5), "an EpisodeReward of 1.5"),
        ("score_episode", 0.5, r"0\.5; return a EpisodeReward"),
        ("explain_goals", {"a": 1}, "an explanation 1; give a plain text"),
    ],
)
async def test_a_parts_wrong_reply_is_a_fault_that_names_the_part_and_the_question(
    question: str, reply: object, wrong: str
) -> None:
    reward = WeightedRewards.of({"fine": EveryGoal(), "odd": Replies(question, reply)})
    said = rf"the part `odd` of a weighted reward: {question} was answered with .*{wrong}"

    async def score() -> None:
        await reward.score_turn(turn(()))
        await reward.score_episode(episode(()))
        await reward.explain_goals(ExplainGoals(episode(()), (Goal("odd/a"),)))

    with pytest.raises(RewardFault, match=said):
        await score()
