"""Tool calls that a model wrote as text, as they arrive from servers without a parser for the model's notation.

Each notation has a mark by which it is recognized. Notations without a mark (JSON, Python) count only if they name a
tool that the model was given, since plain answers hold JSON, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from simkit.core.call_notations import (
    DECODER,
    TextCall,
    calls_after_mark,
    calls_of,
    complete_calls,
    named_call,
    plain_name,
    python_calls,
)
from simkit.core.messages import ToolSpec
from simkit.core.reasoning import QuoteScan, is_mention

_SIZE = 16 << 10
"""Maximum characters of a text in which calls are read, and looked for without a mark."""


_PLACES = 20
"""Maximum marks, and lines that begin with a bracket, at which calls are tried."""

_READ_IN_ALL = 4 * _SIZE
"""Maximum characters that are read after all marks together."""

_OPENING = 200
"""Maximum characters of brackets and code marks before a call that are not taken for words."""


@dataclass(frozen=True, slots=True)
class TextCalls:
    """The calls in a text.

    Attributes:
        notation: name of the notation, such as `hermes` or `json`.
        calls: the calls; empty if any of them cannot be read completely.
        words: the text before the calls.
    """

    notation: str
    calls: tuple[TextCall, ...]
    words: str


_MARKS: Mapping[str, str] = {
    "harmony": r"(?:<\|channel\|>|assistant)?commentary to=(?=[\w.]+)",
    "deepseek": r"<[|｜]tool[▁_]calls?[▁_]begin[|｜]>|<[|｜]DSML[|｜](?:function_calls|tool_calls|invoke)",
    "kimi": r"<\|tool_calls?_(?:section_)?begin\|>",
    "gemma": r"<\|tool_call>|<start_function_call>|```tool_code\b",
    "mistral": r"\[TOOL_CALLS\]",
    "llama": r"<\|python_tag\|>",
    "cohere": r"<\|START_ACTION\|>",
    "internlm": r"<\|action_start\|>",
    "apertus": r"<\|tools_prefix\|>",
    "granite": r"<\|tool_call\|>|<function_call>|<\|tool_call_start\|>|<functioncall>",
    "phi": r"functools(?=\[)",
    "minimax": r"<minimax:tool_call>|<(?:\w+:)?function_calls>|<(?:\w+:)?invoke name=",
    "xml": r"<(?:\w+:)?tool_call>\s*(?=<function[= ])|<function[= ](?=[\w.\"'-]+)",
    "glm": r"<tool_call>(?=\s*[\w.-]+\s*(?:<arg_key>|</tool_call>))",
    "hermes": r"<(?:\w+[:_])?tool_calls?>|<TOOLCALL>|<tool_use>",
}
"""Marks of notations. The first that fits decides the name; the calls are read in the same way for all of them."""

_MARK = re.compile("|".join(f"(?P<{name}>{mark})" for name, mark in _MARKS.items()))
_ACTION = re.compile(r"^[^\w\n]*+Action:\s*+(?P<name>[\w.-]++)[^\S\n]*+\n\W*+Action Input:\s*+(?=\{)", re.MULTILINE)
_LINE = re.compile(r"^[ \t]*(?=[{\[])", re.MULTILINE)
_OPENED = re.compile(r"(?:```[\w-]*\s*)?(?:functions\.|tools\.|default_api\.|print\(|[\[(`*>-]|\s)*\Z")
_BROKEN = re.compile(
    r"[\"'](?:name|tool_name|tool|function)[\"']\s*:\s*[\"'](?P<name>[\w.-]+)[\"'][\s\S]*?"
    r"[\"'](?:arguments|parameters|args|input)[\"']\s*:"
)
_WORD = re.compile(r"\s*(?P<word>[\w.-]+)")


def find_calls(text: str, tools: Sequence[ToolSpec], *, anywhere: bool = False) -> TextCalls | None:
    """The calls in a model's text; None if it holds none, as far as can be told.

    Args:
        tools: the tools that the model was given.
        anywhere: whether `tool(...)` counts in the middle of a line, too.
    """
    if "<" not in text and "{" not in text and "[" not in text and "(" not in text:
        return None
    specs = {tool.name: tool for tool in tools}
    if not specs:
        return None
    try:
        return _find_marked(text, specs) or (_find_unmarked(text, specs, anywhere) if len(text) <= _SIZE else None)
    except RecursionError:  # nested deeper than any call
        return None


def marked_calls(text: str, tools: Sequence[ToolSpec] = ()) -> TextCalls | None:
    """The calls in a text that a mark of a notation precedes, whatever tools they name; None if it holds none."""
    try:
        return _find_marked(text, {tool.name: tool for tool in tools}) if _MARK.search(text) else None
    except RecursionError:
        return None


def _find_marked(text: str, specs: Mapping[str, ToolSpec]) -> TextCalls | None:
    quotes = QuoteScan(text)
    left = _READ_IN_ALL
    for mark in islice(_MARK.finditer(text), _PLACES):
        if mark.lastgroup == "gemma" or not (quotes.covers(*mark.span()) or _is_mention(text, mark, specs)):
            rest = text[mark.start() :]
            calls = calls_after_mark(rest, specs) if len(rest) <= min(_SIZE, left) else None
            left -= min(len(rest), _SIZE)
            if calls is not None or _stands_alone(text, mark):
                return TextCalls(str(mark.lastgroup), tuple(calls or ()), text[: mark.start()].strip())
    return None


def _is_mention(text: str, mark: re.Match[str], specs: Mapping[str, ToolSpec]) -> bool:
    """Whether a mark is a word of a sentence: one that no call follows, and that is no special token."""
    if _is_special(mark[0]) or not is_mention(text, *mark.span()):
        return False
    following = _WORD.match(text, mark.end())
    return following is None or plain_name(following["word"], specs) not in specs


def _is_special(mark: str) -> bool:
    return mark.startswith(("<|", "<｜", "["))


def _stands_alone(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark begins a line, or is a special token, which a sentence does not hold."""
    return not text[: mark.start()].rpartition("\n")[2].strip() or _is_special(mark[0])


