"""Tool calls that a model wrote as text: in the notation of its chat template, or where a server did not parse them.

Each notation has a mark by which it is recognized. Notations without a mark (JSON, Python) count only if they name a
tool that the model was given, since plain answers hold JSON, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from simkit.core.call_arguments import Specs, TextCall, closing_bracket, plain_name, python_call_pattern
from simkit.core.call_notations import CallReader
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
        calls: the calls; empty if any of them cannot be read completely.
        words: the text before and after the calls.
    """

    notation: str
    calls: tuple[TextCall, ...]
    words: str


_MARKS: Mapping[str, str] = {
    "atem": r"(?:(?:\A|<\|start\|>assistant)\s*+to=[\w.-]++<\|message\|>\s*+)?<atem:(?:function_calls>|invoke name=)",
    "harmony": r"(?:<\|channel\|>|assistant)?commentary to=(?=[\w.]+)"
    r"|(?:\A|<\|start\|>assistant)\s*+to=(?=[\w.-]++\s*+<\|)",
    "deepseek": r"<[|｜]tool[▁_]calls?[▁_]begin[|｜]>|<[|｜]DSML[|｜](?:function_calls|tool_calls|invoke)",
    "kimi": r"<\|tool_calls?_(?:section_)?begin\|>",
    "gemma": r"<\|tool_call>|<start_function_call>|```tool_code\b",
    "mistral": r"\[TOOL_CALLS\]",
    "llama": r"<\|python_tag\|>",
    "cohere": r"<\|START_ACTION\|>",
    "internlm": r"<\|action_start\|>",
    "apertus": r"<\|tools_prefix\|>",
    "lfm": r"<\|tool_call_start\|>",
    "granite": r"<\|tool_call\|>|<function_call>|<functioncall>",
    "phi": r"functools(?=\[)",
    "minimax": r"<minimax:tool_call>|<(?:\w+:)?function_calls>|<(?:\w+:)?invoke name=",
    "xml": r"<(?:\w+:)?tool_call>\s*(?=<function[= ])|<function[= ](?=[\w.\"'-]+)",
    "glm": r"<tool_call>(?=\s*[\w.-]+\s*(?:<arg_key>|</tool_call>))",
    "hermes": r"<(?:\w+[:_])?tool_calls?>|<TOOLCALL>|<tool_use>",
}
"""Marks of notations. The first that fits decides the name; the calls are read in the same way for all of them."""

_MARK = re.compile("|".join(f"(?P<{name}>{mark})" for name, mark in _MARKS.items()))
_MAY_BE_MARK = re.compile(
    r"<(?:[|｜](?:tool|python_tag|START_ACTION|action_start|channel\|>commentary|start\|>assistant|DSML)|start_function"
    r"|(?:\w{1,20}[:_])?(?:tool|function|TOOLCALL|invoke))|\[TOOL_CALLS|```tool_code|functools\[|\A\s*+to="
    r"|(?:assistant)?commentary to="
)
"""Where a mark may begin. It looks at each character once, so that a long text is searched in a millisecond."""
_BEGUN_MARK = re.compile(r"(?:[<\[`][^\s>\]]{0,30}|functools|\w*commentary(?: t?o?)?)\Z")
_BEGUN = re.compile(r"[<\[{]|```|(?<=\w)\(")
_BEGUN_LINE = re.compile(r"[^\w\n]*+(?:Action\b|\w*commentary\b|to=|$)")
_ACTION = re.compile(r"^[^\w\n]*+Action:\s*+(?P<name>[\w.-]++)[^\S\n]*+\n\W*+Action Input:\s*+(?=\{)", re.MULTILINE)
_OPENED = re.compile(r"(?:Action:\s*)?(?:```[\w-]*\s*)?(?:functions\.|tools\.|default_api\.|print\(|[\[(`*>-]|\s)*\Z")
_NAME_KEY = r"[\"']?(?:name|tool_name|tool|function)[\"']?\s*+:\s*+[\"'](?P<{}>[\w.-]++)[\"']"
_ARGUMENT_KEY = r"[\"']?(?:arguments|parameters|args|input)[\"']?\s*+:"
_BROKEN = re.compile(
    rf"\{{[^{{}}]{{0,300}}?(?:{_NAME_KEY.format('before')}|{_ARGUMENT_KEY}[\s\S]{{0,2000}}?{_NAME_KEY.format('after')})"
)
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
    return _find_marked(text, reader, specs) or _find_unmarked(text, reader, specs, anywhere)


def marked_calls(text: str, tools: Sequence[ToolSpec] = ()) -> TextCalls | None:
    """The calls in a text that a mark of a notation precedes, whatever tools they name; None if it holds none."""
    if next(_marks(text), None) is None:
        return None
    specs = {tool.name: tool for tool in tools}
    return _find_marked(text, CallReader(text, specs), specs)


def is_call_mark(text: str) -> bool:
    """Whether a text is, or begins with, a mark of a notation."""
    return _MARK.match(text) is not None


