from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.core.messages import AssistantMessage, ToolCall, UserMessage
from simkit.models import ChatRequest, ChatResponse
from simkit.users.reply_formats import END_TOOL, GOODBYE, Ending, UserReply, form_of

ENDINGS: tuple[Ending, ...] = ("tool", "json", "line")


def response(text: str | None = None, *calls: ToolCall) -> ChatResponse:
    return ChatResponse.of(AssistantMessage.of(text, calls))


def end(**arguments: str) -> ToolCall:
    return ToolCall.of("c", "end_conversation", arguments)


def read(ending: Ending, text: str | None = None, *calls: ToolCall, advice: bool = False) -> UserReply | None:
    return form_of(ending, advice=advice).read(response(text, *calls))


def test_with_tools_a_call_hangs_up() -> None:
    assert read("tool", "In the north.") == UserReply("In the north.")
    assert read("tool", "Thanks, bye.", end(message="ignored", reason="done")) == UserReply("Thanks, bye.", end=True)
    assert read("tool", None, end(message="Bye.", reason="gave_up")) == UserReply("Bye.", end=True, reason="gave_up")


def test_hanging_up_without_a_word_is_flagged() -> None:
    assert read("tool", None, end()) == UserReply(GOODBYE, end=True, flags=("silent_end",))
    assert read("tool", "", ToolCall.of("c", "end_conversation", "{oops")) == read("tool", None, end())
    assert read("line", "END_CONVERSATION") == UserReply(GOODBYE, end=True, flags=("silent_end",))


def test_a_tool_that_is_not_there_is_flagged() -> None:
    assert read("tool", "Hm.", ToolCall.of("c", "search", {})) == UserReply("Hm.", flags=("unknown_tool",))


@pytest.mark.parametrize(
    "token", ["END_CONVERSATION", "  END_CONVERSATION  ", "**END_CONVERSATION**", "[END_CONVERSATION]."]
)
def test_a_token_on_a_line_of_its_own_hangs_up(token: str) -> None:
    assert read("line", f"Thanks.\nBye!\n\n{token}\nleft over") == UserReply("Thanks.\nBye!", end=True)


def test_a_token_in_a_sentence_hangs_nothing_up() -> None:
    text = "Do I have to say END_CONVERSATION now?"
    assert read("line", text) == UserReply(text, flags=("stray_token",))


def test_a_json_object_says_and_hangs_up() -> None:
    assert read("json", '{"say": "Hi.", "end": false, "reason": ""}') == UserReply("Hi.")
    assert read("json", '```json\n{"say": "Bye.", "end": true, "reason": "gave_up"}\n```') == UserReply(
        "Bye.", end=True, reason="gave_up"
    )


@pytest.mark.parametrize("text", ["Hi.", "", "[]", '{"end": false}', '{"say": 3}', '{"say": "cut'])
def test_json_that_says_nothing_is_no_reply(text: str) -> None:
    assert read("json", text) is None


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_words_are_no_reply(ending: Ending) -> None:
    assert read(ending, None) is None
    assert read(ending, "<think>what now</think>") is None
    for finish in ("content_filter", "refusal"):
        assert form_of(ending).read(ChatResponse(message=AssistantMessage.of("I can't."), finish=finish)) is None


def test_words_that_were_cut_off_are_said_and_flagged() -> None:
    cut = ChatResponse(message=AssistantMessage.of("I need a hot"), finish="length")
    assert form_of("line").read(cut) == UserReply("I need a hot", flags=("cut_off",))


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("tool", "ADVICE: Ask for\nthe area.\nSAY: Which area?"),
        ("line", "**ADVICE:** Ask for\nthe area.\n\n**SAY:** Which area?"),
        ("json", json.dumps({"advice": "Ask for\nthe area.", "say": "Which area?", "end": False, "reason": ""})),
    ],
)
def test_advice_comes_first_and_is_not_said(ending: Ending, text: str) -> None:
    reply = read(ending, text, advice=True)
    assert reply is not None
    assert (reply.text, reply.flags) == ("Which area?", ())
    assert "Ask for\nthe area." in reply.advice


def test_without_its_labels_all_of_an_answer_is_said_and_flagged() -> None:
    assert read("line", "Which area?", advice=True) == UserReply("Which area?", flags=("no_advice",))