def _find_unmarked(text: str, specs: Mapping[str, ToolSpec], anywhere: bool) -> TextCalls | None:
    """Calls in JSON or in Python that name a given tool."""
    if "{" in text:
        action = _ACTION.search(text)
        if action is not None and plain_name(action["name"], specs) in specs:
            call = named_call(action["name"], text, action.end(), specs)
            return TextCalls("action", (call,) if call else (), text[: action.start()].strip())
        if found := _json_calls(text, specs):
            return found
    if "(" not in text or not any(name in text for name in specs):
        return None
    calls = python_calls(text, specs, anywhere=anywhere)
    if calls is None:
        return None
    place = min(text.find(name) for name in specs if name in text)
    return TextCalls("python", tuple(calls), _words_before(text, place))


def _json_calls(text: str, specs: Mapping[str, ToolSpec]) -> TextCalls | None:
    """Calls in JSON that begins a line, also in a code block."""
    named: list[TextCall | None] = []
    start, at = -1, 0
    for line in islice(_LINE.finditer(text), _PLACES):
        if line.end() < at:
            continue
        values = list(_values_at(text, line.end()))
        if not values and start < 0 and _is_broken_call(text, line.end(), specs):
            start = line.end()
            named.append(None)
        for value, first, end in values:
            calls = calls_of(value, specs, known=True)
            if start < 0 and not calls:
                break  # JSON that is not a call, before any call
            start = first if start < 0 else start
            named += calls or [None]
            at = end
    if start < 0:
        return None
    return TextCalls("json", tuple(complete_calls(named) or ()), _words_before(text, start))


def _words_before(text: str, place: int) -> str:
    """The words before a call, without the brackets and code marks in which it stands."""
    near = max(0, place - _OPENING)
    return (text[:near] + _OPENED.sub("", text[near:place])).strip()


def _is_broken_call(text: str, at: int, specs: Mapping[str, ToolSpec]) -> bool:
    """Whether JSON that cannot be parsed, as of a reply that was cut off, names a given tool and its arguments."""
    found = _BROKEN.match(text, at + 1) if text[at] == "{" else None
    return found is not None and plain_name(found["name"], specs) in specs


def _values_at(text: str, at: int) -> Iterator[tuple[Any, int, int]]:
    """The JSON values from a position on that follow each other, with their places."""
    while at < len(text) and text[at] in "{[":
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value, at, end
        at = end
        while at < len(text) and text[at] in " \t\n,;":
            at += 1
