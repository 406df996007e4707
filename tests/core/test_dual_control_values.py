"""The values of dual control: tools of the user, openings, limits of errors and messages, and what a good end is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simkit.components import checks
from simkit.components.tools import CallTool, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserResult, UserTurn
from simkit.components.world import Check, Expected, ExpectedCall, World
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.limits import USER_STEPS, Limits, Spent
from simkit.core.messages import AssistantMessage, FunctionSpec, ToolCall, ToolMessage, ToolResult, ToolSpec
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Task
from simkit.errors import UsageError, WrongValue
from simkit.store.columns import columns_of

TASK = Task(id="t", world="w", split="test", instructions="")
CALL = ToolCall.of("u1", "toggle_data", {"on": True})


def spec(name: str) -> ToolSpec:
    return ToolSpec(type="function", function=FunctionSpec(name=name))


# --- entries ----------------------------------------------------------------------------------------------------------


def test_the_agent_sees_nothing_of_the_users_tools() -> None:
    before = Conversation([Entry.user("My phone is offline.", 0), Entry.agent("Please turn on data.", 1)])
    called = before.append(Entry(AssistantMessage.of(None, (CALL,)), "user_tool", 1))
    after = called.append(Entry(ToolMessage.of("u1", "on"), "user_tool", 1))
    assert after.messages() == before.messages()
    assert after.digest == before.digest
    assert after.heard() == before.heard()
    said = Entry.user("Done.", 1)
    assert after.append(said).messages() == before.append(said).messages()
    assert after.append(said).digest == before.append(said).digest


# --- requests and replies ---------------------------------------------------------------------------------------------


def test_calls_are_the_agents_unless_they_say_otherwise() -> None:
    result = ToolResult(value="on")
    assert CallTool(TASK, CALL, None).by == "agent"
    assert CallRecord.of(CALL, result).by == "agent"
    assert CallRecord.of(CALL, result, by="user").by == "user"
    assert CallRecord.of(CALL, result, by="user").parameters == {"on": True}
    assert not columns_of(CallRecord)["by"].needed


def test_users_get_no_tools_unless_the_world_has_some() -> None:
    request = Speak(TurnKey(1, "t", 0, "", 1), TASK, Conversation(), None)
    assert (request.tools, request.results, request.step) == ((), (), 0)
    start = ToolsStart(())
    assert (start.user_specs, start.opening, start.solo) == ((), (), False)
    assert not User.calls_tools
    assert UserResult(CALL, ToolResult(value="on")).call is CALL


def test_a_user_calls_or_speaks() -> None:
    turn = UserTurn[int].call(CALL, state=3)
    assert (turn.calls, turn.text, turn.end, turn.state) == ((CALL,), "", False, 3)
    assert checks.user_turn(turn) is turn
    for both in (replace(turn, text="Done."), replace(turn, end=True)):
        with pytest.raises(WrongValue, match="calls tools and speaks or ends"):
            checks.user_turn(both)


@pytest.mark.parametrize("calls", [[CALL], ("toggle_data",), CALL])
def test_calls_of_a_user_are_tool_calls(calls: Any) -> None:
    with pytest.raises(WrongValue, match="a UserTurn with the calls"):
        checks.user_turn(UserTurn("", calls=calls))


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (ToolsStart((), user_specs=(spec("a"), spec("a"))), "the user's specs, of which two are called 'a'"),
        (ToolsStart((spec("a"), spec("a"))), "the specs, of which two are called 'a'"),
        (ToolsStart((), user_specs=(spec("a"),), solo=True), "`solo` and has tools for a user"),
        (ToolsStart((), opening=(Entry.system("Be brief."),)), "an entry by 'system'"),
        (ToolsStart((), opening=(Entry.user("Hello", 1),)), "an entry of turn 1, step 0"),
        (ToolsStart((), opening=(Entry.agent("Hello", 0, 2),)), "an entry of turn 0, step 2"),
    ],
)
def test_a_start_that_contradicts_itself_is_refused(start: ToolsStart, says: str) -> None:
    with pytest.raises(WrongValue, match=says):
        checks.tools_start(start)


@pytest.mark.parametrize("wrong", [{"solo": 1}, {"opening": ("Hello",)}, {"opening": []}, {"user_specs": ["a"]}])
def test_a_start_of_other_types_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WrongValue, match="a ToolsStart with"):
        checks.tools_start(ToolsStart((), **wrong))


def test_both_sides_may_have_a_tool_of_one_name() -> None:
    opening = (Entry.agent("Hello", 0), Entry(AssistantMessage.of(None, (CALL,)), "user_tool", 0))
    start = ToolsStart((spec("a"),), user_specs=(spec("a"),), opening=opening)
    assert checks.tools_start(start) is start


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["user_steps", "errors", "messages"])
def test_a_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is 0; it must be at least 1"):
        Limits(**{name: 0})


@pytest.mark.parametrize(
    ("spent", "outcome"),
    [
        (Spent(errors=2, messages=3), None),
        (Spent(errors=3), "error_limit"),
        (Spent(messages=4), "message_limit"),
        (Spent(errors=3, messages=4, turns=99), "error_limit"),
    ],
)
def test_errors_and_messages_end_a_conversation_anywhere(spent: Spent, outcome: str | None) -> None:
    limits = Limits(errors=3, messages=4, turns=50)
    assert spent.cut_off(limits) == outcome
    assert spent.exceeded(limits) == outcome
    assert spent.cut_off(Limits()) is None


def test_other_limits_do_not_cut_off() -> None:
    assert Spent(turns=99, tokens=9, decisions=9).cut_off(Limits(turns=1, tokens=1, decisions=1)) is None


def test_errors_and_messages_add_up() -> None:
    assert Spent(errors=1, messages=2).plus(errors=2, messages=3, turns=1) == Spent(turns=1, errors=3, messages=5)
    assert Limits().or_else(Limits(errors=5, user_steps=USER_STEPS)) == Limits(errors=5, user_steps=20)


# --- worlds -----------------------------------------------------------------------------------------------------------


class Phones(World):
    name = "phones"
    splits = ("test",)

    def tasks(self, split: str) -> tuple[Task, ...]:
        return ()

    def tools(self) -> ToolServer:
        raise NotImplementedError

    @property
    def ontology(self) -> Ontology:
        return Ontology(())


def test_an_end_needs_no_checks_calls_or_judge() -> None:
    expected = Expected("d")
    assert (expected.checks, expected.actions, expected.judged) == ((), (), ())
    assert expected.basis == ("state", "said")


def test_a_world_that_names_checks_has_to_evaluate_them() -> None:
    with pytest.raises(UsageError, match=r"names the check `online` .*override `holds` in the class `Phones`"):
        Phones().holds(Check("online"), None)


MADE = CallRecord.of(CALL, ToolResult(value="on"), by="user")


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (ExpectedCall("toggle_data", {"on": True}, by="user"), True),
        (ExpectedCall("toggle_data", {"on": True}), False),
        (ExpectedCall("toggle_wifi", {"on": True}, by="user"), False),
        (ExpectedCall("toggle_data", {"on": False}, by="user"), False),
        (ExpectedCall("toggle_data", {"on": True, "for": 3}, by="user"), False),
        (ExpectedCall("toggle_data", {"on": True, "for": 3}, ("on",), by="user"), True),
        (ExpectedCall("toggle_data", {"on": True, "for": 3}, ("on", "for"), by="user"), False),
        (ExpectedCall("toggle_data", {}, ("on",), by="user"), False),
        (ExpectedCall("toggle_data", {}, ("for",), by="user"), True),
        (ExpectedCall("toggle_data", {"on": False}, (), by="user"), True),
    ],
)
def test_an_expected_call_has_the_side_the_tool_and_the_arguments(expected: ExpectedCall, found: bool) -> None:
    assert Phones().matches(expected, MADE) is found


def test_a_call_without_readable_arguments_is_not_expected() -> None:
    broken = CallRecord.of(ToolCall.of("u1", "toggle_data", "{"), ToolResult(value="on"), by="user")
    assert not Phones().matches(ExpectedCall("toggle_data", {}, (), by="user"), broken)
