"""`simkit sql`: one query, or a prompt."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from simkit.cli.notes import print_notes
from simkit.cli.output import DIM, ask, say, say_csv, say_json
from simkit.cli.stores import open_store
from simkit.cli.tables import print_blocks, print_table, terminal_width
from simkit.core.text_table import Column, Table, cut
from simkit.errors import SimkitError

if TYPE_CHECKING:
    from simkit.store import QueryResult, Store

Format: TypeAlias = Literal["table", "csv", "json"]

LONGEST = 200
"""Maximum cells of one value in a table; the other formats show all of it."""

WELCOME = """SQL over {path}; one query a line, an empty line or Ctrl-D ends.
Tables: runs, tasks, episodes, branches, messages, tool_calls, rewards, harvests, model_calls.
Views: run_summary, episode_scores, harvest_counts, sft_examples, kto_examples, dpo_pairs.
A whole conversation: FROM conversation('BRANCH ID')"""


def sql(path: Path | None, query: str | None, format: Format, raw: bool = False, external: bool = False) -> None:
    """Answer a query, or open a prompt without one.

    Raises:
        UsageError, StoreError: the store does not exist, or the query cannot be answered.
    """
    store = open_store(path, external=external)
    if query is not None:
        _answer(store, query, format, raw)
        return
    _prompt(store, format, raw)


def _answer(store: Store, query: str, format: Format, raw: bool) -> None:
    result = store.query(query)
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
            for row in result.rows:
                say_json(dict(zip(result.columns, row, strict=True)), plain)


def plain(value: object) -> object:
    """A database value as a JSON value."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _prompt(store: Store, format: Format, raw: bool) -> None:
    with suppress(ImportError):
        import_module("readline")  # adds line editing and history to input()
    say(WELCOME.format(path=store.path))
    while line := _read():
        try:
            _answer(store, line, format, raw)
        except SimkitError as error:
            say(f"error: {error}", err=True)


def _read() -> str:
    try:
        return ask("sql> ").strip().rstrip(";")
    except EOFError:
        return ""


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
