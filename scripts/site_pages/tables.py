"""The reference of the database: each table, view and column with its comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import anyio

from simkit import Run, Store
from site_pages.commands import cell

Rows: TypeAlias = list[tuple[Any, ...]]

HEAD = """# Tables and views

What `simkit sql` and `simkit.duckdb` hold, from the comments in the database itself.
[Query the results](../query.md) has questions that they answer.
[The store](../store.md) says how the database is made from the journals.

"""

COLUMNS = """
SELECT table_name, column_name, data_type, comment FROM duckdb_columns()
WHERE NOT internal ORDER BY table_name, column_index
"""
KINDS = """
SELECT 'view' AS kind, view_name AS name, comment FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 'table', table_name, comment FROM duckdb_tables() ORDER BY kind DESC, name
"""
MACROS = """
SELECT function_name, any_value(parameters), any_value(comment) FROM duckdb_functions()
WHERE NOT internal AND function_type IN ('macro', 'table_macro') GROUP BY function_name ORDER BY function_name
"""


def tables_page() -> str:
    """The page of all tables, views and macros."""
    with TemporaryDirectory() as folder:
        store = _empty_store(Path(folder) / "store")
        kinds, columns, macros = (store.query(sql).rows for sql in (KINDS, COLUMNS, MACROS))
    return HEAD + "\n".join(_lines(kinds, columns, macros)) + "\n"


def _lines(
    kinds: list[tuple[str, ...]], columns: list[tuple[str, ...]], macros: list[tuple[str, ...]]
) -> Iterator[str]:
    for kind, name, comment in kinds:
        yield f"## {name}"
        yield ""
        yield f"{kind.capitalize()}. {_told(comment)}"
        yield ""
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        for table, column, kind_of, meaning in columns:
            if table == name:
                yield f"| `{column}` | `{cell(_short(kind_of))}` | {cell(_told(meaning))} |"
        yield ""
    if macros:
        yield "## Functions"
        yield ""
        for name, parameters, comment in macros:
            yield f"- `{name}({', '.join(parameters)})` {_told(comment)}".rstrip()


def _told(comment: str | None) -> str:
    """A comment in Markdown."""
    return re.sub(r"([*<])", r"\\\1", comment or "")


def _short(kind: str) -> str:
    """The type without the fields of its structs, which the meaning tells."""
    return re.sub(r"STRUCT\(.*\)", "STRUCT", kind)


def _empty_store(path: Path) -> Store:
    async def play() -> None:
        async with Run(store=path):
            pass

    anyio.run(play)
    return Store(path)
