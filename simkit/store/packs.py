"""Packs: the rows of a finished run as Parquet files, `packed/RUN/TABLE.parquet` in the store.

A pack is made from the database and can be made again from the journals, which stay. It holds all rows of its run;
those of the large tables (`PACKED`) leave the database. The table `packed_runs` decides where rows are read: a pack
that it does not list is not read. It changes in the transaction that deletes the rows, so that after a power cut each
row is in one place. A new database takes rows from packs that fit their journals instead of reading those again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb
import orjson

from simkit.errors import StoreBusy, UsageError
from simkit.store.archive import compress
from simkit.store.files import keep_private, lock_for_writing, make_folder, open_plain, refuse_link
from simkit.store.reading import LoadProgress
from simkit.store.source import JournalSource, find_journals, journal_name, size_of
from simkit.store.tables import OWNERS, PACKED, literal, rows_of
from simkit.store.transactions import ENDING, transaction

FOLDER, MANIFEST = "packed", "pack.json"

WRITTEN = tuple(table for table in OWNERS if table != "packed_runs")
"""Tables that a pack has files of, besides `toolsets`."""


def pack_run(connection: duckdb.DuckDBPyConnection, folder: Path, run: str) -> None:
    """Move the rows of a finished run from the database to Parquet files, and compress its journals.

    Whatever is done already is not done again, so a pack that was cut off goes on.

    Raises:
        UsageError: the run has not ended, or the database does not hold all of it.
        StoreBusy: a process is writing its journals.
        OSError: a file cannot be written.
    """
    with locked_journals(folder, run) as journals:
        _check(connection, folder, run, journals)
        if connection.execute("SELECT 1 FROM packed_runs WHERE run_id = ?", [run]).fetchone() is None:
            tables = _write(connection, folder, run)
            with transaction(connection):
                for table in PACKED:
                    connection.execute(f"DELETE FROM {table} WHERE {rows_of(table, (run,))}")
                connection.execute("INSERT INTO packed_runs VALUES (?, ?)", [run, tables])
        for journal in journals:
            if journal.exists():
                compress(journal)


@contextmanager
def locked_journals(folder: Path, run: str) -> Generator[list[Path]]:
    """Keep every process from writing to the journals of a run; yields their paths.

    Raises:
        StoreBusy: a process is writing to one.
        OSError: they cannot be read.
    """
    found = find_journals(folder, (run,))
    for _, error in found.troubles:
        raise error
    journals = found.runs.get(run, [])
    held: list[int] = []
    try:
        for journal in journals:
            with suppress(FileNotFoundError):  # it is compressed: nobody writes to it
                held.append(open_plain(journal, os.O_RDONLY))
                lock_for_writing(held[-1])
        yield journals
    except BlockingIOError as error:
        raise StoreBusy(f"a process is playing the run {run}; wait until it has ended") from error
    finally:
        for file in held:
            os.close(file)


def _check(connection: duckdb.DuckDBPyConnection, folder: Path, run: str, journals: Sequence[Path]) -> None:
    row = connection.execute("SELECT status FROM runs WHERE run_id = ?", [run]).fetchone()
    if row is None or row[0] == "running":
        raise UsageError(
            f"the run {run} has not come to its end, and only finished runs are packed; `simkit resume {run}`"
        )
    marks = dict(connection.execute("SELECT journal, loaded FROM journals").fetchall())
    for journal in journals:
        if marks.get(journal_name(journal)) != size_of(journal):
            raise UsageError(f"{journal} holds lines that could not be loaded; `simkit doctor --verify {run}` says why")
    if not journals:
        raise UsageError(
            f"the run {run} has no journal in {folder}: its rows are in the database alone, and stay there"
        )


def _write(connection: duckdb.DuckDBPyConnection, folder: Path, run: str) -> list[str]:
    """Write the pack of a run; it takes its name when it is complete on the disk. Returns the tables with rows."""
    place, made = folder / FOLDER / run, folder / FOLDER / f".{run}.new"
    shutil.rmtree(made, ignore_errors=True)
    make_folder(made)
    chosen = {table: f"FROM {table} WHERE {rows_of(table, (run,))}" for table in WRITTEN}
    chosen["toolsets"] = f"FROM toolsets SEMI JOIN (FROM episodes WHERE run_id = {literal(run)}) USING (toolset_id)"
    tables = [table for table, rows in chosen.items() if connection.execute(f"{rows} LIMIT 1").fetchone()]
    for table in tables:
        file = made / f"{table}.parquet"
        connection.execute(f"COPY ({chosen[table]}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)")
        keep_private(file)
    manifest = made / MANIFEST
    manifest.write_bytes(orjson.dumps({"tables": tables, "columns": _columns(connection)}))
    keep_private(manifest)
    for file in (*made.iterdir(), made):
        _sync(file)
    shutil.rmtree(place, ignore_errors=True)
    made.rename(place)
    _sync(place.parent)
    _sync(folder)
    return tables


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Columns of the tables with their types: a pack with others was written by another version."""
    found: dict[str, dict[str, str]] = {}
    query = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
    )
    for table, column, kind in connection.execute(query).fetchall():
        if table in (*WRITTEN, "toolsets"):
            found.setdefault(table, {})[column] = kind
    return found


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def adopt_packs(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    runs: Sequence[str] | None,
    opener: Callable[[Path], JournalSource],
) -> None:
    """Take the rows of packs into a new database, for the runs whose journals are those that the packs were made from.

    Raises:
        OSError: the folder of the packs cannot be read.
    """
    top = folder / FOLDER
    if not top.exists():
        return
    refuse_link(top)
    for name in sorted(os.listdir(top)):
        if (runs is None or name in runs) and not name.startswith(".") and not (top / name).is_symlink():
            with suppress(OSError, duckdb.Error, orjson.JSONDecodeError, KeyError, TypeError):  # then from its journals
                _adopt(connection, folder, name, opener)


