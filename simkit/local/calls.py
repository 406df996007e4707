"""Parser of tool calls in generated text, in the notations of Hermes and Qwen, Mistral and Llama 3.

A malformed call is not lost. If its tool can be identified, it becomes a call with the arguments as written, and the
executor of calls reports the error; otherwise it stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.messages import AssistantMessage, ToolCall

HERMES, MISTRAL, LLAMA = "<tool_call>", "[TOOL_CALLS]", "<|python_tag|>"
MARKS = (HERMES, MISTRAL, LLAMA)
"""Markers that start a call. Llama 3 also writes calls without one, as a reply that is a JSON object."""

_HERMES_END = "</tool_call>"
_ARGS = "[ARGS]"
_NAME = re.compile(r'"name"\s*:\s*"((?:[^"\\]|\\.)*)"')
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True)
class Written:
    """A call as written: the tool's name and the text of its arguments."""

    name: str
    arguments: str


def read_message(text: str) -> AssistantMessage:
    """Parse a reply's text into a message: its content, and its calls with ids `call_0`, `call_1`, ..."""
    words, calls = _split(text)
    if not calls:
        return AssistantMessage.of(text if text.strip() else None)
    numbered = tuple(ToolCall.of(f"call_{index}", one.name, one.arguments) for index, one in enumerate(calls))
    return AssistantMessage.of(words.strip() or None, numbered)


def _split(text: str) -> tuple[str, list[Written]]:
    """The content and the calls. There are no calls if any of them cannot be parsed."""
    if HERMES in text:
        return _hermes(text)
    if MISTRAL in text:
        words, _, rest = text.partition(MISTRAL)
        return words, _mistral(rest)
    bare = text.replace(LLAMA, "").strip()
    if not bare.startswith("{") or not _NAME.search(bare):
        return text, []
    return "", _all(_objects(bare))


def _hermes(text: str) -> tuple[str, list[Written]]:
    words, *blocks = text.split(HERMES)
    parts = [block.partition(_HERMES_END) for block in blocks]
    calls = _all(part[0] for part in parts)
    said = " ".join(each.strip() for each in (words, *(part[2] for part in parts)) if each.strip())
    return said, calls


def _mistral(text: str) -> list[Written]:
    """Calls as `[{"name": ..., "arguments": ...}]`, or since 2025 `name[ARGS]{...}`, each after its own marker."""
    calls: list[Written] = []
    for block in text.split(MISTRAL):
        name, args, rest = block.partition(_ARGS)
        if args and name.strip():
            calls.append(Written(name.strip(), rest.strip()))
            continue
        found = _all(_objects(block.strip().removeprefix("[").removesuffix("]")))
        if not found:
            return []
        calls += found
    return calls


def _objects(text: str) -> Iterator[str]:
    """The JSON objects in a text, separated by commas, semicolons or whitespace. An unparsable rest is one piece."""
    rest = text.strip(" \n\t,;")
    while rest:
        try:
            _, end = _DECODER.raw_decode(rest)
        except json.JSONDecodeError:
            end = len(rest)
        yield rest[:end]
        rest = rest[end:].strip(" \n\t,;")


def _all(texts: Iterator[str]) -> list[Written]:
    calls = [read_call(text) for text in texts]
    return [call for call in calls if call is not None] if None not in calls else []


def read_call(text: str) -> Written | None:
    """The call in `{"name": ..., "arguments": ...}`, with its arguments as written; None without a name."""
    value = _value(text)
    arguments = _ARGUMENTS.search(text)
    if value is None:  # malformed: find at least the name of the tool
        name = _NAME.search(text)
        if name is None:
            return None
        rest = text[arguments.end() :].strip() if arguments else text.strip()
        return Written(name[1], rest)
    name = value.get("name")
    if not isinstance(name, str):
        return None
    wanted = value.get("arguments", value.get("parameters", {}))
    return Written(name, _as_written(text, arguments, wanted))


def _as_written(text: str, place: re.Match[str] | None, value: Any) -> str:
    if isinstance(value, str):
        return value
    if place is not None:
        try:
            found, end = _DECODER.raw_decode(text, place.end())
        except json.JSONDecodeError:
            found, end = None, 0
        if found == value:
            return text[place.end() : end]
    return json.dumps(value, ensure_ascii=False)


def _value(text: str) -> dict[str, Any] | None:
    try:
        value: object = _DECODER.decode(text.strip())
    except json.JSONDecodeError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
