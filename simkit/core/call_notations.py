"""Readers of the notations in which models write tool calls; `simkit.core.text_calls` finds the places.

A call is read completely or not at all, each by itself, and a text is read from left to right: no notation takes
quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.call_arguments import (
    DEEPEST,
    Specs,
    TextCall,
    closing_bracket,
    decoded,
    gemma_value,
    json_of,
    plain_name,
    python_call,
    python_call_pattern,
    typed_call,
)
from simkit.core.call_marks import MarkScan

MOST_CALLS = 100
"""Maximum calls of a reply; those of one with more are malformed."""

_NAME_KEYS = ("name", "tool_name", "function_name", "recipient_name", "tool", "function", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "tool_input", "action_input", "input", "params", "kwargs")
_LIST_KEYS = ("tool_calls", "tool_uses", "function_call", "calls")
_BESIDE = frozenset({"type", "id", "tool_call_id"})
"""Keys that a call may have beside its name and arguments."""


_BETWEEN = re.compile(
    r"(?:\[TOOL_CALLS\]|[\s,;\[\])}]|```\w*|<\|start\|>assistant|<\|/?\w+\|?>|<\w+\|>|<[|｜][\w▁]+[|｜]>|functools(?=\[)"
    r"|to=[\w.-]+<\|message\|>(?=\s*<)|</?(?:\w+[:_])?(?:tool_calls?|function_?calls?|TOOLCALL|tool_use)>"
    r"|</?[|｜]DSML[|｜](?:function_calls|tool_calls)>)*+"
)
"""What may stand before, between and after calls: separators, brackets of lists, code marks and special tokens."""

_NAME = r"[\w.-]++"
_SEP = r"<[|｜]tool[▁_]sep[|｜]>"
_NAMED = re.compile(
    rf"(?:(?:assistant\s*+)?(?:commentary\s++)?to=(?P<harmony>{_NAME})(?:[^{{<]|<\|\w+\|>){{0,60}}?"
    rf"|(?P<kimi>{_NAME})(?::\d+)?\s*+<\|tool_call_arguments?(?:_begin)?\|>\s*+"
    rf"|function{_SEP}(?P<deepseek>{_NAME})\s*+(?:```\w*+\s*+)?|(?P<deepseek_31>{_NAME}){_SEP}\s*+"
    rf"|(?P<mistral>{_NAME})(?:\[CALL_ID\]\w++)?(?:\[ARGS\]\s*+)?)(?=\{{)"
)
"""A name before an object of arguments, by family of models."""

_ELEMENT = re.compile(
    r"<(?P<p>[\w:｜|]*)(?P<kind>invoke|function)(?:=|\s+name=)[\"']?(?P<name>[^\"'>\n]+?)[\"']?\s*>\s*+"
)
_PARAMETER = re.compile(
    r"\s*+<(?P<p>[\w:｜|]*)parameter(?:=|\s+name=)[\"']?(?P<name>[^\"'>\n]+?)[\"']?(?:\s+string=[\"'](?P<text>\w+)[\"'])?\s*>"
)
_GLM = re.compile(rf"(?P<name>{_NAME})\s*+(?=<arg_key>|</tool_call>)")
_GLM_KEY = re.compile(r"\s*+<arg_key>(?P<name>[^<]*+)</arg_key>\s*+<arg_value>")
_GLM_END = re.compile(r"\s*+</tool_call>")
_GEMMA = re.compile(rf"call:(?P<name>{_NAME})\s*+(?=\{{)")
_ARGUMENTS = re.compile(rf"\"(?:{'|'.join(_ARGUMENT_KEYS)})\"\s*+:\s*+")
_CLOSED = re.compile(r"[\]<]")
"""What stands between calls in a notation and an object outside of it: a closing mark or bracket."""

_BRACES = re.compile(r"\"(?:\\.|[^\"\\\n])*+\"|\\.|[{}]")
_NEXT_OBJECT = re.compile(r"\n(?=\{|```)")


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A value in the place of calls, between two positions of a text.

    Attributes:
        start, end: its place: from its mark, if one precedes it, to the end of the value.
        calls: the calls in it.
        malformed: whether it is, or holds, a call that cannot be read.
        doubtful: whether it is plain data if it stands alone, but a malformed call beside others.
    """

    start: int
    end: int
    calls: tuple[TextCall, ...] = ()
    malformed: bool = False
    doubtful: bool = False

    @classmethod
    def of(cls, start: int, end: int, made: Sequence[TextCall | None]) -> WrittenCall:
        """A value whose calls were read; None stands for a malformed one."""
        return cls(start, end, tuple(call for call in made if call is not None), None in made)


