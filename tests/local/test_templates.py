"""The chat templates of known models: what each renders is read back, and what is malformed is never spoken."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolSpec, text_of
from simkit.core.reasoning import reasoning_of, with_reasoning
from simkit.core.text_calls import find_calls
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from support.chat_templates import ASKED, base_names, chat_format, written
from support.template_outcomes import OUTCOMES, SINGLE

NAMES = base_names()
if not NAMES:
    pytest.skip("TRL has the chat templates, and is not installed: pip install '.[train]'", allow_module_level=True)

FIND = ToolSpec.of(
    "find_bike",
    "Finds bikes.",
    {
        "day": {"type": "string", "description": "The day."},
        "note": {"type": "string", "description": "A note."},
        "seats": {"type": "integer", "description": "Seats."},
        "cargo": {"type": "boolean", "description": "With a box."},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags."},
        "size": {"type": "object", "properties": {"cm": {"type": "number"}}, "description": "The size."},
    },
    ("day",),
)
PING = ToolSpec.of("ping", "Answers.", {})
TOOLS = (FIND, PING)
GIVEN: dict[str, Any] = {
    "day": "Sunday, 1 (late)",
    "note": "2",
    "seats": 2,
    "cargo": False,
    "tags": ["a", "é"],
    "size": {"cm": 1.5},
}
ONE = AssistantMessage.of(None, (ToolCall.of("call_0", "find_bike", GIVEN),))
TWO = AssistantMessage.of(None, (*(ONE.tool_calls or ()), ToolCall.of("call_1", "ping", {})))
ERROR = (ASKED, ONE, ToolMessage.of("call_0", '{"error": "no such day"}'))

UNSEEN_TOOLS = {"deepseekv3"}
"""Templates that render calls and results, but not the tools, so that a model would not know them."""

CALLING = [name for name in NAMES if name in UNSEEN_TOOLS or chat_format(name).calls_tools]
ROWS = {
    "whole": "whole",
    "whole, TRL's": "whole, in TRL's template",
    "replies": "one per reply",
    "not rendered": "not rendered",
    "other prompt": "no place for it",
}
"""The outcomes of `support.template_outcomes`, in the words of the table."""

OF_PARTS = {"idefics3", "llava_next", "smolvlm"}
"""Templates of models that see, which expect contents in parts."""


def made(message: AssistantMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.parse_arguments()) for call in message.tool_calls or ()]


def test_there_are_41_templates_and_28_have_calls() -> None:
    assert len(NAMES) == 41
    assert len(CALLING) == 28
    assert {name for name in NAMES if not chat_format(name).calls_tools} == {*NAMES} - {*CALLING} | UNSEEN_TOOLS


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CALLING])
def test_a_template_without_calls_says_so_and_reads_text(name: str) -> None:
    chat = chat_format(name)
    assert chat.lacks_for_tools in (
        "its chat template does not render tools",
        "its chat template does not render tool calls",
        "its chat template refuses tool calls",
    )
    for text in ("There is {one} called Ashley (north).", '{"name": "Anna", "age": 4}'):
        read = chat.read(text if name in OF_PARTS else written(chat, AssistantMessage.of(text), ()))
        assert str(read.message.content).strip() == text
        assert (read.message.tool_calls, read.doubts) == (None, ())
    assert chat.read('<tool_call>{"name": "find_bike", "arguments": {}}</tool_call>').doubts


@pytest.mark.parametrize("name", CALLING)
def test_calls_are_read_back_as_they_were_rendered(name: str) -> None:
    chat = chat_format(name)
    for answer in (ONE,) if name in SINGLE else (ONE, TWO):
        read = chat.read(written(chat, answer, TOOLS), TOOLS)
        assert made(read.message) == made(answer)
        assert (read.message.content, read.doubts) == (None, ())


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_a_template_that_renders_one_call_at_most_reads_several(name: str) -> None:
    chat = chat_format(name)
    if name != "gptoss":
        with pytest.raises(UsageError, match="only supports single tool-calls"):
            written(chat, TWO, TOOLS)
    text = written(chat, ONE, TOOLS)
    both = f"{text}<|call|><|start|>assistant{text}" if name == "gptoss" else f"{text}; {text}"
    assert made(chat.read(both, TOOLS).message) == made(ONE) * 2


@pytest.mark.parametrize("name", CALLING)
def test_an_error_in_the_history_does_not_change_how_the_next_reply_is_read(name: str) -> None:
    chat = chat_format(name)
    assert "no such day" in chat.text(chat.prompt(ERROR, TOOLS))
    for answer in (ONE, AssistantMessage.of("There is no such day (sorry). Which [other] one?")):
        read = chat.read(written(chat, answer, TOOLS, ERROR), TOOLS)
        assert (made(read.message), read.message.content) == (made(answer), answer.content)


@pytest.mark.parametrize("name", CALLING)
def test_plain_json_is_no_call(name: str) -> None:
    chat = chat_format(name)
    for text in ('{"name": "Anna", "age": 4}', 'Here it is:\n```json\n{"seats": [1, 2]}\n```'):
        read = chat.read(written(chat, AssistantMessage.of(text), TOOLS), TOOLS)
        assert (read.message.content, read.message.tool_calls, read.doubts) == (text, None, ())


@pytest.mark.parametrize("name", CALLING)
def test_reasoning_before_a_call_is_neither_spoken_nor_a_call(name: str) -> None:
    chat = chat_format(name)
    thought = 'I could ping() or {"name": "ping", "arguments": {}}.'
    for answer in (ONE, AssistantMessage.of("Hello.")):
        read = chat.read(written(chat, with_reasoning(answer, thought), TOOLS), TOOLS)
        assert (made(read.message), read.message.content, read.doubts) == (made(answer), answer.content, ())
        if chat.renders_reasoning and answer is not ONE:
            assert reasoning_of(read.message) == thought


@pytest.mark.parametrize("name", CALLING)
def test_a_reply_that_ends_inside_a_call_is_unread_or_holds_whole_calls_only(name: str) -> None:
    chat = chat_format(name)
    answer = ONE if name in SINGLE else TWO
    text = written(chat, answer, TOOLS)
    begun = text.index("find_bike") + len("find_bike") + 12
    closed = text.rindex("1.5")
    for end in range(begun, len(text), 5):
        read = chat.read(text[:end], TOOLS)
        calls = made(read.message)
        assert calls == made(answer)[: len(calls)]
        assert calls or read.doubts, text[:end]
        if read.doubts:
            assert text_of(read.message) in text[:end]
        if end < closed and name not in SINGLE:
            assert len(calls) < 2


@pytest.mark.parametrize("name", CALLING)
@pytest.mark.parametrize(
    ("part", "instead"),
    [("Sunday", 'Sun"day'), (r"1\.5[^\w]*", "1.5 "), ("find_bike", "")],
    ids=["broken argument", "not closed", "without a name"],
)
def test_a_malformed_call_is_unread_or_complete(name: str, part: str, instead: str) -> None:
    chat = chat_format(name)
    text = re.sub(part, instead, written(chat, ONE, TOOLS))
    read = chat.read(text, TOOLS)
    if not read.doubts:  # some notations can hold any text
        assert [each for each, _ in made(read.message)] == ["find_bike"]
        assert {*made(read.message)[0][1]} == {*GIVEN}
    assert read.message.tool_calls or read.message.content == text.strip() or read.message.content


@pytest.mark.parametrize("name", CALLING)
def test_the_response_template_of_trl_agrees(name: str) -> None:
    """25 of the 28 have one. It reads the same calls, though not all values of LFM's notation."""
    chat = chat_format(name)
    utilities: Any = import_module("trl.chat_template_utils")
    tokenizer = ChatFormat(chat.tokenizer, [*chat.ends]).tokenizer
    try:
        utilities.add_response_schema(tokenizer)
    except ValueError:
        assert name in ("deepseekv3", "diffusion_gemma", "muse_glimmer")
        return
    try:
        prompt = chat.text(chat.prompt((ASKED,), TOOLS))
        text = written(chat, ONE, TOOLS) + {"llama3_1": "<|eot_id|>", "llama3_2": "<|eot_id|>"}.get(name, "")
        theirs = tokenizer.parse_response(text, prefix=prompt, tools=[tool.to_openai() for tool in TOOLS])
        assert made(ChatFormat(tokenizer, [*chat.ends]).read(written(chat, ONE, TOOLS), TOOLS).message) == made(ONE)
    finally:
        tokenizer.response_template = None
    (call,) = theirs["tool_calls"]
    assert call["function"]["name"] == "find_bike"
    assert call["function"]["arguments"] == GIVEN or name.startswith("lfm")


