"""Tool calls that a model wrote as text, as they arrive from servers without a parser for the model's notation.

Each notation has a mark by which it is recognized. Notations without a mark (JSON, Python) count only if they name a
tool that the model was given, since plain answers hold JSON, too.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from simkit.core.messages import ToolSpec
from simkit.core.reasoning import QuoteScan, is_mention

_SIZE = 16 << 10
"""Maximum characters of a text in which calls are read, and looked for without a mark."""

_BRACKETS = 200
"""Maximum brackets in a Python expression that is parsed."""

_PLACES = 20
"""Maximum marks, and lines that begin with a bracket, at which calls are tried."""

_READ_IN_ALL = 4 * _SIZE
"""Maximum characters that are read after all marks together."""

_OPENING = 200
"""Maximum characters of brackets and code marks before a call that are not taken for words."""


@dataclass(frozen=True, slots=True)
class TextCall:
    """One call as read from text: the tool's name and its arguments as JSON text."""

    name: str
    arguments: str


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
_INVOKE = re.compile(
    r"<(?P<p>[\w:｜|]*)invoke\s+name=[\"']?(?P<name>[^\"'>]+?)[\"']?\s*>(?P<body>.*?)(?P<end></(?P=p)invoke>)",
    re.DOTALL,
)
_FUNCTION = re.compile(
    r"<function(?:=|\s+name=)[\"']?(?P<name>[^\"'>\s]+?)[\"']?\s*>(?P<body>.*?)(?P<end></function>)", re.DOTALL
)
_PARAMETER = re.compile(
    r"<(?P<p>[\w:｜|]*)parameter(?:=|\s+name=)[\"']?(?P<name>[^\"'>\s]+)[\"']?(?:\s+string=[\"'](?P<text>\w+)[\"'])?\s*>"
    r"(?P<value>.*?)</(?P=p)parameter>",
    re.DOTALL,
)
_GLM = re.compile(r"<tool_call>\s*(?P<name>[\w.-]+)\s*(?P<body>(?:<arg_key>.*?)?)(?P<end></tool_call>)", re.DOTALL)
_GLM_ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_NAMED = re.compile(
    r"(?:to=|<\|tool_call_begin\|>|<[|｜]tool[▁_]call[▁_]begin[|｜]>(?:function<[|｜]tool[▁_]sep[|｜]>)?|\[TOOL_CALLS\]|<function=)"
    r"\s*(?P<name>[\w.-]++)(?::\d+)?[^{]{0,200}?(?=\{)"
)
"""A name before an object of arguments: harmony, Kimi, DeepSeek, Mistral (`name[ARGS]{...}`), Llama."""
_GEMMA = re.compile(r"call:(?P<name>[\w.-]+)\{(?P<body>.*?)\}(?=<tool_call\|>|<end_function_call>)", re.DOTALL)
_GEMMA_ARGUMENT = re.compile(r"(\w+):(?:<\|\"\|>(.*?)<\|\"\|>|<escape>(.*?)<escape>|([^,{}<\[]*))(?:,|$)", re.DOTALL)
_ACTION = re.compile(r"^[^\w\n]*+Action:\s*+(?P<name>[\w.-]++)[^\S\n]*+\n\W*+Action Input:\s*+(?=\{)", re.MULTILINE)
_LINE = re.compile(r"^[ \t]*(?=[{\[])", re.MULTILINE)
_OPENED = re.compile(r"(?:```[\w-]*\s*)?(?:functions\.|tools\.|default_api\.|print\(|[\[(`*>-]|\s)*\Z")
_BROKEN = re.compile(
    r"[\"'](?:name|tool_name|tool|function)[\"']\s*:\s*[\"'](?P<name>[\w.-]+)[\"'][\s\S]*?"
    r"[\"'](?:arguments|parameters|args|input)[\"']\s*:"
)
_WORD = re.compile(r"\s*(?P<word>[\w.-]+)")
_DECODER = json.JSONDecoder(strict=False)
_NAME_KEYS = ("name", "tool_name", "function_name", "recipient_name", "tool", "function", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "tool_input", "action_input", "input", "params", "kwargs")
_LIST_KEYS = ("tool_calls", "tool_uses", "function_call", "calls")


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
            calls = _marked(rest, specs) if len(rest) <= min(_SIZE, left) else None
            left -= min(len(rest), _SIZE)
            if calls is not None or _stands_alone(text, mark):
                return TextCalls(str(mark.lastgroup), tuple(calls or ()), text[: mark.start()].strip())
    return None


def _is_mention(text: str, mark: re.Match[str], specs: Mapping[str, ToolSpec]) -> bool:
    """Whether a mark is a word of a sentence: one that no call follows, and that is no special token."""
    if _is_special(mark[0]) or not is_mention(text, *mark.span()):
        return False
    following = _WORD.match(text, mark.end())
    return following is None or _plain_name(following["word"], specs) not in specs


