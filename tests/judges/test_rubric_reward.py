"""The reward by a rubric, with scripted judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simkit.components.reward import Hit, RewardPart, ScoreEpisode, ScoreTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.records import CallRecord, Side
from simkit.core.tasks import Goal, Task
from simkit.errors import ModelFault, RewardFault, UsageError
from simkit.models.base import CallKey, ChatRequest
from simkit.models.providers.scripted import ScriptedModel
from simkit.rewards.composite import WeightedRewards
from simkit.rewards.criteria import Criterion, Rubric, Verdict
from simkit.rewards.goal_calls import GoalCalls
from simkit.rewards.rubric import Judged, RubricReward
from simkit.testing.conformance import check_reward

pytestmark = pytest.mark.anyio

TASK = Task(id="t", world="w", split="test", instructions="I want a red bicycle.")
RUBRIC = Rubric.of("resolved (3): The customer got it.\npolite: The agent was polite.")
GRADED = Rubric.of("clear [1-5]: How clear.")
KEY = TurnKey(7, "t", 0, "L", 2)
TALK = Conversation([Entry.user("A bicycle?", 0), Entry.agent("Here you are.", 1)])


def episode(task: Task = TASK, key: TurnKey | None = KEY, talk: Conversation = TALK) -> ScoreEpisode[Any]:
    return ScoreEpisode(task, (), (), (), talk, None, "user_ended", key=key)


def verdicts(**met: bool) -> str:
    return json.dumps({name: {"reason": f"because {name}", "met": value} for name, value in met.items()})


def always(answer: str | Exception) -> ScriptedModel:
    return ScriptedModel(lambda request, key: answer)


def asked(script: Callable[[ChatRequest, CallKey], str]) -> tuple[ScriptedModel, list[tuple[ChatRequest, CallKey]]]:
    calls: list[tuple[ChatRequest, CallKey]] = []

    def answer(request: ChatRequest, key: CallKey) -> str:
        calls.append((request, key))
        return script(request, key)

    return ScriptedModel(answer), calls


async def test_the_reward_is_the_weighted_mean_and_keeps_the_reasons() -> None:
    found = await RubricReward(always(verdicts(resolved=True, polite=False)), rubric=RUBRIC).score_episode(episode())
    assert found.value == 0.75
    assert found.parts == (
        RewardPart("resolved", 1.0, 3.0, "because resolved"),
        RewardPart("polite", 0.0, 1.0, "because polite"),
    )


async def test_the_judge_is_shown_what_it_needs_and_asked_for_json() -> None:
    model, calls = asked(lambda request, key: verdicts(resolved=True, polite=True))
    await RubricReward(model, rubric=RUBRIC).score_episode(episode())
    ((request, key),) = calls
    prompt = str(request.messages[0].content)
    for part in ("I want a red bicycle.", "[1] user: A bicycle?", "resolved (met or not): The customer got it."):
        assert part in prompt
    assert request.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "verdict", "strict": True, "schema": RUBRIC.schema},
    }
    assert request.reusable
    assert (key.role, key.turn) == ("judge", KEY)


async def test_in_words_alone_no_format_is_sent() -> None:
    model, calls = asked(lambda request, key: verdicts(resolved=True, polite=True))
    await RubricReward(model, rubric=RUBRIC, form="text").score_episode(episode())
    assert calls[0][0].response_format is None


async def test_equal_contents_have_equal_requests_wherever_they_are_judged() -> None:
    model, calls = asked(lambda request, key: verdicts(resolved=True, polite=True))
    reward = RubricReward(model, rubric=RUBRIC)
    await reward.score_episode(episode())
    await reward.score_episode(episode(key=TurnKey(7, "t", 3, "R", 9)))
    await reward.score_episode(episode(talk=TALK.append(Entry.user("Thanks!", 1))))
    await reward.score_episode(episode(key=TurnKey(8, "t", 0, "L", 2)))
    seeds = [request.seed for request, _ in calls]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


async def test_an_answer_that_is_no_verdict_is_asked_for_again_with_another_seed() -> None:
    answers = iter(["Good.", verdicts(resolved=True), verdicts(resolved=True, polite=True)])
    model, calls = asked(lambda request, key: next(answers))
    assert (await RubricReward(model, rubric=RUBRIC).score_episode(episode())).value == 1.0
    assert len({request.seed for request, _ in calls}) == len({key.call for _, key in calls}) == 3


async def test_a_judge_without_a_verdict_is_a_fault_and_no_score() -> None:
    with pytest.raises(RewardFault, match=r"asked 3 times and gave no verdict.*begins 'Good\.'"):
        await RubricReward(always("Good."), rubric=RUBRIC).score_episode(episode())
    with pytest.raises(ModelFault, match="down"):
        await RubricReward(always(ModelFault("down")), rubric=RUBRIC).score_episode(episode())
    with pytest.raises(RewardFault, match="needs the key"):
        await RubricReward(always("{}"), rubric=RUBRIC).score_episode(episode(key=None))


async def test_the_majority_of_votes_decides_and_its_first_reason_is_kept() -> None:
    answers = iter([(False, "a"), (True, "b"), (True, "c")])

    def vote(request: ChatRequest, key: CallKey) -> str:
        met, why = next(answers)
        return json.dumps({"a": {"reason": why, "met": met}})

    found = await RubricReward(ScriptedModel(vote), rubric=Rubric.of("a: x"), votes=3).score_episode(episode())
    assert found.parts == (RewardPart("a", 1.0, 1.0, "2 of 3 votes: b"),)


async def test_grades_are_averaged_over_the_votes() -> None:
    answers = iter([5, 3, 4])
    model = ScriptedModel(lambda request, key: json.dumps({"clear": {"reason": "r", "grade": next(answers)}}))
    assert (await RubricReward(model, rubric=GRADED, votes=3).score_episode(episode())).value == pytest.approx(0.75)


@pytest.mark.parametrize(("at_least", "value"), [(0.5, 1.0), (0.75, 1.0), (0.8, 0.0), (1.0, 0.0)])
async def test_a_threshold_makes_the_reward_one_or_zero(at_least: float, value: float) -> None:
    reward = RubricReward(always(verdicts(resolved=True, polite=False)), rubric=RUBRIC, at_least=at_least)
    assert (await reward.score_episode(episode())).value == value


async def test_a_threshold_is_met_by_shares_that_are_not_exact() -> None:
    reward = RubricReward(
        always(verdicts(a=True, b=True, c=False)), rubric=Rubric.of("a (0.1): x\nb (0.5): x\nc (0.2): x"), at_least=0.75
    )
    assert (await reward.score_episode(episode())).value == 1.0


async def test_nothing_met_is_below_every_threshold() -> None:
    reward = RubricReward(always(verdicts(a=False)), rubric=Rubric.of("a: x"), at_least=1e-9)
    assert (await reward.score_episode(episode())).value == 0.0


def test_two_votes_that_differ_are_no_majority() -> None:
    judged = Judged(Criterion("a", "x"), (Verdict(1.0, "yes"), Verdict(0.0, "no")))
    assert (judged.value, judged.evidence) == (0.0, "1 of 2 votes: no")


async def test_a_prompt_of_your_own_has_a_place_for_the_conversation(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("Judge this: {{conversation}}")
    bad.write_text("Judge by {{criteria}}")
    model, calls = asked(lambda request, key: verdicts(resolved=True, polite=True))
    await RubricReward(model, rubric=RUBRIC, prompt=good).score_episode(episode())
    assert calls[0][0].messages[0].content == "Judge this: [1] user: A bicycle?\n[2] agent: Here you are."
    with pytest.raises(UsageError, match=r"has no place \{\{conversation\}\}"):
        RubricReward(model, rubric=RUBRIC, prompt=bad)


async def test_a_task_may_have_a_rubric_of_its_own() -> None:
    task = Task(id="own", world="w", split="test", instructions="", data={"rubric": "mine: Only this."})
    found = await RubricReward(always(verdicts(mine=True))).score_episode(episode(task))
    assert [part.name for part in found.parts] == ["mine"]


def test_mistakes_are_refused() -> None:
    model = always("")
    for options, told in (
        ({"votes": 2}, "odd number"),
        ({"votes": 0}, "odd number"),
        ({"votes": -1}, "odd number"),
        ({"at_least": 0.0}, "at_least is 0"),
        ({"at_least": 1.5}, "at_least is 1.5"),
    ):
        with pytest.raises(UsageError, match=told):
            RubricReward(model, rubric=RUBRIC, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"the task t has no rubric"):
        RubricReward(model).check_task(TASK, ())
    with pytest.raises(UsageError, match=r"all criteria of the task t are grades"):
        RubricReward(model, rubric=GRADED, goals=True).check_task(TASK, ())
    with pytest.raises(UsageError, match=r"rubric of the task t is not a text"):
        RubricReward(model).check_task(Task(id="t", world="w", split="s", instructions="", data={"rubric": 3}), ())


class Certain(ScriptedModel):
    deterministic = True


def test_votes_of_a_judge_that_does_not_vary_are_refused() -> None:
    certain = Certain(lambda request, key: "")
    with pytest.raises(UsageError, match=r"its 3 votes would be one; give it a temperature \(--judge-temperature"):
        RubricReward(certain, rubric=RUBRIC, votes=3)
    RubricReward(certain, rubric=RUBRIC)


# --- goals ------------------------------------------------------------------------------------------------------------


def turn(remaining: tuple[Goal, ...], calls: tuple[CallRecord, ...] = ()) -> ScoreTurn[Any]:
    return ScoreTurn(TASK, remaining, calls, TALK, None, KEY)


def made(step: int, by: Side = "agent") -> CallRecord:
    return CallRecord.of(ToolCall.of("c", "search", {}), ToolResult(value=None), step, by=by)


async def test_criteria_are_goals_if_asked_for_and_only_the_remaining_ones_are_judged() -> None:
    model, calls = asked(lambda request, key: verdicts(polite=True))
    reward = RubricReward(model, rubric=RUBRIC.plus(GRADED), goals=True)
    goals = reward.goals(TASK)
    assert goals == (
        Goal("resolved", {"criterion": "The customer got it."}, 3.0),
        Goal("polite", {"criterion": "The agent was polite."}, 1.0),
    )
    assert await reward.score_turn(turn(goals[1:])) == (Hit("polite", "because polite"),)
    assert "The customer got it" not in str(calls[0][0].messages[0].content)
    assert await reward.score_turn(turn(())) == ()
    assert len(calls) == 1


async def test_without_goals_no_turn_is_judged() -> None:
    model, calls = asked(lambda request, key: "")
    reward = RubricReward(model, rubric=RUBRIC)
    assert reward.goals(TASK) == ()
    assert await reward.score_turn(turn((Goal("polite"),))) == ()
    assert calls == []


async def test_a_goal_needs_all_votes() -> None:
    answers = iter([True, True, False, True, True, True])
    model = ScriptedModel(lambda request, key: verdicts(polite=next(answers)))
    reward = RubricReward(model, rubric=Rubric.of("polite: x"), goals=True, votes=3)
    goals = reward.goals(TASK)
    assert await reward.score_turn(turn(goals)) == ()
    assert await reward.score_turn(turn(goals)) == (Hit("polite", "3 of 3 votes: because polite"),)


@pytest.mark.parametrize(
    ("calls", "number", "step"),
    [
        ((), 3, 0),
        ((made(2),), 3, 2),
        ((made(0), made(1), made(4)), 3, 4),
        ((made(1, "user"),), 6, 1),
    ],
)
async def test_a_goal_is_reached_by_the_last_call_and_each_question_has_its_own_number(
    calls: tuple[CallRecord, ...], number: int, step: int
) -> None:
    """The end of the episode, the agent's turn and the user's answer to it have one key."""
    model, questions = asked(lambda request, key: verdicts(polite=True))
    reward = RubricReward(model, rubric=Rubric.of("polite: x"), goals=True)
    assert await reward.score_turn(turn(reward.goals(TASK), calls)) == (Hit("polite", "because polite", step),)
    await reward.score_episode(episode())
    assert [key.call for _, key in questions] == [number, 0]


async def test_it_composes_with_other_rewards() -> None:
    judged = RubricReward(always(verdicts(resolved=True, polite=False)), rubric=RUBRIC)
    both = WeightedRewards.of({"calls": (GoalCalls(), 3.0), "judged": judged})
    assert both.final
    found = await both.score_episode(episode())
    assert found.value == pytest.approx(0.25 * 0.75)
    assert "judged/polite" in [part.name for part in found.parts]


async def test_it_is_a_reward_as_the_contract_says() -> None:
    reward = RubricReward(always(verdicts(resolved=True, polite=True)), rubric=RUBRIC, goals=True)
    await check_reward(reward, [TASK])
