"""Tables and views of some runs alone: the rows of these runs, under the same names, in one connection.

A question about one run then costs what this run's rows cost, however many others the store holds: several views join
tables with themselves before they can know which run is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb

from simkit.errors import StoreUnreadable
from simkit.store.database import connected, sql_text
from simkit.store.tables import OWNERS, PACKED, literal, rows_of

Packs = Mapping[str, Sequence[str]]
"""Tables for which a packed run has a file, by run."""


def pack_file(store: Path, run: str, table: str) -> Path:
    """The file with the rows of a table in the pack of a run."""
    return store / "packed" / run / f"{table}.parquet"


def read_packs(connection: duckdb.DuckDBPyConnection) -> Packs:
    """The packed runs of a database; none for one of another version. Names that leave the store are left out."""
    try:
        rows = connection.execute("FROM packed_runs").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        return {}
    return {
        run: tuple(table for table in tables if table in OWNERS)
        for run, tables in rows
        if "/" not in run and run not in ("", ".", "..") and "\0" not in run
    }


def pack_files(store: Path, packs: Packs) -> list[str]:
    """All files of packed runs that answers are read from."""
    return [str(pack_file(store, run, table).absolute()) for run in packs for table in packs[run] if table in PACKED]


@contextmanager
def opened_with_packs(database: Path, store: Path, *, external: bool) -> Generator[duckdb.DuckDBPyConnection]:
    """A read-only connection to a database whose tables and views hold the rows of the store's packed runs, too.

    Raises:
        StoreError: the database cannot be opened; see `connected`.
    """
    with connected(
        database, read_only=True, external=external, files=lambda each: pack_files(store, read_packs(each))
    ) as connection:
        add_packs(connection, store)
        yield connection


def add_packs(connection: duckdb.DuckDBPyConnection, store: Path) -> None:
    """Let the tables and views of this connection hold the rows of the store's packed runs, too.

    Raises:
        StoreUnreadable: a file of a pack is missing or damaged; readers then make the database again.
    """
    packs = read_packs(connection)
    if not packs:
        return
    try:
        _define(connection, [_view(table, _rows(connection, store, table, packs)) for table in PACKED])
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.PermissionException) as error:
        raise StoreUnreadable(
            f"a file in {store / 'packed'} is missing or damaged: {str(error).splitlines()[0]}. The journals hold "
            f"everything: delete {store / 'simkit.duckdb'}, and the next command builds it again"
        ) from error


@contextmanager
def scoped(
    connection: duckdb.DuckDBPyConnection, store: Path, runs: Sequence[str], *, copy: bool
) -> Generator[duckdb.DuckDBPyConnection]:
    """A second connection to the same database whose tables and views hold the rows of these runs alone.

    `toolsets`, which several runs share, stays whole.

    Args:
        connection: the database.
        store: the folder that holds the packs.
        runs: their ids.
        copy: copy the rows into memory, for views that join them several times; otherwise they are read where they are.
    """
    with connection.cursor() as own:
        packs = {run: tables for run, tables in read_packs(own).items() if run in runs}
        notes = _view("notes", f"SELECT * FROM {_main(own, 'notes')} WHERE run_id IN ({', '.join(map(literal, runs))})")
        _define(own, [*(_table(own, store, table, runs, packs, copy=copy) for table in OWNERS), notes])
        yield own


def _table(
    connection: duckdb.DuckDBPyConnection, store: Path, table: str, runs: Sequence[str], packs: Packs, *, copy: bool
) -> str:
    rows = _rows(connection, store, table, packs, where=rows_of(table, runs))
    kept = copy and table != "model_calls"  # whole requests and answers, which no view joins
    return f"CREATE TEMP TABLE {table} AS {rows}" if kept else _view(table, rows)


def _view(table: str, rows: str) -> str:
    return f"CREATE TEMP VIEW {table} AS {rows}"


def _rows(connection: duckdb.DuckDBPyConnection, store: Path, table: str, packs: Packs, where: str = "true") -> str:
    """Query of a table's rows in the database and in the packs."""
    loaded = f"SELECT * FROM {_main(connection, table)} WHERE {where}"
    files = [str(pack_file(store, run, table).absolute()) for run in packs if table in packs[run]]
    if table not in PACKED or not files:
        return loaded
    return f"{loaded} UNION ALL BY NAME SELECT * FROM read_parquet([{', '.join(map(literal, files))}])"


def _main(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The database's own table, whatever takes its place in this connection."""
    (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    return f"""\"{str(name).replace('"', '""')}\".main.{table}"""


def _define(connection: duckdb.DuckDBPyConnection, statements: Sequence[str]) -> None:
    """Create temporary tables and all views over them; both take the place of the database's own."""
    connection.execute(";\n".join(statements))
    connection.execute(_temporary_views())


@cache
def _temporary_views() -> str:
    text = re.sub(r"(?m)^COMMENT ON .*\n", "", sql_text("views.sql"))
    return re.sub(r"(?m)^CREATE (VIEW|MACRO)", r"CREATE TEMP \1", text)
