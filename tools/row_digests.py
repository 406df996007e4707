"""Digests of tables of rows, and messages about tables and columns that do not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

from simkit.core.messages import JsonObject, sorted_json
from simkit.plugins.loading import nearest


def digest_of(tables: Mapping[str, Iterable[JsonObject]]) -> str:
    """Digest of the rows of tables, whatever the order of rows, tables and columns."""
    found = sha256()
    for table, rows in sorted(tables.items()):
        found.update(sorted_json(table))
        for row in sorted(sorted_json(_even(row)) for row in rows):
            found.update(b"\n" + row)
    return found.hexdigest()


def _even(value: Any) -> Any:
    """A value in which equal numbers are written alike: 2.0 as 2."""
    match value:
        case float():
            return int(value) if value.is_integer() else value
        case dict():
            return {name: _even(each) for name, each in cast("JsonObject", value).items()}
        case list():
            return [_even(each) for each in cast("list[Any]", value)]
        case _:
            return value


def table_error(table: str, columns: Sequence[str], known: Mapping[str, Sequence[str]]) -> str | None:
    """What is wrong with a choice of a table and its columns; None if both exist."""
    if table not in known:
        return f"has no table `{table}`{nearest(table, tuple(known))}; it has: {', '.join(known) or 'none'}"
    missing = next((column for column in columns if column not in known[table]), None)
    if missing is None:
        return None
    hint = nearest(missing, tuple(known[table]))
    return f"has no column `{missing}` in `{table}`{hint}; it has: {', '.join(known[table]) or 'none'}"