def test_what_each_form_asks_for() -> None:
    plain = ChatRequest(messages=(UserMessage.of("Hi"),))
    assert tuple(form_of("tool").ask(plain).tools) == (END_TOOL,)
    assert form_of("line").ask(plain) == plain
    asked: Any = form_of("json", advice=True).ask(plain).response_format
    schema = asked["json_schema"]["schema"]
    assert schema["required"] == ["advice", "say", "end", "reason"]
    assert schema["additionalProperties"] is False


def test_small_models_cannot_hang_up_with_their_first_words() -> None:
    """Both models of docs/results/real-models.md did, in most of their conversations."""
    plain = ChatRequest(messages=(UserMessage.of("Hi"),))
    usual, small = form_of("json"), form_of("json", compact=True)
    assert usual.ask(plain, opening=True) == usual.ask(plain) == small.ask(plain)
    asked: Any = small.ask(plain, opening=True).response_format
    fields = asked["json_schema"]["schema"]["properties"]
    assert (fields["end"]["enum"], fields["reason"]["enum"]) == ([False], [""])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("advice", [False, True])
def test_the_prompt_says_how_to_hang_up(ending: Ending, advice: bool) -> None:
    signal = {"tool": "end_conversation", "json": '"end"', "line": "END_CONVERSATION"}[ending]
    wording = form_of(ending, advice=advice).wording
    assert signal in wording
    assert ("advice" in wording.lower()) is advice


@settings(deadline=None)
@given(st.sampled_from(ENDINGS), st.booleans(), st.text())
def test_any_answer_is_a_reply_with_words_or_none(ending: Ending, advice: bool, text: str) -> None:
    reply = form_of(ending, advice=advice).read(response(text))
    assert reply is None or reply.text


@pytest.mark.parametrize(
    "call",
    [
        'end_conversation(message="Bye.", reason="gave_up")',
        '<tool_call>{"name": "end_conversation", "arguments": {"message": "Bye.", "reason": "gave_up"}}</tool_call>',
        '{"name": "end_conversation", "parameters": {"message": "Bye.", "reason": "gave_up"}}',
        "<function=end_conversation><parameter=message>Bye.</parameter><parameter=reason>gave_up</parameter></function>",
    ],
)
def test_a_call_in_text_hangs_up_and_is_not_spoken(call: str) -> None:
    alone, beside = read("tool", call), read("tool", f"Thanks, bye!\n{call}")
    assert alone is not None
    assert beside is not None
    assert (alone.text, alone.end, alone.reason) == ("Bye.", True, "gave_up")
    assert (beside.text, beside.end, beside.reason) == ("Thanks, bye!", True, "gave_up")
    assert [flag.partition(":")[0] for flag in beside.flags] == ["call_as_text"]


@pytest.mark.parametrize(
    "line", ["end_conversation", "[end_conversation]", "*end_conversation()*", "<end_conversation>."]
)
def test_the_name_of_the_call_alone_hangs_up(line: str) -> None:
    reply = read("tool", f"Thanks, bye!\n{line}")
    assert reply is not None
    assert (reply.text, reply.end) == ("Thanks, bye!", True)


def test_a_call_in_text_in_the_middle_of_a_line_hangs_up() -> None:
    reply = read("tool", 'Thanks, bye! end_conversation(message="x", reason="done")')
    assert reply is not None
    assert (reply.text, reply.end) == ("Thanks, bye!", True)


def test_another_call_in_text_is_not_spoken() -> None:
    assert read("tool", '<tool_call>{"name": "search", "arguments": {}}</tool_call>') is None
    reply = read("tool", 'Hm.\n<tool_call>{"name": "search", "arguments": {}}</tool_call>')
    assert reply == UserReply("Hm.", flags=("call_as_text: hermes", "unknown_tool"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_reasoning_of_the_user_is_never_spoken(ending: Ending) -> None:
    said = '{"say": "Hi.", "end": false, "reason": ""}' if ending == "json" else "Hi."
    for text in (
        f"<think>I am done soon.</think>{said}",
        f"I am done soon.\n</think>\n{said}",
        f"[THINK]x[/THINK]{said}",
    ):
        assert read(ending, text) == UserReply("Hi.")
    assert read(ending, "<think>I am done so") is None


def test_a_cut_off_call_hangs_nothing_up() -> None:
    cut = ChatResponse(message=AssistantMessage.of("Thanks.", (end(message="B"),)), finish="length")
    assert form_of("tool").read(cut) == UserReply("Thanks.", flags=("cut_off",))