class CallReader:
    """Reads calls that follow each other in a text.

    Args:
        text: the text.
        specs: the tools that the model was given, by name. They give the types of arguments in text, and Python
            expressions count only if they name one of them.
        any_tool: see `find_calls`.
    """

    def __init__(self, text: str, specs: Specs, *, any_tool: bool = False) -> None:
        self._text = text
        self._specs = specs
        self._any_tool = any_tool
        self._marks = MarkScan(text)

    def read(self, at: int, *, marked: bool = True) -> tuple[list[WrittenCall], int]:
        """The values from a position on, each judged alone, and the position after them.

        Args:
            at: the position.
            marked: whether a mark stands there. Then every object up to the closing mark has to be a call; others are
                judged as objects without a mark (`judge`), and plain data among them is passed over.
        """
        found: list[WrittenCall] = []
        inside = marked
        while len(found) <= MOST_CALLS:
            start, mark = self.skip(at), self._marks.next(at)
            opened = mark < start
            inside = opened or (inside and not (found and _CLOSED.search(self._text, at, start)))
            is_object = self._text.startswith("{", start)
            value = self.judge(start) if is_object and not inside else self._read_one(start)
            if value is None:
                return found, start if not found else mark if opened else at
            if value.calls or value.malformed or value.doubtful:
                first = mark if opened else start if found else at
                found.append(WrittenCall(first, value.end, value.calls, value.malformed or value.doubtful))
            at = value.end
        return found, at

    def skip(self, at: int) -> int:
        """The position after what may stand between calls."""
        found = _BETWEEN.match(self._text, at)
        return at if found is None else found.end()

    def end_of_calls(self, at: int) -> int:
        """The position after what closes the calls that end at a position: brackets, fences and marks."""
        return min(self.skip(at), self.next_mark(at))

    def next_mark(self, at: int) -> int:
        """The position of the first mark from a position on; the end of the text if there is none."""
        return self._marks.next(at)

    def judge(self, at: int) -> WrittenCall | None:
        """The JSON object at a position as one without a mark: calls, a malformed call, or plain data.

        Returns:
            None if it cannot be parsed.
        """
        value, end = decoded(self._text, at)
        if not isinstance(value, dict):
            return None
        fields = cast("dict[str, Any]", value)
        try:
            made = self._calls_of(at, end, fields, known=True)
            if not made and ((self._any_tool and _has_form_of_call(fields)) or holds_call(fields, self._specs)):
                made = [None]
        except RecursionError:  # nested deeper than any call
            made = [None]
        return WrittenCall.of(at, end, made) if made else WrittenCall(at, end, doubtful=holds_call(fields))

    def after_broken(self, at: int) -> int:
        """The position after an object at a position that cannot be parsed: after its bracket, if there is one.

        Otherwise it ends where the next mark begins, or the next line that begins with an object or a fence.
        """
        limit, depth = self._marks.next(at + 1), 0
        for brace in _BRACES.finditer(self._text, at, limit):
            depth += 1 if brace[0] == "{" else -1 if brace[0] == "}" else 0
            if not depth and brace[0] == "}":
                return brace.end()
        following = _NEXT_OBJECT.search(self._text, at, limit)
        return limit if following is None else following.start()

    def _read_one(self, at: int) -> WrittenCall | None:
        """The next value in the place of a call; None if there is none."""
        text = self._text
        if at == len(text):
            return None
        if text[at] == "{":
            return self._object(at)
        if text[at] == "<":
            return self._by(_ELEMENT, self._element, at)
        return (
            self._by(_GLM, self._glm, at)
            or self._by(_GEMMA, self._gemma, at)
            or self._by(python_call_pattern(tuple(self._specs)), self._python_call, at)
            or self._by(_NAMED, self._named, at)
        )

    def _by(
        self, pattern: re.Pattern[str], reader: Callable[[re.Match[str]], tuple[TextCall | None, int]], at: int
    ) -> WrittenCall | None:
        found = pattern.match(self._text, at)
        if found is None:
            return None
        call, end = reader(found)
        return WrittenCall.of(at, end, [call])

    def _object(self, at: int) -> WrittenCall:
        """The JSON object at a position, which has to be a call because it stands behind a mark."""
        value, end = decoded(self._text, at)
        if not isinstance(value, dict):
            return WrittenCall(at, self.after_broken(at), malformed=True)
        try:
            made = self._calls_of(at, end, cast("dict[str, Any]", value), known=False)
            return WrittenCall.of(at, end, made or [None])
        except RecursionError:  # nested deeper than any call
            return WrittenCall(at, end, malformed=True)

    def _calls_of(self, at: int, end: int, fields: dict[str, Any], *, known: bool) -> list[TextCall | None]:
        calls = calls_of(fields, self._specs, known=known)
        if len(calls) == 1 and calls[0] is not None:
            calls[0] = _as_written(self._text, at, end, calls[0])
        return calls

    def _named(self, found: re.Match[str]) -> tuple[TextCall | None, int]:
        name = next(name for name in found.groupdict().values() if name is not None)
        return self.named_call(name.removeprefix("functions."), found.end())

    def named_call(self, name: str, at: int) -> tuple[TextCall | None, int]:
        """The call of this name with the JSON object at a position as arguments, and the position after it."""
        value, end = decoded(self._text, at)
        if not name or not isinstance(value, dict):
            return None, self.after_broken(at)
        return TextCall(plain_name(name, self._specs), self._text[at:end]), end

    def _element(self, found: re.Match[str]) -> tuple[TextCall | None, int]:
        """A call whose parameters are elements, or whose body is a JSON object."""
        text, at, closing = self._text, found.end(), f"</{found['p']}{found['kind']}>"
        if text.startswith("{", at):
            call, end = self.named_call(found["name"], at)
            last = _after_spaces(text, end)
            return call, last + len(closing) if text.startswith(closing, last) else end
        texts: dict[str, str] = {}
        forced = set[str]()
        while parameter := _PARAMETER.match(text, at):
            end = text.find(f"</{parameter['p']}parameter>", parameter.end())
            if end < 0:
                return None, self._marks.next(at)
            value = text[parameter.end() : end]
            framed = len(value) > 1 and value.startswith("\n") and value.endswith("\n")
            texts[parameter["name"]] = value[1:-1] if framed else value
            if parameter["text"] == "true":
                forced.add(parameter["name"])
            at = text.index(">", end) + 1
        at = _after_spaces(text, at)
        if not text.startswith(closing, at):
            return None, self._marks.next(at)
        return typed_call(found["name"], texts, self._specs, forced), at + len(closing)

    def _glm(self, found: re.Match[str]) -> tuple[TextCall | None, int]:
        text, at = self._text, found.end()
        texts: dict[str, str] = {}
        while key := _GLM_KEY.match(text, at):
            end = text.find("</arg_value>", key.end())
            if end < 0:
                return None, self._marks.next(at)
            texts[key["name"]] = text[key.end() : end]
            at = end + len("</arg_value>")
        closing = _GLM_END.match(text, at)
        if closing is None:
            return None, self._marks.next(at)
        unnamed = not texts and plain_name(found["name"], self._specs) not in self._specs
        return None if unnamed else typed_call(found["name"], texts, self._specs), closing.end()

    def _gemma(self, found: re.Match[str]) -> tuple[TextCall | None, int]:
        try:
            value, end = gemma_value(self._text, found.end(), DEEPEST)
        except (ValueError, RecursionError):
            return None, self.after_broken(found.end())
        return TextCall(plain_name(found["name"], self._specs), json_of(value)), end

    def _python_call(self, found: re.Match[str]) -> tuple[TextCall | None, int]:
        end = closing_bracket(self._text, found.end() - 1)
        if end < 0:
            return None, self._marks.next(found.end())
        return python_call(found["name"], self._text[found.end() : end - 1].strip(), self._specs), end


