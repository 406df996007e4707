"""Tool calls that a model wrote as text: in the notation of its chat template, or where a server did not parse them.

Each notation has a mark by which it is recognized. Notations without a mark (JSON, Python) count only if they name a
tool that the model was given, since plain answers hold JSON, too.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from simkit.core.call_arguments import Specs, TextCall, closing_bracket, objects, plain_name, python_call_pattern
from simkit.core.call_marks import MAY_BE_MARK, marks
from simkit.core.call_notations import MOST_CALLS, CallReader, WrittenCall
from simkit.core.messages import ToolSpec
from simkit.core.reasoning import QuoteScan, is_mention

UNPARSED = "unparsed_call"
"""Kind of the doubt about a reply with a call that could not be read (`ChatResponse.doubts`), and of the flag."""

_PLACES = 20
"""Maximum marks, and brackets that open no JSON, at which calls are tried."""

_OPENING = 200
"""Maximum characters of brackets and code marks before a call that are not taken for words."""


@dataclass(frozen=True, slots=True)
class TextCalls:
    """The calls in a text.

    Attributes:
        notation: name of the notation, such as `hermes` or `json`.
        calls: the calls that could be read.
        unread: the malformed calls as they stand in the text. They are never spoken.
        words: the text before, between and after the calls, without JSON objects that stand beside them.
        rest: everything but the calls: words, JSON objects, and malformed calls with their marks.
    """

    notation: str
    calls: tuple[TextCall, ...]
    unread: tuple[str, ...] = ()
    words: str = ""
    rest: str = ""


_BEGUN_MARK = re.compile(r"(?:[<\[`][^\s>\]]{0,30}|functools|\w*commentary(?: t?o?)?)\Z")
_BEGUN = re.compile(r"[<\[{]|```|(?<=\w)\(")
_BEGUN_LINE = re.compile(r"[^\w\n]*+(?:Action\b|\w*commentary\b|to=|$)")
_CLOSING = re.compile(r"\s*(?:</[\w:]{1,40}>|<[|｜][\w▁]*(?:end|END|suffix)[\w▁]*[|｜]>|<\|/\w+\|>|<\w+\|>)")
_ACTION = re.compile(r"^[^\w\n]*+Action:\s*+(?P<name>[\w.-]++)[^\S\n]*+\n\W*+Action Input:\s*+(?=\{)", re.MULTILINE)
_OPENED = re.compile(r"(?:Action:\s*)?(?:```[\w-]*\s*)?(?:functions\.|tools\.|default_api\.|print\(|[\[(`*>-]|\s)*\Z")
_NAME_KEY = re.compile(r"[\"']?\b(?:name|tool_name|tool|function)[\"']?\s*+:\s*+[\"'](?P<name>[\w.-]++)[\"']")
_JSON_LIKE = re.compile(r"\{\s*+[\"']?\w++[\"']?\s*+:")
_BROKEN_ANY = re.compile(
    r"\{\s*+[\"']name[\"']\s*+:\s*+[\"'][\w.-]++[\"']\s*+,\s*+[\"'](?:arguments|parameters)[\"']\s*+:"
)
_BEGUN_CALL = re.compile(r"\{\s*+[\"']?(?:name|tool_name|function|arguments|parameters)[\"']?\s*+:")
_EMPTY_FENCE = re.compile(r"```\w*\s*+```")
_ARGUMENTS_BEGIN = re.compile(r"\s*(?:[\w]+\s*=|[\"'{\[]|\Z)")
_LINE_END = re.compile(r"[\s`*\])};.,]*?(?:\n|\Z)")
_WORD = re.compile(r"\s*(?P<word>[\w.-]+)")


def find_calls(
    text: str, tools: Sequence[ToolSpec], *, anywhere: bool = False, any_tool: bool = False
) -> TextCalls | None:
    """The calls in a model's text; None if it holds none, as far as can be told.

    Args:
        tools: the tools that the model was given.
        anywhere: whether `tool(...)` counts in the middle of a line, too.
        any_tool: whether a JSON object of a name and an object of arguments counts although it names none of the tools;
            such a call is unreadable.
    """
    if "<" not in text and "{" not in text and "[" not in text and "(" not in text:
        return None
    specs = {tool.name: tool for tool in tools}
    if not specs:
        return None
    reader = CallReader(text, specs, any_tool=any_tool)
    notation, found = _marked(text, reader, specs)
    if "{" in text:
        action = _ACTION.search(text) if not found else None
        if action is not None and plain_name(action["name"], specs) in specs:
            notation, found = "action", [_after_action(action, reader)]
        else:
            found = _objects(text, reader, specs, found, any_tool)
            notation = notation or "json"
    if "(" in text and not any(each.calls for each in found):
        written = _python_calls(text, reader, specs, anywhere, found)
        notation, found = notation if found else "python", _in_order(found, written)
    return _assembled(text, reader, notation, found) if found else None


def marked_calls(text: str, tools: Sequence[ToolSpec] = ()) -> TextCalls | None:
    """The calls in a text that a mark of a notation precedes, whatever tools they name; None if it holds none."""
    if next(marks(text), None) is None:
        return None
    specs = {tool.name: tool for tool in tools}
    reader = CallReader(text, specs)
    notation, found = _marked(text, reader, specs)
    return _assembled(text, reader, notation, found) if found else None


def certain_words(text: str, *, offered: bool) -> tuple[int, bool]:
    """Number of characters at the beginning of an unfinished text that certainly precede all calls, and whether what
    follows them may be a call whatever comes next.

    Args:
        text: the text so far.
        offered: whether the model was given tools; without any, only marks begin a call.
    """
    if not offered:
        mark = MAY_BE_MARK.search(text)
        begun = mark or _BEGUN_MARK.search(text)
        return begun.start() if begun else len(text), mark is not None
    begun = _BEGUN.search(text)
    at = begun.start() if begun else len(text)
    while at and not text[at - 1].isspace():  # the name of a tool may precede a bracket
        at -= 1
    line = text.rfind("\n", 0, at) + 1
    return line if _BEGUN_LINE.match(text, line, at) else at, begun is not None


def _marked(text: str, reader: CallReader, specs: Specs) -> tuple[str, list[WrittenCall]]:
    """The notation and the calls behind marks; both are empty if there are none."""
    quotes, end, tried = QuoteScan(text), 0, 0
    notation, found = "", list[WrittenCall]()
    for mark in marks(text):
        if mark.start() < end:  # read or skipped with a mark before it
            continue
        if tried == _PLACES or len(found) > MOST_CALLS:
            found += [WrittenCall(mark.start(), len(text), malformed=True)] if found else []
            break
        if mark.lastgroup != "gemma" and (quotes.covers(*mark.span()) or _is_mention(text, mark, specs)):
            tried += 1
            continue
        written, end = reader.read(mark.start())
        if not written and _stands_alone(text, mark):
            end = _end_of_nothing(text, reader, end)
            written = [WrittenCall(mark.start(), end, malformed=True)]
        tried += not written
        if written:
            notation, found = notation or str(mark.lastgroup), found + written
            quotes = QuoteScan(text, end)
    return notation, found


def _end_of_nothing(text: str, reader: CallReader, at: int) -> int:
    """Where a malformed call ends that cannot be read at all: before its closing mark, or with its line."""
    closing, line = _CLOSING.search(text, at, reader.next_mark(at)), text.find("\n", at)
    return closing.start() if closing else min(reader.next_mark(at), line if line >= 0 else len(text))


def _is_mention(text: str, mark: re.Match[str], specs: Specs) -> bool:
    """Whether a mark is a word of a sentence: one that no call follows, and that is no special token."""
    if _is_special(mark[0]) or not is_mention(text, *mark.span()):
        return False
    following = _WORD.match(text, mark.end())
    return following is None or plain_name(following["word"], specs) not in specs


def _is_special(mark: str) -> bool:
    return mark.startswith(("<|", "<｜", "["))


def _stands_alone(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark begins a line, or is a special token, which a sentence does not hold."""
    return _is_special(mark[0]) or not text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()].strip()


