"""`simkit sql`: one query, or a prompt."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from simkit.cli.output import DIM, ask, say, say_csv, say_json
from simkit.cli.program import open_store, print_notes
from simkit.cli.tables import print_blocks, print_table, terminal_width
from simkit.core.text_table import Column, Table, cut
from simkit.errors import SimkitError, UsageError

if TYPE_CHECKING:
    from simkit.store import QueryResult, Store

Format: TypeAlias = Literal["table", "csv", "json"]

LONGEST = 200
"""Maximum cells of one value in a table; the other formats show all of it."""

WELCOME = """SQL over {path}. A query ends with `;` or an empty line; `help` lists the commands, Ctrl-D ends.
"""

HELP = """Commands:
  .tables         tables and views, with what they hold
  .schema NAME    columns of a table or view, with their types and meanings
  help, exit      this text; the end (also quit, Ctrl-D)
Queries, over one line or several, ended with `;` or an empty line:
  from run_summary;
  from conversation('BRANCH ID');"""

TABLES = """
select table_name as name, 'table' as kind, comment as holds from duckdb_tables()
where not internal and database_name = current_database()
union all select view_name, 'view', comment from duckdb_views()
where not internal and database_name = current_database()
order by kind, name
"""

COLUMNS = """
select column_name as name, data_type as type, comment as meaning
from duckdb_columns()
where table_name = ? and not internal and database_name = current_database() order by column_index
"""


def sql(
    path: Path | None,
    query: str | None,
    format: Format,
    raw: bool = False,
    external: bool = False,
    runs: Sequence[str] = (),
) -> None:
    """Answer a query, or open a prompt without one; with `runs` the tables hold these runs alone.

    Raises:
        UsageError, StoreError: the store or a run does not exist, or the query cannot be answered.
    """
    store = open_store(path, external=external)
    ids = [store.resolve(name).run_id for name in runs]
    if query is not None:
        _answer(store, query, format, raw, ids)
        return
    _prompt(store, format, raw, ids)


def _answer(store: Store, query: str, format: Format, raw: bool, runs: Sequence[str]) -> None:
    result = store.query(query, runs=runs or None, scoped=True)
    print_result(result, format, raw=raw)
    print_notes(result.notes)


def print_result(result: QueryResult, format: Format, *, raw: bool = False) -> None:
    """Print rows as a table, as CSV with a header, or as one JSON object per line; `raw` escapes nothing."""
    match format:
        case "table":
            _print_table(result, raw)
        case "csv":
            say_csv([result.columns, *([_cell(value) for value in row] for row in result.rows)], raw=raw)
        case "json":
            for row in result.dicts():
                say_json(row, plain)


def plain(value: object) -> object:
    """A database value as a JSON value."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        short = float(value)
        return short if Decimal(repr(short)) == value else str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _prompt(store: Store, format: Format, raw: bool, runs: Sequence[str]) -> None:
    with suppress(ImportError):
        import_module("readline")  # adds line editing and history to input()
    say(WELCOME.format(path=store.path))
    while (asked := _asked()) is not None:
        try:
            if not _command(store, asked, format, raw):
                _answer(store, asked, format, raw, runs)
        except SimkitError as error:
            say(f"error: {error}", err=True)


def _command(store: Store, asked: str, format: Format, raw: bool) -> bool:
    """Answer a command of the prompt; False if the text is a query."""
    name, *rest = asked.split() or [""]
    match name.lower(), rest:
        case (("help" | ".help" | "?"), []):
            say(HELP)
        case ".tables", []:
            _answer(store, TABLES, format, raw, ())
        case ".schema", [table]:
            result = store.query(COLUMNS, [table])
            if not result.rows:
                raise UsageError(f"there is no table or view {table!r}; `.tables` lists them")
            print_result(result, format, raw=raw)
        case _:
            if name.startswith("."):
                raise UsageError(f"{asked!r} is not a command of this prompt; `help` lists them")
            return False
    return True


def _asked() -> str | None:
    """The next query or command; None at the end. A query may have several lines."""
    lines: list[str] = []
    while True:
        try:
            line = ask("...> " if lines else "sql> ").strip()
        except EOFError:
            return "\n".join(lines) or None
        word = line.rstrip(";").strip()
        if not lines and (not word or word.lower() in ("exit", "quit", ".exit", ".quit")):
            if word:
                return None
            continue
        if not lines and (word.startswith((".", "?")) or word.lower() == "help"):
            return word
        lines.append(line)
        if not line or line.endswith(";"):
            return "\n".join(lines).strip().rstrip(";")


def _print_table(result: QueryResult, raw: bool) -> None:
    columns = tuple(
        Column(name, right=_is_number(kind)) for name, kind in zip(result.columns, result.types, strict=True)
    )
    table = Table(columns, tuple(tuple(_short(value) for value in row) for row in result.rows))
    table = table if raw else table.visible()
    width = terminal_width(sys.stdout)
    if width is not None and table.width > width:
        print_blocks(table, raw=raw)
    else:
        print_table(table, raw=raw)
    say(f"{len(result.rows)} row{'' if len(result.rows) == 1 else 's'}", DIM)


def _is_number(kind: str) -> bool:
    return kind.startswith(("DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "BIGINT", "INTEGER", "SMALLINT", "UBIGINT"))


def _cell(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=plain, ensure_ascii=False)
    return plain(value) if isinstance(value, (datetime, date)) else value


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else str(value)
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds")
    return cut(str(_cell(value)), LONGEST)