def calls_of(value: Any, specs: Specs, *, known: bool) -> list[TextCall | None]:
    """The calls in a JSON value; None stands for a malformed one, such as one without a name or without arguments.

    With `known`, JSON that does not have the form of a call, or names no given tool, is no call at all; beside a call
    in the same list it is a malformed one.
    """
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [call for item in items for call in calls_of(item, specs, known=known)]
    if not isinstance(value, dict):
        return [] if known else [None]
    fields = cast("dict[str, Any]", value)
    for key in (*_LIST_KEYS, "function"):
        inner = fields.get(key)
        if isinstance(inner, dict):
            return calls_of(inner, specs, known=known)
        if isinstance(inner, list) and key != "function":
            each = [calls_of(item, specs, known=known) for item in cast("list[Any]", inner)]
            return [call for calls in each for call in calls or [None]] if any(each) else []
    named = next((key for key in _NAME_KEYS if isinstance(fields.get(key), str) and fields[key]), None)
    place = next((key for key in _ARGUMENT_KEYS if key in fields), None)
    if named is not None:
        name, arguments = plain_name(fields[named], specs), _arguments_text(fields[place]) if place else None
        if known and (name not in specs or (place is None and fields.keys() - {named} - _BESIDE)):
            return []
        return [None if arguments is None else TextCall(name, arguments)]
    only = next(iter(fields), None) if len(fields) == 1 else None
    if only is not None and plain_name(only, specs) in specs and isinstance(fields[only], dict):
        return [TextCall(plain_name(only, specs), json_of(fields[only]))]
    return [] if known else [None]


