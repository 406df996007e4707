"""Goals of worlds from files: what a turn reaches, with which evidence, and what an episode is worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from simkit.components.reward import EpisodeReward, Hit, RewardPart, ScoreEpisode, ScoreTurn
from simkit.components.tools import ToolServer
from simkit.components.world import Check, World
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.models.base import CallKey, ChatRequest
from simkit.models.providers.scripted import ScriptedModel
from simkit.rewards.task_goals import TaskGoals

pytestmark = pytest.mark.anyio

KEY = TurnKey(7, "t", 0, "", 1)
POLITE, BRIEF = Goal("polite", {"rubric": "It is polite."}), Goal("brief", {"rubric": "It is brief."})
PAID = Goal("paid", {"state": {"orders": ["paid"]}})
TALK = Conversation([Entry.user("Hello.", 0), Entry.agent("Good morning.", 1)])


class States(World):
    """States are sets of the goals that hold in them."""

    name = "states"
    splits = ("test",)

    def tasks(self, split: str) -> Sequence[Task]:
        return ()

    def tools(self) -> ToolServer:
        raise NotImplementedError

    @property
    def ontology(self) -> Ontology:
        return Ontology(())

    def holds(self, check: Check, state: Any) -> bool:
        return check.name in state


def told(key: str, text: str) -> Goal:
    return Goal(key, {"told": text})


def call(id: str, tool: str, value: Any = None, step: int = 0, **arguments: Any) -> CallRecord:
    return CallRecord.of(ToolCall.of(id, tool, arguments), ToolResult(value=value or {"success": True}), step)


def judging(asked: list[str]) -> ScriptedModel:
    """A judge that finds every criterion met, and keeps its prompts."""

    def answer(request: ChatRequest, key: CallKey) -> str:
        asked.append(str(request.messages[0].content))
        names = ("polite", "brief", "a_b", "a_b_")
        return json.dumps({name: {"reason": f"because {name}", "met": True} for name in names})

    return ScriptedModel(answer)


def task_of(*goals: Goal) -> Task:
    return Task(id="t", world="w", split="test", instructions="", goals=goals)


async def reached(
    reward: TaskGoals,
    *goals: Goal,
    calls: tuple[CallRecord, ...] = (),
    talk: Conversation = TALK,
    state: object = frozenset[str](),
    remaining: tuple[Goal, ...] | None = None,
) -> tuple[Hit, ...]:
    left = goals if remaining is None else remaining
    return await reward.score_turn(ScoreTurn[Any](task_of(*goals), left, calls, talk, state, KEY))


async def scored(
    reward: TaskGoals, *goals: Goal, achieved: tuple[Hit, ...] = (), state: object = frozenset[str]()
) -> EpisodeReward:
    return await reward.score_episode(ScoreEpisode[Any](task_of(*goals), goals, achieved, (), TALK, state, key=KEY))


def test_a_tool_that_there_is_not_is_refused_with_those_there_are() -> None:
    tools = [ToolSpec.of(name, "", {}) for name in ("pay", "book", "find")]
    reward = TaskGoals(States())
    reward.check_task(task_of(Goal("a", {"tool": "book", "parameters": {}}), PAID), tools)
    wrong = task_of(Goal("a", {"tool": "fly", "parameters": {}}))
    with pytest.raises(UsageError, match=r"the goal `a` .* names the tool `fly`; there are: book, find, pay$"):
        reward.check_task(wrong, tools)
    with pytest.raises(UsageError, match=r"there are: no tools$"):
        reward.check_task(wrong, [])


async def test_a_state_is_reached_by_a_turn_with_calls_and_its_last_call_is_the_evidence() -> None:
    reward = TaskGoals(States())
    calls = (call("c1", "pay", step=1), call("c2", "find", step=2))
    assert await reached(reward, PAID, calls=calls, state={"paid"}) == (Hit("paid", "c2", 2),)
    assert await reached(reward, PAID, calls=calls) == ()
    assert await reached(reward, PAID, state={"paid"}) == ()


async def test_what_is_told_is_looked_for_in_the_last_text_of_the_agent() -> None:
    reward, wanted = TaskGoals(States()), told("price", "30")
    asks = AssistantMessage.of(None, (ToolCall.of("c1", "find", {}),))
    says, plans = Entry.agent("It costs 30 pounds.", 1), Entry(asks, "agent", turn=1)
    hit = (Hit("price", "It costs 30 pounds."),)
    assert await reached(reward, wanted, talk=Conversation([says])) == hit
    assert await reached(reward, wanted, talk=Conversation([Entry.agent("Hello.", 1), says, plans])) == hit
    assert await reached(reward, wanted, talk=Conversation([says, Entry.user("Fine.", 1)])) == hit
    assert await reached(reward, wanted, talk=Conversation([says, Entry.agent("Goodbye.", 2)])) == ()
    assert await reached(reward, wanted, talk=Conversation([Entry.user("Is it 30?", 0)])) == ()
    assert await reached(reward, wanted, talk=Conversation([Entry.agent("It costs 300.", 1)])) == ()


async def test_the_evidence_of_what_was_told_is_200_characters_with_the_step_of_the_last_call() -> None:
    text = "thirty " + "x" * 192 + "yz"
    talk = Conversation([Entry.agent(text, 1)])
    found = await reached(TaskGoals(States()), told("price", "thirty"), talk=talk, calls=(call("c1", "find", step=3),))
    assert found == (Hit("price", "thirty " + "x" * 192 + "y", 3),)


async def test_one_call_reaches_one_copy_of_each_goal_in_the_order_of_the_task() -> None:
    pay, pay_in_cash = Goal("pay", {"tool": "pay", "parameters": {}}), Goal("cash", {"tool": "pay", "parameters": {}})
    goals = (pay, PAID, pay_in_cash, pay)
    reward = TaskGoals(States())
    assert await reached(reward, *goals, calls=(call("c1", "pay"),)) == (Hit("pay", "c1"), Hit("cash", "c1"))
    both = (call("c1", "pay"), call("c2", "pay", step=1))
    assert await reached(reward, *goals, calls=both) == (Hit("pay", "c1"), Hit("cash", "c1"), Hit("pay", "c2", 1))


async def test_a_search_has_to_find_the_entity_of_its_goal() -> None:
    elm = Goal("find", {"tool": "find", "parameters": {"area": "north"}, "id_field": "name", "entity": "Elm"})
    for name, hits in (("Elm", (Hit("find", "c1"),)), ("Oak", ())):
        found = await reached(TaskGoals(States()), elm, calls=(call("c1", "find", [{"name": name}], area="north"),))
        assert found == hits


async def test_only_the_remaining_rubrics_are_judged_after_a_turn() -> None:
    asked: list[str] = []
    reward = TaskGoals(States(), judging(asked), goals=True)
    assert await reached(reward, POLITE, PAID, BRIEF, remaining=(PAID, BRIEF)) == (Hit("brief", "because brief"),)
    assert len(asked) == 1
    assert "It is brief." in asked[0]
    assert "It is polite." not in asked[0]


async def test_no_judge_is_asked_after_a_turn_without_a_rubric_and_none_has_to_be_there() -> None:
    asked: list[str] = []
    assert await reached(TaskGoals(States(), judging(asked), goals=True), POLITE, PAID, remaining=(PAID,)) == ()
    assert await reached(TaskGoals(States(), judging(asked)), POLITE) == ()
    assert asked == []
    assert await reached(TaskGoals(States(), goals=True), POLITE) == ()


async def test_an_episode_is_worth_the_share_of_its_goals() -> None:
    pay = Goal("pay", {"tool": "pay", "parameters": {}}, 2.0)
    price, lost = told("price", "30"), Goal("lost", {"state": {"orders": ["lost"]}})
    achieved = (Hit("price", "It costs 30."), Hit("pay", "c1"))
    found = await scored(TaskGoals(States()), pay, price, pay, PAID, lost, achieved=achieved, state={"paid"})
    assert found == EpisodeReward(
        4 / 7,
        (
            RewardPart("pay", 1.0, 2.0, "c1"),
            RewardPart("price", 1.0, 1.0, "It costs 30."),
            RewardPart("pay", 0.0, 2.0, ""),
            RewardPart("paid", 1.0, 1.0, "holds"),
            RewardPart("lost", 0.0, 1.0, "does not hold"),
        ),
    )


async def test_a_task_without_weights_is_worth_nothing() -> None:
    assert await scored(TaskGoals(States())) == EpisodeReward(0.0, ())
    free = Goal("paid", PAID.detail, 0.0)
    assert (await scored(TaskGoals(States()), free, state={"paid"})).value == 0.0


async def test_copies_of_a_rubric_are_one_question_and_names_that_look_alike_are_told_apart() -> None:
    asked: list[str] = []
    first, second = Goal("a b", {"rubric": "First."}), Goal("a_b", {"rubric": "Second."})
    found = await scored(TaskGoals(States(), judging(asked)), POLITE, first, second, POLITE)
    assert [(part.name, part.evidence) for part in found.parts] == [
        ("polite", "because polite"),
        ("a b", "because a_b"),
        ("a_b", "because a_b_"),
        ("polite", "because polite"),
    ]
    lines = [line for line in asked[0].splitlines() if line.startswith("- ")]
    assert lines == [
        "- polite (met or not): It is polite.",
        "- a_b (met or not): First.",
        "- a_b_ (met or not): Second.",
    ]
