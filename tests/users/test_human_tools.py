"""A person with tools, and users that follow a list with calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simkit.components.user import Speak, UserResult, UserTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import FunctionSpec, ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.testing import fixed_user
from simkit.users.human import HumanUser

pytestmark = pytest.mark.anyio

KEY = TurnKey(1, "t", 0, "", 1)
TASK = Task(id="t", world="w", split="test", instructions="Your phone is offline.")
SAID = Conversation([Entry.agent("Please turn data on.", 1)])
TOOLS = (
    ToolSpec.of("set_data", "Turn data on or off.\nMore.", {"on": {"type": "boolean"}, "mode": {"enum": ["4g"]}}),
    ToolSpec(type="function", function=FunctionSpec(name="look")),
)


def typing(*lines: str) -> tuple[HumanUser, list[str]]:
    left: Iterator[str] = iter(lines)
    shown: list[str] = []
    return HumanUser(read=lambda prompt: next(left), write=shown.append), shown


async def ask(user: HumanUser, state: int | None = 0, *results: UserResult) -> UserTurn[int]:
    return await user.speak(Speak(KEY, TASK, SAID, state, TOOLS, results, len(results)))


async def test_a_person_sees_the_tools_and_calls_them_by_a_line() -> None:
    user, shown = typing('/set_data {"on": true}')
    turn = await ask(user, None)
    assert (turn.text, turn.end) == ("", False)
    (call,) = turn.calls
    assert (call.id, call.name, call.parse_arguments()) == ("user_1_0", "set_data", {"on": True})
    assert '  /set_data {"on": "boolean", "mode": ["4g"]}   Turn data on or off.\n  /look\n' in shown[0]
    assert shown[1] == "agent: Please turn data on.\n"


async def test_a_person_sees_results_and_then_speaks() -> None:
    user, shown = typing("/look", "It is on.")
    call = await ask(user)
    result = UserResult(call.calls[0], ToolResult(value="on\nagent: hang up"))
    turn = await ask(user, call.state, result)
    assert (turn.text, turn.calls) == ("It is on.", ())
    assert shown == ["agent: Please turn data on.\n", "look: on\n      agent: hang up\n"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/dance", "there is no tool `dance`; /tools lists yours\n"),
        ("/set_data on", "the arguments are no JSON (Expecting value: line 1 column 1 (char 0)); write them as in"),
        ("/set_data [1]", "the arguments are no JSON object; write them as in /set_data {}\n"),
        ("/tools", "  /look\n"),
    ],
)
async def test_a_line_that_calls_nothing_is_explained_and_asked_again(line: str, says: str) -> None:
    user, shown = typing(line, "Sorry.")
    assert (await ask(user)).text == "Sorry."
    assert says in shown[-1]


async def test_without_tools_a_slash_is_a_word() -> None:
    user, shown = typing("/look")
    turn = await user.speak(Speak(KEY, TASK, Conversation(), None))
    assert (turn.text, turn.calls) == ("/look", ())
    assert "tools" not in shown[0]


async def test_a_greeting_of_the_world_is_shown_after_the_briefing() -> None:
    user, shown = typing("Hello.")
    said = Conversation([Entry.agent("Hi!", 0), Entry.user("Yes?", 0), Entry.agent("Hi!", 0)])
    turn = await user.speak(Speak(TurnKey(1, "t", 0, "", 0), TASK, said, None))
    assert "Your phone is offline." in shown[0]
    assert shown[1] == "agent: Hi!\nyou: Yes?\nagent: Hi!\n"
    assert turn.state == 4


async def test_a_fixed_user_calls_from_its_list() -> None:
    user = fixed_user(["Hello.", ("look", {"x": 1}), UserTurn("It is on.", flags=("unsure",)), "Bye."])
    turns: list[UserTurn] = []
    for _ in range(4):
        state = turns[-1].state if turns else None
        turns.append(await user.speak(Speak(KEY, TASK, SAID, state, TOOLS)))
    assert [turn.text for turn in turns] == ["Hello.", "", "It is on.", "Bye."]
    assert turns[1].calls == (ToolCall.of("user_1", "look", {"x": 1}),)
    assert [turn.end for turn in turns] == [False, False, False, True]
    assert turns[2].flags == ("unsure",)


@pytest.mark.parametrize("last", [("look", {}), UserTurn.call(ToolCall.of("u", "look", {}))])
def test_a_fixed_user_ends_with_words(last: UserTurn) -> None:
    with pytest.raises(UsageError, match="the last line of a fixed user is a call"):
        fixed_user(["Hello.", last])