def _is_special(mark: str) -> bool:
    return mark.startswith(("<|", "<｜", "["))


def _stands_alone(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark begins a line, or is a special token, which a sentence does not hold."""
    return not text[: mark.start()].rpartition("\n")[2].strip() or _is_special(mark[0])


# --- notations with a mark --------------------------------------------------------------------------------------------


def _marked(text: str, specs: Mapping[str, ToolSpec]) -> list[TextCall] | None:
    """The calls after a mark; None if any of them is incomplete, or if there are none."""
    for pattern, end in ((_INVOKE, "invoke>"), (_FUNCTION, "</function>")):
        if end in text and (found := list(pattern.finditer(text))):
            return _complete([_by_parameters(each["name"], each["body"], specs) for each in found])
    if "</tool_call>" in text and (found := list(_GLM.finditer(text))):
        return _complete([_typed(each["name"], dict(_GLM_ARGUMENT.findall(each["body"])), specs) for each in found])
    if "call:" in text and (found := list(_GEMMA.finditer(text))):
        return _complete([_gemma(each["name"], each["body"], specs) for each in found])
    if found := list(_NAMED.finditer(text)):
        return _complete([_named(each["name"], text, each.end(), specs) for each in found])
    objects = list(_values(text))
    if objects:
        return _complete([call for value in objects for call in _calls_of(value, specs, known=False)])
    return _python(text, specs, anywhere=True)


def _complete(calls: list[TextCall | None]) -> list[TextCall] | None:
    whole = [call for call in calls if call is not None]
    return whole if whole and len(whole) == len(calls) else None


def _by_parameters(name: str, body: str, specs: Mapping[str, ToolSpec]) -> TextCall | None:
    """A call whose parameters are elements, or whose body is a JSON object."""
    found = {each["name"]: (each["value"], each["text"]) for each in _PARAMETER.finditer(body)}
    if not found and body.strip():
        return _named(name, body, len(body) - len(body.lstrip()), specs)
    texts = {key: value.strip("\n") for key, (value, _) in found.items()}
    forced = frozenset(key for key, (_, text) in found.items() if text == "true")
    return _typed(name, texts, specs, forced)


def _typed(
    name: str, texts: Mapping[str, str], specs: Mapping[str, ToolSpec], forced: frozenset[str] = frozenset()
) -> TextCall:
    """A call from arguments in text; those that the tool does not declare as strings are read as JSON."""
    name = _plain_name(name, specs)
    declared = specs[name].properties if name in specs else {}

    def value_of(key: str, text: str) -> Any:
        schema = declared.get(key)
        kind = cast("dict[str, Any]", schema).get("type") if isinstance(schema, dict) else None
        if key in forced or kind in (None, "string"):
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text

    return TextCall(name, json.dumps({key: value_of(key, text) for key, text in texts.items()}, ensure_ascii=False))


def _gemma(name: str, body: str, specs: Mapping[str, ToolSpec]) -> TextCall | None:
    """A call in Gemma's notation: `key:<|"|>text<|"|>,count:3`. Nested values are not read."""
    texts: dict[str, Any] = {}
    at = 0
    while at < len(body.strip()):
        found = _GEMMA_ARGUMENT.match(body, at)
        if found is None:
            return None
        quoted = found[2] if found[2] is not None else found[3]
        texts[found[1]] = quoted if quoted is not None else _scalar(found[4])
        at = found.end()
    return TextCall(_plain_name(name, specs), json.dumps(texts, ensure_ascii=False))


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _named(name: str, text: str, at: int, specs: Mapping[str, ToolSpec]) -> TextCall | None:
    """A call of this name with the JSON object at a position as arguments."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return TextCall(_plain_name(name, specs), text[at:end]) if isinstance(value, dict) else None


def _plain_name(name: str, specs: Mapping[str, ToolSpec]) -> str:
    """A tool's name without the prefix of a namespace, such as `functions.`."""
    return name if name in specs else name.strip().removeprefix("functions.").removeprefix("tools.")


# --- notations without a mark -----------------------------------------------------------------------------------------


def _find_unmarked(text: str, specs: Mapping[str, ToolSpec], anywhere: bool) -> TextCalls | None:
    """Calls in JSON or in Python that name a given tool."""
    if "{" in text:
        action = _ACTION.search(text)
        if action is not None and _plain_name(action["name"], specs) in specs:
            call = _named(action["name"], text, action.end(), specs)
            return TextCalls("action", (call,) if call else (), text[: action.start()].strip())
        if found := _json_calls(text, specs):
            return found
    if "(" not in text or not any(name in text for name in specs):
        return None
    calls = _python(text, specs, anywhere=anywhere)
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
            calls = _calls_of(value, specs, known=True)
            if start < 0 and not calls:
                break  # JSON that is not a call, before any call
            start = first if start < 0 else start
            named += calls or [None]
            at = end
    if start < 0:
        return None
    return TextCalls("json", tuple(_complete(named) or ()), _words_before(text, start))


def _words_before(text: str, place: int) -> str:
    """The words before a call, without the brackets and code marks in which it stands."""
    near = max(0, place - _OPENING)
    return (text[:near] + _OPENED.sub("", text[near:place])).strip()


def _is_broken_call(text: str, at: int, specs: Mapping[str, ToolSpec]) -> bool:
    """Whether JSON that cannot be parsed, as of a reply that was cut off, names a given tool and its arguments."""
    found = _BROKEN.match(text, at + 1) if text[at] == "{" else None
    return found is not None and _plain_name(found["name"], specs) in specs


def _values(text: str) -> Iterator[Any]:
    """The JSON objects and lists of a text, as far as they can be read."""
    at = min((place for place in (text.find("{"), text.find("[{")) if place >= 0), default=-1)
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield None
            return
        yield value
        at = text.find("{", end)


def _values_at(text: str, at: int) -> Iterator[tuple[Any, int, int]]:
    """The JSON values from a position on that follow each other, with their places."""
    while at < len(text) and text[at] in "{[":
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value, at, end
        at = end
        while at < len(text) and text[at] in " \t\n,;":
            at += 1


def _calls_of(value: Any, specs: Mapping[str, ToolSpec], *, known: bool) -> list[TextCall | None]:
    """The calls in a JSON value; None stands for one without a name. With `known` only given tools count."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [call for item in items for call in _calls_of(item, specs, known=known)]
    if not isinstance(value, dict):
        return [] if known else [None]
    fields = cast("dict[str, Any]", value)
    for key in _LIST_KEYS:
        if isinstance(fields.get(key), (list, dict)):
            return _calls_of(fields[key], specs, known=known)
    inner = fields.get("function")
    if isinstance(inner, dict):
        return _calls_of(inner, specs, known=known)
    name = next((fields[key] for key in _NAME_KEYS if isinstance(fields.get(key), str)), None)
    place = next((key for key in _ARGUMENT_KEYS if key in fields), None)
    if name is not None:
        plain = _plain_name(name, specs)
        if known and (plain not in specs or (place is None and len(fields) > 1 + ("type" in fields))):
            return []
        return [TextCall(plain, _text_of(fields[place] if place is not None else {}))]
    only = next(iter(fields), None) if len(fields) == 1 else None
    if only is not None and _plain_name(only, specs) in specs and isinstance(fields[only], dict):
        return [TextCall(_plain_name(only, specs), _text_of(fields[only]))]
    return [] if known else [None]


def _text_of(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _python(text: str, specs: Mapping[str, ToolSpec], *, anywhere: bool) -> list[TextCall] | None:
    """Calls like `tool(day="Sunday")`, alone or in a list; empty if one cannot be read, None if there are none."""
    names = "|".join(re.escape(name) for name in specs)
    call = rf"(?:functions\.|tools\.|default_api\.|print\()*(?P<name>{names})(?:\.call)?[ \t]*\("
    first = re.compile((r"(?<![\w.])" if anywhere else r"^[ \t>*`\[(-]*") + call, re.MULTILINE)
    following = re.compile(rf"\s*,\s*{call}")
    calls: list[TextCall] = []
    at = 0
    while found := (following.match(text, at) if calls else None) or first.search(text, at):
        end = _closing(text, found.end() - 1)
        made = None if end < 0 else _python_call(found["name"], text[found.end() - 1 : end], specs)
        if made is None:
            return [] if calls or anywhere else None
        calls.append(made)
        at = end
    return calls or None


def _closing(text: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`; -1 if there is none."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return -1


_ESCAPE = re.compile(r"\\(?![\\'\"abfnrtvxuUN0-7\n])")  # Python warns of a backslash before any other character
_CONSTANTS = {"true": True, "false": False, "null": None, "None": None, "True": True, "False": False}


def _python_call(name: str, brackets: str, specs: Mapping[str, ToolSpec]) -> TextCall | None:
    """The call of a tool with arguments in brackets, by keyword, in the declared order, or as one JSON object."""
    inside = brackets[1:-1].strip()
    if inside.startswith("{"):
        call = _named(name, inside, 0, specs)
        if call is not None:
            return call
    inside = _ESCAPE.sub(r"\\\\", inside)
    if sum(inside.count(each) for each in "([{") > _BRACKETS:
        return None
    try:
        made = ast.parse(f"f({inside})", mode="eval").body
        assert isinstance(made, ast.Call)
        order = list(specs[name].properties)
        values = {order[place]: _constant(value) for place, value in enumerate(made.args)}
        values |= {str(each.arg): _constant(each.value) for each in made.keywords if each.arg is not None}
        return TextCall(name, json.dumps(values, ensure_ascii=False))
    except (SyntaxError, ValueError, TypeError, IndexError, RecursionError, MemoryError):
        return None


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.List):
        return [_constant(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _constant(value) for key, value in zip(node.keys, node.values, strict=True) if key
        }
    return ast.literal_eval(node)
