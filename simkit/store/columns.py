"""Columns of events, derived from the types in `simkit.core.events`: SQL for the loader and checks for single lines.

A field is declared only there. Its column is read from the journal and copied to the column of the same name in the
table of its event, which must have one (`schema.sql`). A field that is newer than recorded journals has a default, the
value that their lines stand for; a line without a value that is needed cannot be read (docs/store.md, "Add a column").
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

from simkit.core.events import KINDS, Episode, EpisodeStarted
from simkit.core.records import CallRecord, ComponentLoad, MessageRow, PlannedUnit, RewardRow
from simkit.store.database import sql_text

Check: TypeAlias = Callable[[object], bool]

_RENAMED = {"by": "side"}
"""Columns of fields whose own names are keywords of SQL, so that queries would have to quote them."""

_INTEGERS = {31: "INTEGER", 63: "BIGINT", 127: "HUGEINT"}
_NAMES = {str: "VARCHAR", float: "DOUBLE", bool: "BOOLEAN"}
_ROWS: Mapping[str, type] = {
    each.__name__: each for each in (MessageRow, CallRecord, RewardRow, PlannedUnit, ComponentLoad)
}


@dataclass(frozen=True, slots=True)
class EventColumn:
    """One field of an event, or of a row within it.

    Attributes:
        name: the field's name.
        sql: DuckDB type; for a list of rows, the types of the struct's fields by name.
        check: predicate that accepts valid JSON values.
        needed: whether a value is required.
        default: SQL expression that replaces a missing value; empty for NULL.
        many: whether the field holds a tuple of values.
        row: class of each value if the values are rows, otherwise None.
    """

    name: str
    sql: str | Mapping[str, str]
    check: Check
    needed: bool
    default: str
    many: bool
    row: type | None


@cache
def columns_of(kind: type) -> Mapping[str, EventColumn]:
    """Columns of an event or a row, by name."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, EventColumn] = {}
    for field in fields(kind):
        if not field.name.startswith("_"):
            hint, default = hints[field.name], _default(field.default)
            sql, check, many, row = _sql(hint), _check(hint), get_origin(hint) is tuple, _row_of(hint)
            found[field.name] = EventColumn(field.name, sql, check, field.default is MISSING, default, many, row)
    return found


@cache
def stage_sql() -> str:
    """SQL that reads part of a journal into the table `staged`, with one column for every field of every event."""
    columns = {"e": "VARCHAR", **{name: _written(kind) for name, kind in _staged().items()}}
    return sql_text("stage.sql").replace("$columns", ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items()))


@cache
def load_sql() -> str:
    """SQL that inserts the contents of `staged` into the tables."""
    lists = {kind: _SelectList(columns_of(event)) for kind, event in {**KINDS, **_ROWS}.items()}
    ended = [one for name, one in columns_of(Episode).items() if name not in columns_of(EpisodeStarted)]
    changes = ", ".join(f"{one.name} = {_value(one, 'f.')}" for one in ended)
    names = ", ".join(f"'{kind}'" for kind in KINDS)
    return sql_text("load.sql").format(**lists, kinds=names, ended=changes)


@dataclass(frozen=True, slots=True)
class _SelectList:
    """Columns of an event as a SELECT list: `{Kind}` gives plain columns, `{Kind:m}` the fields of struct `m`."""

    columns: Mapping[str, EventColumn]

    def __format__(self, row: str) -> str:
        of = f"{row}." if row else ""
        chosen = [one for name, one in self.columns.items() if one.row is None and name != "at"]
        return ", ".join(f"{_value(one, of)} AS {_RENAMED.get(one.name, one.name)}" for one in chosen)


def _value(column: EventColumn, of: str) -> str:
    value = f"{of}{column.name}"
    if not of and column.sql != _staged()[column.name]:
        value = f"CAST({value} AS {column.sql})"
    return f"coalesce({value}, {column.default})" if column.default else value


@cache
def _staged() -> Mapping[str, str | Mapping[str, str]]:
    """Types of the columns of all events combined, by name."""
    found: dict[str, str | Mapping[str, str]] = {}
    for kind in KINDS.values():
        for name, column in columns_of(kind).items():
            found[name] = _common(found.get(name, column.sql), column.sql)
    return found


def _common(one: str | Mapping[str, str], other: str | Mapping[str, str]) -> str | Mapping[str, str]:
    """A type that can hold the values of both types."""
    if isinstance(one, str) or isinstance(other, str):
        return one if one == other else "JSON"
    return {**one, **other}


def _written(kind: str | Mapping[str, str]) -> str:
    if isinstance(kind, str):
        return kind
    fields_of_row = ", ".join(f'"{name}" {each}' for name, each in kind.items())  # a name may be a keyword of SQL
    return f"STRUCT({fields_of_row})[]"


def _default(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return f"'{value}'"
        case ():
            return "[]"
        case _:
            return ""


def _sql(hint: Any) -> str | Mapping[str, str]:
    if get_origin(hint) in (types.UnionType, Union):
        return next(_sql(each) for each in get_args(hint) if each is not type(None))
    if (bits := _bits(hint)) is not None:
        return _INTEGERS[bits]
    if (row := _row_of(hint)) is not None:
        return {name: cast("str", column.sql) for name, column in columns_of(row).items()}
    if get_origin(hint) is tuple and get_args(hint)[0] is str:
        return "VARCHAR[]"
    return "VARCHAR" if get_origin(hint) is Literal else _NAMES.get(hint, "JSON")


def _bits(hint: Any) -> int | None:
    if get_origin(hint) is Annotated:
        return cast("int", get_args(hint)[1])
    return 31 if hint is int else None


def _row_of(hint: Any) -> type | None:
    inner = get_args(hint)[0] if get_origin(hint) is tuple else None
    return inner if is_dataclass(inner) and isinstance(inner, type) else None


def _check(hint: Any) -> Check:
    if get_origin(hint) in (types.UnionType, Union):
        checks = [_check(one) for one in get_args(hint)]
        return lambda value: any(check(value) for check in checks)
    if (bits := _bits(hint)) is not None:
        kinds = (int, float) if bits == 127 else int  # orjson reads integers over 64 bits as float
        return lambda value: isinstance(value, kinds) and -(1 << bits) <= value < 1 << bits
    if hint is float:
        return lambda value: value is None or isinstance(value, (int, float))  # NaN is written as null
    if hint in (str, bool, type(None)):
        return lambda value: isinstance(value, hint)
    if get_origin(hint) is tuple:
        row = _row_of(hint)
        one = _check(get_args(hint)[0]) if row is None else _row_check(row)
        return lambda value: isinstance(value, list) and all(map(one, cast("list[object]", value)))
    return lambda value: True


def _row_check(kind: type) -> Check:
    columns = columns_of(kind)

    def check(value: object) -> bool:
        row = cast("dict[str, object]", value)
        return isinstance(value, dict) and all(
            (row.get(name) is None and not one.needed) or one.check(row.get(name)) for name, one in columns.items()
        )

    return check
