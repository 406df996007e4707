"""Arguments of tool calls that stand in a text: as JSON, as elements, in Python, or in Gemma's notation."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, cast

from simkit.core.messages import ToolSpec

DEEPEST = 200
"""Maximum brackets in a Python expression that is parsed, and depth of a value in Gemma's notation."""

OTHER_BRACKETS = 20
"""Brackets that open no JSON object, after which no object is looked for: a text is read in linear time."""

DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True)
class TextCall:
    """One call as read from text: the tool's name and its arguments as the JSON text of an object."""

    name: str
    arguments: str


Specs: TypeAlias = Mapping[str, ToolSpec]

_GEMMA_STRING = re.compile(r"<\|\"\|>|<escape>")
_GEMMA_SCALAR = re.compile(r"[^,{}<\[\]]*+")
_GEMMA_KEY = re.compile(r"([\w.$-]++):")


def plain_name(name: str, specs: Specs) -> str:
    """A tool's name without the prefix of a namespace, such as `functions.`."""
    return name if name in specs else name.strip().removeprefix("functions.").removeprefix("tools.")


def decoded(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at a position, and the position after it; None if it cannot be read."""
    try:
        return DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at


def objects(text: str) -> Iterator[tuple[int, int]]:
    """The places of the JSON objects in a text, until `OTHER_BRACKETS` brackets have opened none."""
    place, others = text.find("{"), 0
    while place >= 0 and others < OTHER_BRACKETS:
        value, end = decoded(text, place)
        if isinstance(value, dict):
            yield place, end
        else:
            others, end = others + 1, place + 1
        place = text.find("{", end)


def json_of(arguments: Any) -> str:
    """Arguments as JSON text."""
    return json.dumps(arguments, ensure_ascii=False)


_KINDS = {"bool": "boolean", "int": "integer", "float": "number", "str": "string", "list": "array", "dict": "object"}
_CONSTANTS = {"true": True, "false": False, "null": None, "None": None, "True": True, "False": False}


def typed_call(name: str, texts: Mapping[str, str], specs: Specs, forced: set[str] | None = None) -> TextCall:
    """A call from arguments in text; those that the tool does not declare as strings are read as JSON."""
    name = plain_name(name, specs)
    declared = specs[name].properties if name in specs else {}
    values = {
        key: text if forced and key in forced else _of_type(text, _types(declared.get(key)))
        for key, text in texts.items()
    }
    return TextCall(name, json_of(values))


def _types(schema: Any) -> frozenset[str]:
    """The types that a schema allows; empty if it does not say."""
    if not isinstance(schema, dict):
        return frozenset()
    fields = cast("dict[str, Any]", schema)
    kind = fields.get("type")
    found = {kind} if isinstance(kind, str) else set(cast("list[str]", kind)) if isinstance(kind, list) else set[str]()
    for key in ("anyOf", "oneOf"):
        for choice in cast("list[Any]", fields.get(key) or ()):
            found |= _types(choice)
    return frozenset(found)


def _of_type(text: str, types: frozenset[str]) -> Any:
    """The value that a text stands for; the text itself where a string is declared, or nothing else fits."""
    if not types - {"string"}:
        return text
    value = _scalar(text.strip())
    kind = _KINDS.get(type(value).__name__, "null")
    return value if kind in types or (kind == "integer" and "number" in types) or "string" not in types else text


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def gemma_value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """A value in Gemma's notation, `{key:<|"|>text<|"|>,count:3}`, and the position after it.

    Raises:
        ValueError: the text holds no value there.
    """
    if not depth:
        raise ValueError("nested too deeply")
    if quote := _GEMMA_STRING.match(text, at):
        end = text.index(quote[0], quote.end())
        return text[quote.end() : end], end + len(quote[0])
    if text[at : at + 1] not in ("{", "["):
        scalar = _GEMMA_SCALAR.match(text, at)
        if scalar is None or not scalar[0].strip():
            raise ValueError("a value is missing")
        return _scalar(scalar[0].strip()), scalar.end()
    fields: dict[str, Any] = {}
    items: list[Any] = []
    closing = "}" if text[at] == "{" else "]"
    at += 1
    while not text.startswith(closing, at):
        key = ""
        if closing == "}":
            key, at = _gemma_key(text, at)
        value, at = gemma_value(text, at, depth - 1)
        fields[key] = value
        items.append(value)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith(closing, at):
            raise ValueError("a value is not closed")
    return (fields if closing == "}" else items), at + 1


def _gemma_key(text: str, at: int) -> tuple[str, int]:
    if quote := _GEMMA_STRING.match(text, at):
        end = text.index(f"{quote[0]}:", quote.end())
        return text[quote.end() : end], end + len(quote[0]) + 1
    found = _GEMMA_KEY.match(text, at)
    if found is None:
        raise ValueError("a key is missing")
    return found[1], found.end()


# --- Python -----------------------------------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\\(?![\\'\"abfnrtvxuUN0-7\n])")  # Python warns of a backslash before any other character
_STRING = re.compile(r"'(?:\\.|[^'\\])*+'|\"(?:\\.|[^\"\\])*+\"", re.DOTALL)


@lru_cache(256)
def python_call_pattern(names: tuple[str, ...], margin: str = "") -> re.Pattern[str]:
    """The beginning of a Python call of one of these tools, up to its bracket, after a margin."""
    any_name = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)"
    start = rf"{margin}(?:functions\.|tools\.|default_api\.|print\(){{0,4}}+(?P<name>{any_name})(?:\.call)?[ \t]*+\("
    return re.compile(start, re.MULTILINE)


def closing_bracket(text: str, start: int) -> int:
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


def python_call(name: str, inside: str, specs: Specs) -> TextCall | None:
    """The call of a tool with arguments in brackets, by keyword, in the declared order, or as one JSON object."""
    value, end = decoded(inside, 0) if inside.startswith("{") else (None, 0)
    if isinstance(value, dict) and end == len(inside):
        return TextCall(name, inside)
    if sum(inside.count(each) for each in "([{") > DEEPEST:
        return None
    inside = _STRING.sub(lambda string: string[0].replace("\n", "\\n"), _ESCAPE.sub(r"\\\\", inside))
    try:
        made = ast.parse(f"f({inside})", mode="eval").body
        if not isinstance(made, ast.Call):
            return None
        order = list(specs[name].properties)
        values = {order[place]: _constant(value) for place, value in enumerate(made.args)}
        for each in made.keywords:
            if each.arg is None or each.arg in values:
                return None
            values[each.arg] = _constant(each.value)
        return TextCall(name, json_of(values))
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
