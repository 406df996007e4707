"""Which lines of a piece the database cannot take: asked only when the piece as a whole has failed, line by line.

The lines that pass for events are found here in one pass, by the types of `simkit.core.events` and the columns they
go to.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import orjson

from simkit.core.events import Event
from simkit.store.database import sql_text

Check: TypeAlias = Callable[[object], bool]

_BITS = {"INTEGER": 31, "BIGINT": 63, "HUGEINT": 127}


def refusal(line: bytes) -> str | None:
    """Why a line is no event that this version knows; None when it may be one."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"it is no JSON ({error})"
    if not isinstance(found, dict):
        return "it is no JSON object"
    event = cast("dict[str, Any]", found)
    kind = event.get("e")
    checks = _checks().get(kind) if isinstance(kind, str) else None
    if checks is None:
        return f"it is an event of the unknown kind {kind!r:.60}"
    for name, (check, needed) in checks.items():
        value = event.get(name)
        if value is None and not needed:
            continue
        if not check(value):
            return f"its `{name}` is {value!r:.60}" if name in event else f"it is a {kind} without `{name}`"
    return None


@cache
def _checks() -> Mapping[str, Mapping[str, tuple[Check, bool]]]:
    """By kind of event and field: whether a value can be taken, and whether there must be one."""
    return {kind.__name__: _fields(kind) for kind in get_args(Event)}


def _fields(kind: type) -> dict[str, tuple[Check, bool]]:
    hints = get_type_hints(kind)
    bits = _columns()
    found: dict[str, tuple[Check, bool]] = {}
    for field in fields(kind):
        hint = hints[field.name]
        found[field.name] = (_check(hint, bits.get(field.name, 31)), field.default is MISSING)
    return found


@cache
def _columns() -> Mapping[str, int]:
    """Bits of the columns that whole numbers go to."""
    columns = re.findall(r"^    '(\w+)': '(\w+)'", sql_text("stage.sql"), re.MULTILINE)
    return {name: _BITS[kind] for name, kind in columns if kind in _BITS}


def _check(hint: Any, bits: int) -> Check:
    if get_origin(hint) in (types.UnionType, Union):
        checks = [_check(one, bits) for one in get_args(hint)]
        return lambda value: any(check(value) for check in checks)
    if hint is int:
        kinds = (int, float) if bits == _BITS["HUGEINT"] else int  # orjson reads integers over 64 bits as float
        return lambda value: isinstance(value, kinds) and -(1 << bits) <= value < 1 << bits
    if hint is float:
        return lambda value: value is None or isinstance(value, (int, float))  # NaN is written as null
    if hint in (str, bool, type(None)):
        return lambda value: isinstance(value, hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        one = _row(inner) if is_dataclass(inner) else _check(inner, bits)
        return lambda value: isinstance(value, list) and all(map(one, cast("list[object]", value)))
    return lambda value: True


def _row(kind: Any) -> Check:
    checks = _fields(kind)

    def check(value: object) -> bool:
        row = cast("dict[str, object]", value)
        return isinstance(value, dict) and all(
            (row.get(name) is None and not needed) or each(row.get(name)) for name, (each, needed) in checks.items()
        )

    return check
