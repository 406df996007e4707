"""`simkit sql`: one query, or a prompt."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import typer

from simkit.cli.stores import open_store
from simkit.cli.tables import Column, Table, cut, print_blocks, print_table, terminal_width
from simkit.errors import SimkitError

if TYPE_CHECKING:
    from simkit.store import QueryResult, Store

Format: TypeAlias = Literal["table", "csv", "json"]

LONGEST = 200
"""Cells of one value in a table; the other formats give all of it."""

WELCOME = """SQL over {path}; one query a line, an empty line or Ctrl-D ends.
Tables: runs, tasks, episodes, branches, messages, tool_calls, rewards, harvests, model_calls.
Views: run_summary, episode_scores, harvest_counts, sft_examples, kto_examples, dpo_pairs.
A whole conversation: FROM conversation('BRANCH ID')"""


def sql(path: Path | None, query: str | None, format: Format) -> None:
    """Answer a query, or open a prompt when there is none.

    Raises:
        UsageError, StoreError: there is no store, or the query cannot be answered.
    """
    store = open_store(path)
    if query is not None:
        print_result(store.query(query), format)
        return
    _prompt(store, format)


def print_result(result: QueryResult, format: Format) -> None:
    """Print rows as a table, as CSV with a header, or as one JSON object a line."""
    match format:
        case "table":
            _print_table(result)
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(result.columns)
            writer.writerows([[_cell(value) for value in row] for row in result.rows])
        case "json":
            for row in result.rows:
                typer.echo(json.dumps(dict(zip(result.columns, row, strict=True)), default=plain, ensure_ascii=False))


def plain(value: object) -> object:
    """A value of the database as JSON has it."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _prompt(store: Store, format: Format) -> None:
    with suppress(ImportError):
        import_module("readline")  # gives input() line editing and history
    typer.echo(WELCOME.format(path=store.path))
    while line := _read():
        try:
            print_result(store.query(line), format)
        except SimkitError as error:
            typer.echo(f"error: {error}", err=True)


def _read() -> str:
    try:
        return input("sql> ").strip().rstrip(";")
    except EOFError:
        return ""


def _print_table(result: QueryResult) -> None:
    columns = tuple(
        Column(name, right=_is_number(kind)) for name, kind in zip(result.columns, result.types, strict=True)
    )
    table = Table(columns, tuple(tuple(_short(value) for value in row) for row in result.rows))
    width = terminal_width(sys.stdout)
    if width is not None and table.width > width:
        print_blocks(table)
    else:
        print_table(table)
    typer.secho(f"{len(result.rows)} row{'' if len(result.rows) == 1 else 's'}", dim=True)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)


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