def _after_action(action: re.Match[str], reader: CallReader) -> WrittenCall:
    call, end = reader.named_call(action["name"], action.end())
    return WrittenCall.of(action.start(), end, [call])


def _objects(
    text: str, reader: CallReader, specs: Specs, known: list[WrittenCall], any_tool: bool
) -> list[WrittenCall]:
    """The known calls, and those in JSON objects beside them, in the order of the text."""
    found, doubtful = list[WrittenCall](), list[WrittenCall]()
    at, failed = text.find("{"), 0
    while at >= 0 and failed < _PLACES and len(found) <= MOST_CALLS:
        if (passed := _end_of(known, at)) > at:
            at = text.find("{", passed)
            continue
        value, end = reader.judge(at), at + 1
        if value is None:
            failed += 1
            broken = reader.after_broken(at)
            is_call = _is_broken_call(text, at, broken, specs, any_tool)
            if is_call or _BEGUN_CALL.match(text, at):
                value = WrittenCall(at, broken, malformed=is_call, doubtful=not is_call)
                end = broken if is_call else end
        else:
            end = value.end
        if value is not None and (value.calls or value.malformed):
            found.append(value)
        elif value is not None and value.doubtful:
            doubtful.append(WrittenCall(value.start, value.end, malformed=True))
        at = text.find("{", end)
    found = _in_order(known, found)
    return _in_order(found, doubtful) if found else []