def certain_words(text: str, *, offered: bool) -> tuple[int, bool]:
    """Number of characters at the beginning of an unfinished text that certainly precede all calls, and whether what
    follows them may be a call whatever comes next.

    Args:
        text: the text so far.
        offered: whether the model was given tools; without any, only marks begin a call.
    """
    if not offered:
        mark = _MAY_BE_MARK.search(text)
        begun = mark or _BEGUN_MARK.search(text)
        return begun.start() if begun else len(text), mark is not None
    begun = _BEGUN.search(text)
    at = begun.start() if begun else len(text)
    while at and not text[at - 1].isspace():  # the name of a tool may precede a bracket
        at -= 1
    line = text.rfind("\n", 0, at) + 1
    return line if _BEGUN_LINE.match(text, line, at) else at, begun is not None


def _find_marked(text: str, reader: CallReader, specs: Specs) -> TextCalls | None:
    quotes, end = QuoteScan(text), 0
    for mark in islice(_marks(text), _PLACES):
        if mark.start() < end:  # skipped with a mark before it, which no call followed
            continue
        if mark.lastgroup == "gemma" or not (quotes.covers(*mark.span()) or _is_mention(text, mark, specs)):
            calls, end = reader.read(mark.start())
            if calls or _stands_alone(text, mark):
                found = TextCalls(str(mark.lastgroup), calls, _words(text, mark.start(), end))
                return found if next(_marks(text, end), None) is None else TextCalls(found.notation, (), found.words)
    return None


def _marks(text: str, at: int = 0) -> Iterator[re.Match[str]]:
    """The marks of notations from a position on."""
    for place in _MAY_BE_MARK.finditer(text, at):
        if mark := _MARK.match(text, place.start()):
            yield mark


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


def _words(text: str, start: int, end: int) -> str:
    """The words before and after calls, without the brackets and code marks in which they stand."""
    near = max(0, start - _OPENING)
    before = (text[:near] + _OPENED.sub("", text[near:start])).strip()
    after = text[end:].lstrip("*`.").strip()
    return "\n".join(part for part in (before, after) if part)


def _find_unmarked(text: str, reader: CallReader, specs: Specs, anywhere: bool) -> TextCalls | None:
    """Calls in JSON or in Python that name a given tool."""
    if "{" in text:
        action = _ACTION.search(text)
        if action is not None and plain_name(action["name"], specs) in specs:
            call, end = reader.named_call(action["name"], action.end())
            return TextCalls("action", (call,) if call else (), _words(text, action.start(), end))
        if found := _json_calls(text, reader, specs):
            return found
    return _python_calls(text, reader, specs, anywhere) if "(" in text else None


def _json_calls(text: str, reader: CallReader, specs: Specs) -> TextCalls | None:
    """Calls in JSON objects; an object beside or after them that is no call makes all of them unreadable.

    A reply with such an object is not what it was meant to be: a part of it might be executed without the rest, and a
    model trained on the part would learn tokens that it did not write.
    """
    calls: list[TextCall | None] = []
    start, at, end, failed = -1, 0, 0, 0
    while (at := text.find("{", at)) >= 0 and failed < _PLACES:
        first, group, is_call, broken = at, list[TextCall | None](), False, False
        while text.startswith("{", at) and not broken:
            made, after = reader.read_object(at, known=True)
            broken = after == at + 1
            is_call = is_call or (_is_broken_call(text, at, specs) if broken else bool(made))
            group += made or [None]
            at = reader.skip(after)
        failed += broken
        if is_call or start >= 0:
            start, end = first if start < 0 else start, at
            calls += group
    if start < 0:
        return None
    whole = tuple(call for call in calls if call is not None)
    return TextCalls("json", whole if len(whole) == len(calls) else (), _words(text, start, end))


def _is_broken_call(text: str, at: int, specs: Specs) -> bool:
    """Whether JSON that cannot be parsed, as of a reply that was cut off, names a given tool."""
    found = _BROKEN.match(text, at)
    return found is not None and plain_name(found["before"] or found["after"], specs) in specs


def _python_calls(text: str, reader: CallReader, specs: Specs, anywhere: bool) -> TextCalls | None:
    """Calls like `tool(day="Sunday")` at the beginning of a line, or `anywhere`."""
    margin = r"(?<![\w.])(?P<margin>)" if anywhere else r"^(?P<margin>[ \t>*`\[(-]*+)"
    pattern = python_call_pattern(tuple(specs), margin)
    found = pattern.search(text)
    if found is None:
        return None
    start = found.end("margin")
    calls, end = reader.read(start)
    if not calls and not anywhere and not _is_broken_python(text, found.end(), end):
        return None
    another = pattern.search(text, end) if calls else None
    return TextCalls("python", calls if another is None else (), _words(text, start, end))


def _is_broken_python(text: str, inside: int, end: int) -> bool:
    """Whether an unreadable expression, whose arguments begin at `inside`, is a call and no part of a sentence."""
    closing = closing_bracket(text, inside - 1)
    if closing < 0:
        return _ARGUMENTS_BEGIN.match(text, inside) is not None
    return end > closing or _LINE_END.match(text, closing) is not None
