"""Checks the arguments of a call against the JSON schema of its tool, as far as the schemas of the benchmarks go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

_KINDS: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "string": ("a string", (str,)),
    "integer": ("a whole number", (int, float)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "array": ("a list", (list,)),
    "object": ("an object", (dict,)),
    "null": ("null", (type(None),)),
}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def schema_problem(
    value: object,
    schema: Mapping[str, Any],
    place: str = "",
    *,
    closed: bool = False,
    named: Mapping[str, Any] = _NOTHING,
) -> str:
    """What is wrong with a JSON value, worded for the agent; empty if nothing is.

    Read are `type`, `enum`, `properties`, `required`, `additionalProperties`, `items`, `anyOf`, and `$ref` to a schema
    of `$defs`. If no alternative fits, the problem of the first one is told.

    Args:
        value: the value.
        schema: its JSON schema.
        place: where the value is in the arguments, such as `flights[0].date`; empty for the arguments themselves.
        closed: whether an object may have no other keys than the schema's; a schema can say so by itself.
        named: the schemas that `$ref` may name.
    """
    named = schema.get("$defs", named)
    if "$ref" in schema:
        schema = named.get(schema["$ref"].rpartition("/")[2], _NOTHING)
    if "anyOf" in schema:
        problems = [schema_problem(value, each, place, named=named) for each in schema["anyOf"]]
        return problems[0] if all(problems) else ""
    kind = schema.get("type", "")
    if kind in _KINDS and not _is_kind(value, kind):
        return f"`{place or 'arguments'}` must be {_KINDS[kind][0]}"
    if "enum" in schema and value not in schema["enum"]:
        return f"`{place}` must be one of: {', '.join(map(json.dumps, schema['enum']))}"
    if isinstance(value, list):
        return _first_problem(cast("list[object]", value), schema.get("items", _NOTHING), place, named)
    if isinstance(value, dict):
        closed = closed or schema.get("additionalProperties") is False
        return _object_problem(cast("dict[str, object]", value), schema, place, closed, named)
    return ""


def _is_kind(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind][1])


def _first_problem(values: Sequence[object], schema: Mapping[str, Any], place: str, named: Mapping[str, Any]) -> str:
    found = (schema_problem(value, schema, f"{place}[{index}]", named=named) for index, value in enumerate(values))
    return next(filter(None, found), "")


def _object_problem(
    value: Mapping[str, object], schema: Mapping[str, Any], place: str, closed: bool, named: Mapping[str, Any]
) -> str:
    properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
    inside = f"{place}." if place else ""
    missing = [name for name in cast("Sequence[str]", schema.get("required", ())) if name not in value]
    if missing:
        return f"`{inside}{missing[0]}` is missing"
    unknown = next((name for name in value if name not in properties), None)
    if closed and unknown is not None:
        return f"`{inside}{unknown:.100}` is unknown; the parameters are: {', '.join(properties) or 'none'}"
    known = (
        schema_problem(part, properties[name], f"{inside}{name}", named=named)
        for name, part in value.items()
        if name in properties
    )
    return next(filter(None, known), "")