def _end_of(spans: list[WrittenCall], at: int) -> int:
    """The end of the span that covers a position; -1 if none does."""
    place = bisect_right(spans, at, key=lambda span: span.start)
    return spans[place - 1].end if place and at < spans[place - 1].end else -1


def _in_order(first: list[WrittenCall], second: list[WrittenCall]) -> list[WrittenCall]:
    """Both in the order of the text, without those of the second that overlap one of the first, or one before them."""
    starts, free, end = [span.start for span in first], list[WrittenCall](), 0
    for span in second:
        apart = _end_of(first, span.start) < 0 and bisect_left(starts, span.start) == bisect_left(starts, span.end)
        if apart and span.start >= end:
            free.append(span)
            end = span.end
    return sorted([*first, *free], key=lambda span: span.start)


def _assembled(text: str, reader: CallReader, notation: str, found: list[WrittenCall]) -> TextCalls:
    """The calls, and what stands beside them."""
    if sum(max(1, len(each.calls)) for each in found) > MOST_CALLS:
        found = [WrittenCall(found[0].start, found[-1].end, malformed=True)]
    unread, words, rest = list[str](), list[str](), list[str]()
    at = 0
    for each in found:
        gap = _gap(text, at, each.start)
        words.append(_without_objects(gap))
        rest.append(gap)
        closing = _CLOSING.match(text, each.end)
        if each.malformed:
            unread.append(text[each.start : closing.end() if closing else each.end].strip())
            rest.append(unread[-1])
        at = reader.end_of_calls(each.end)
    gap = text[at:].lstrip("*`.").strip()
    words.append(_without_objects(gap))
    rest.append(gap)
    calls = tuple(call for each in found for call in each.calls)
    return TextCalls(notation, calls, tuple(unread), *("\n".join(filter(None, each)) for each in (words, rest)))


def _gap(text: str, start: int, end: int) -> str:
    """The words before a call, without the brackets and code marks in which it stands."""
    near = max(start, end - _OPENING)
    before = text[start:near] + _OPENED.sub("", text[near:end]) if end > start else ""
    return (before.lstrip("*`.") if start else before).strip()


def _without_objects(words: str) -> str:
    """Words without the JSON objects in them; empty if nothing but brackets is left."""
    parts, at = list[str](), 0
    for start, end in objects(words):
        parts.append(words[at:start])
        at = end
    if not parts:
        return words
    left = _EMPTY_FENCE.sub("", "".join([*parts, words[at:]])).strip()
    return left if any(char.isalnum() for char in left) else ""


def _is_broken_call(text: str, start: int, end: int, specs: Specs, any_tool: bool) -> bool:
    """Whether JSON that cannot be parsed, as of a reply that was cut off, names a given tool, at any depth."""
    if _JSON_LIKE.match(text, start) is None:
        return False
    if any_tool and _BROKEN_ANY.match(text, start):
        return True
    return any(plain_name(found["name"], specs) in specs for found in _NAME_KEY.finditer(text, start, end))


def _python_calls(
    text: str, reader: CallReader, specs: Specs, anywhere: bool, known: list[WrittenCall]
) -> list[WrittenCall]:
    """Calls like `tool(day="Sunday")` at the beginning of a line, or `anywhere`, beside the known ones."""
    margin = r"(?<![\w.])(?P<margin>)" if anywhere else r"^(?P<margin>[ \t>*`\[(-]*+)"
    pattern = python_call_pattern(tuple(specs), margin)
    found, at, tried = list[WrittenCall](), 0, 0
    while tried < _PLACES and len(found) <= MOST_CALLS and (one := pattern.search(text, at)):
        start, at = one.end("margin"), one.end()
        if (passed := _end_of(known, start)) >= 0:
            at = max(at, passed)
            continue
        written, end = reader.read(start, marked=False)
        if any(each.calls for each in written) or anywhere or _is_broken_python(text, at, len(written) > 1):
            found, at = found + written, max(at, end)
        else:
            tried += 1
    return found


def _is_broken_python(text: str, inside: int, followed: bool) -> bool:
    """Whether an unreadable expression, whose arguments begin at `inside`, is a call and no part of a sentence."""
    closing = closing_bracket(text, inside - 1)
    if closing < 0:
        return _ARGUMENTS_BEGIN.match(text, inside) is not None
    return followed or _LINE_END.match(text, closing) is not None
