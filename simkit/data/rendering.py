"""Examples as tokens, by the one `ChatFormat` that plays and trains too, and read back from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, text_of
from simkit.data.examples import Demonstration, Example
from simkit.errors import InvalidArguments, UsageError

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat


@dataclass(frozen=True, slots=True)
class Part:
    """One conversation of an example in tokens: all, those to be learnt, and why it cannot be used if it cannot."""

    tokens: int = 0
    learnt: int = 0
    problem: str = ""


def rendered(example: Example, chat: ChatFormat) -> Iterator[Part]:
    """Each conversation of an example, rendered and read back."""
    start = example.context if isinstance(example, Demonstration) else len(example.prompt)
    for messages in example.parts():
        try:
            yield _part(messages, start, example.tools, chat)
        except UsageError as error:
            yield Part(problem=str(error))


def _part(messages: Sequence[Message], start: int, tools: Sequence[ToolSpec], chat: ChatFormat) -> Part:
    whole = chat.conversation(messages, tools)
    shown = len(chat.prompt(messages[:start], tools)) if start else 0
    spans = [span for span in _spans(whole.trained) if span[0] >= shown]
    answers = [message for message in messages[start:] if isinstance(message, AssistantMessage)]
    if len(spans) != len(answers):
        raise UsageError(f"{len(answers)} answers to be learnt are rendered as {len(spans)} pieces of tokens")
    for (first, last), answer in zip(spans, answers, strict=True):
        back = chat.parse(whole.ids[first:last], calls=bool(tools))
        if not _same(back, answer):
            raise UsageError(_changed(answer, back))
    return Part(len(whole.ids), sum(last - first for first, last in spans))


def _spans(trained: Sequence[bool]) -> list[tuple[int, int]]:
    """Runs of trained tokens."""
    spans: list[tuple[int, int]] = []
    for index, learnt in enumerate(trained):
        if learnt and (index == 0 or not trained[index - 1]):
            spans.append((index, index + 1))
        elif learnt:
            spans[-1] = (spans[-1][0], index + 1)
    return spans


def _same(back: AssistantMessage, answer: AssistantMessage) -> bool:
    """Equal words and calls; ids are the runtime's, and spaces around words are the template's."""
    calls, own = back.tool_calls or (), answer.tool_calls or ()
    if len(calls) != len(own) or text_of(back).strip() != text_of(answer).strip():
        return False
    return all(a.name == b.name and _arguments(a) == _arguments(b) for a, b in zip(calls, own, strict=True))


def _arguments(call: ToolCall) -> bytes:
    try:
        return orjson.dumps(call.parse_arguments(), option=orjson.OPT_SORT_KEYS)
    except InvalidArguments:
        return call.arguments.strip().encode()


def _changed(answer: AssistantMessage, back: AssistantMessage) -> str:
    """The first difference in the words, or both answers when it is in the calls."""
    own, read = text_of(answer).strip(), text_of(back).strip()
    place = next((n for n, (a, b) in enumerate(zip(own, read, strict=False)) if a != b), min(len(own), len(read)))
    if own == read:
        return f"{_shown(answer)} comes back from its tokens as {_shown(back)}"
    around = slice(max(0, place - 20), place + 20)
    return f"{own[around]!r} comes back from its tokens as {read[around]!r}"


def _shown(answer: AssistantMessage) -> str:
    calls = [f"{call.name}({call.arguments})" for call in answer.tool_calls or ()]
    words = text_of(answer)
    return " ".join([*([repr(words[:80])] if words else []), *calls])[:160] or "an empty answer"