def holds_call(value: Any, specs: Specs | None = None) -> bool:
    """Whether a JSON value holds, at any depth, an object with arguments of a call and, with `specs`, a tool's name."""
    left: list[Any] = [value]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += cast("list[Any]", each)
        elif isinstance(each, dict):
            fields = cast("dict[str, Any]", each)
            names = (fields[key] for key in _NAME_KEYS if isinstance(fields.get(key), str))
            if specs is None and any(key in fields for key in ("arguments", "parameters")):
                return True
            is_named = specs is not None and any(plain_name(name, specs) in specs for name in names)
            if is_named and any(isinstance(fields.get(key), dict) for key in _ARGUMENT_KEYS):
                return True
            left += fields.values()
    return False


def _has_form_of_call(fields: Mapping[str, Any]) -> bool:
    """Whether an object consists of a name and an object of arguments."""
    rest = fields.keys() - _BESIDE - {"name"}
    return isinstance(fields.get("name"), str) and len(rest) == 1 and isinstance(fields[rest.pop()], dict)


def _arguments_text(arguments: Any) -> str | None:
    """Arguments as the JSON text of an object; None if they are something else."""
    if isinstance(arguments, str):
        value, end = decoded(arguments, len(arguments) - len(arguments.lstrip()))
        return arguments if isinstance(value, dict) and not arguments[end:].strip() else None
    if arguments is None:
        return "{}"
    return json_of(arguments) if isinstance(arguments, dict) else None


def _as_written(text: str, start: int, end: int, call: TextCall) -> TextCall:
    """The call with its arguments as they stand in the object at `start`, which keeps numbers exact."""
    place = _ARGUMENTS.search(text, start, end)
    value, end = (None, 0) if place is None else decoded(text, place.end())
    if place is None or not isinstance(value, dict) or json_of(value) != call.arguments:
        return call
    return TextCall(call.name, text[place.end() : end])


def _after_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