def test_the_table_of_the_document_is_what_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "local.md").read_text(encoding="utf-8")
    for name in NAMES:
        row = re.search(rf"^\| `{name}` \|(.*)\|$", page, re.MULTILINE)
        assert row, f"`{name}` is not in the table of docs/local.md"
        assert [cell.strip() for cell in row[1].split("|")] == table_row(name)


def table_row(name: str) -> list[str]:
    """The cells of a template in the table: its notation, several calls, the rows of trainings, and the agent."""
    chat = chat_format(name)
    if name not in CALLING:
        return ["none", "", "", "", f"`react`: {(chat.lacks_for_tools or '').removeprefix('its chat template ')}"]
    found = find_calls(written(chat, ONE, TOOLS), TOOLS)
    assert found is not None
    several = "one at most" if name in SINGLE else "yes"
    plays = "`function_calling`" if chat.calls_tools else "`react`: does not render tools"
    stated = OUTCOMES[name]
    if stated.plain == "no tools":
        return [found.notation, several, "", "", plays]
    plain = ROWS[stated.plain]
    if stated.unthinking not in (None, stated.plain):
        plain = f"with `enable_thinking=false`: {ROWS[stated.unthinking or stated.plain]}"
    return [found.notation, several, plain, ROWS[stated.reasoning], plays]
