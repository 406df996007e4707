"""Parsers of the notations in which models write tool calls as text; `simkit.core.text_calls` finds the places."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.messages import ToolSpec

_BRACKETS = 200
"""Maximum brackets in a Python expression that is parsed."""


@dataclass(frozen=True, slots=True)
class TextCall:
    """One call as read from text: the tool's name and its arguments as JSON text."""

    name: str
    arguments: str


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

DECODER = json.JSONDecoder(strict=False)

_NAME_KEYS = ("name", "tool_name", "function_name", "recipient_name", "tool", "function", "action")

_ARGUMENT_KEYS = ("arguments", "parameters", "args", "tool_input", "action_input", "input", "params", "kwargs")

_LIST_KEYS = ("tool_calls", "tool_uses", "function_call", "calls")


def calls_after_mark(text: str, specs: Mapping[str, ToolSpec]) -> list[TextCall] | None:
    """The calls after a mark; None if any of them is incomplete, or if there are none."""
    for pattern, end in ((_INVOKE, "invoke>"), (_FUNCTION, "</function>")):
        if end in text and (found := list(pattern.finditer(text))):
            return complete_calls([_by_parameters(each["name"], each["body"], specs) for each in found])
    if "</tool_call>" in text and (found := list(_GLM.finditer(text))):
        texts = ((each["name"], dict(_GLM_ARGUMENT.findall(each["body"]))) for each in found)
        return complete_calls([_typed(name, arguments, specs) for name, arguments in texts])
    if "call:" in text and (found := list(_GEMMA.finditer(text))):
        return complete_calls([_gemma(each["name"], each["body"], specs) for each in found])
    if found := list(_NAMED.finditer(text)):
        return complete_calls([named_call(each["name"], text, each.end(), specs) for each in found])
    objects = list(_values(text))
    if objects:
        return complete_calls([call for value in objects for call in calls_of(value, specs, known=False)])
    return python_calls(text, specs, anywhere=True)


def complete_calls(calls: list[TextCall | None]) -> list[TextCall] | None:
    """The calls if all of them could be read; None otherwise, or without any."""
    whole = [call for call in calls if call is not None]
    return whole if whole and len(whole) == len(calls) else None


def _by_parameters(name: str, body: str, specs: Mapping[str, ToolSpec]) -> TextCall | None:
    """A call whose parameters are elements, or whose body is a JSON object."""
    found = {each["name"]: (each["value"], each["text"]) for each in _PARAMETER.finditer(body)}
    if not found and body.strip():
        return named_call(name, body, len(body) - len(body.lstrip()), specs)
    texts = {key: value.strip("\n") for key, (value, _) in found.items()}
    forced = frozenset(key for key, (_, text) in found.items() if text == "true")
    return _typed(name, texts, specs, forced)


def _typed(
    name: str, texts: Mapping[str, str], specs: Mapping[str, ToolSpec], forced: frozenset[str] = frozenset()
) -> TextCall:
    """A call from arguments in text; those that the tool does not declare as strings are read as JSON."""
    name = plain_name(name, specs)
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
    return TextCall(plain_name(name, specs), json.dumps(texts, ensure_ascii=False))


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def named_call(name: str, text: str, at: int, specs: Mapping[str, ToolSpec]) -> TextCall | None:
    """A call of this name with the JSON object at a position as arguments."""
    try:
        value, end = DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return TextCall(plain_name(name, specs), text[at:end]) if isinstance(value, dict) else None


def plain_name(name: str, specs: Mapping[str, ToolSpec]) -> str:
    """A tool's name without the prefix of a namespace, such as `functions.`."""
    return name if name in specs else name.strip().removeprefix("functions.").removeprefix("tools.")


def _values(text: str) -> Iterator[Any]:
    """The JSON objects and lists of a text, as far as they can be read."""
    at = min((place for place in (text.find("{"), text.find("[{")) if place >= 0), default=-1)
    while at >= 0:
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield None
            return
        yield value
        at = text.find("{", end)


def calls_of(value: Any, specs: Mapping[str, ToolSpec], *, known: bool) -> list[TextCall | None]:
    """The calls in a JSON value; None stands for one without a name. With `known` only given tools count."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [call for item in items for call in calls_of(item, specs, known=known)]
    if not isinstance(value, dict):
        return [] if known else [None]
    fields = cast("dict[str, Any]", value)
    for key in _LIST_KEYS:
        if isinstance(fields.get(key), (list, dict)):
            return calls_of(fields[key], specs, known=known)
    inner = fields.get("function")
    if isinstance(inner, dict):
        return calls_of(inner, specs, known=known)
    name = next((fields[key] for key in _NAME_KEYS if isinstance(fields.get(key), str)), None)
    place = next((key for key in _ARGUMENT_KEYS if key in fields), None)
    if name is not None:
        plain = plain_name(name, specs)
        if known and (plain not in specs or (place is None and len(fields) > 1 + ("type" in fields))):
            return []
        return [TextCall(plain, _text_of(fields[place] if place is not None else {}))]
    only = next(iter(fields), None) if len(fields) == 1 else None
    if only is not None and plain_name(only, specs) in specs and isinstance(fields[only], dict):
        return [TextCall(plain_name(only, specs), _text_of(fields[only]))]
    return [] if known else [None]


def _text_of(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def python_calls(text: str, specs: Mapping[str, ToolSpec], *, anywhere: bool) -> list[TextCall] | None:
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
        call = named_call(name, inside, 0, specs)
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