def _adopt(
    connection: duckdb.DuckDBPyConnection, folder: Path, run: str, opener: Callable[[Path], JournalSource]
) -> None:
    place = folder / FOLDER / run
    manifest: Mapping[str, Any] = orjson.loads((place / MANIFEST).read_bytes())
    tables = [str(table) for table in manifest["tables"]]
    if manifest["columns"] != _columns(connection) or not {*tables} <= {*WRITTEN, "toolsets"}:
        return
    files = {table: literal(str(place / f"{table}.parquet")) for table in tables}
    names = ", ".join(("journal", *(each.name for each in fields(LoadProgress))))
    marks = connection.execute(f"SELECT {names} FROM read_parquet({files['journals']})").fetchall()
    known = {str(name): LoadProgress(*rest) for name, *rest in marks}
    journals = find_journals(folder, (run,)).runs.get(run, ())
    if {*known} != {*map(journal_name, journals)} or not all(_fits(path, known, opener) for path in journals):
        return
    with transaction(connection):
        for table, file in files.items():
            rows = f"SELECT * FROM read_parquet({file})"
            if table in PACKED:
                connection.execute(f"{rows} LIMIT 1")  # it must be there, and be read
            elif table == "toolsets":
                connection.execute(f"INSERT INTO toolsets BY NAME {rows} ANTI JOIN toolsets USING (toolset_id)")
            else:
                connection.execute(f"INSERT INTO {table} BY NAME {rows}")
        connection.execute("INSERT INTO packed_runs VALUES (?, ?)", [run, tables])


def _fits(path: Path, known: Mapping[str, LoadProgress], opener: Callable[[Path], JournalSource]) -> bool:
    """Whether a journal ends with the bytes that were loaded last."""
    mark = known[journal_name(path)]
    source = opener(path)
    try:
        start = max(0, mark.loaded - ENDING)
        return source.size() == mark.loaded and crc32(source.read(start, mark.loaded - start)) == mark.ending
    finally:
        source.close()


def remove_stray_packs(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Delete packs that the database does not read: of a pack that was cut off, or of a run that went on since."""
    known = {str(run) for (run,) in connection.execute("SELECT run_id FROM packed_runs").fetchall()}
    with suppress(FileNotFoundError):
        for name in os.listdir(folder / FOLDER):
            if name not in known:
                shutil.rmtree(folder / FOLDER / name, ignore_errors=True)
