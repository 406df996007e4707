"""The database file: opened only briefly, built from the journals, and rebuilt if its format does not match."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import duckdb

from simkit.errors import StoreBusy, StoreError, StoreUnreadable
from simkit.store.comments import COMMENTS, comment_columns
from simkit.store.files import keep_private, refuse_link, sync_folders

Connection: TypeAlias = duckdb.DuckDBPyConnection


def no_files(_: Connection) -> Sequence[str]:
    """Return nothing: no file besides the database may be read."""
    return ()


def sql_text(name: str) -> str:
    """Text of one of this package's SQL files."""
    return (files("simkit.store") / name).read_text(encoding="utf-8")


def schema_format() -> str:
    """Digest of tables, views and comments. This version reads only database files that carry the same digest."""
    text = sql_text("schema.sql") + sql_text("views.sql") + repr(COMMENTS)
    return blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def connected(
    path: Path, *, read_only: bool, external: bool = False, files: Callable[[Connection], Sequence[str]] = no_files
) -> Generator[Connection]:
    """A connection to the database file, closed on exit.

    A read-only connection runs users' queries and may open files from other people. It can access only the database
    itself, and the files that `files` names (those of packed runs), unless `external` is set.

    Raises:
        StoreBusy: another process holds the file, or this process holds it with another kind of connection.
        StoreUnreadable: the file is not a database.
        StoreError: the file cannot be opened for another reason (permissions, a full disk).
    """
    was_there = path.exists()
    for name in (path, path.with_name(f"{path.name}.wal")):
        try:
            refuse_link(name)
        except OSError as error:
            raise StoreError(f"{name} cannot be opened: {error.strerror}") from error
    try:
        connection = duckdb.connect(path.absolute(), read_only=read_only)  # `md:x` is a file here
    except duckdb.Error as error:
        if not was_there and _is_full(str(error)):
            remove_database(path)  # the incomplete file of a new database is unusable
        raise opening_error(path, error) from error
    try:
        if read_only and not external:
            _close_off(connection, path, files)
        if not was_there:
            keep_private(path)
        yield connection
    finally:
        connection.close()


def _close_off(connection: Connection, path: Path, files: Callable[[Connection], Sequence[str]]) -> None:
    """Disable file and network access, extensions and settings; all connections of a process to a file share this."""
    try:
        allowed = list(files(connection))
        if allowed:
            connection.execute("SET allowed_paths = ?", [allowed])
        for setting in ("python_enable_replacements = false", "enable_external_access = false"):
            connection.execute(f"SET {setting}")
        connection.execute("SET lock_configuration = true")
    except duckdb.InvalidInputException as error:
        row = connection.execute("SELECT current_setting('enable_external_access')").fetchone()
        if row != (False,):
            raise opening_error(path, error) from error


_HELD = ("Conflicting lock", "different configuration", "being used by another", "Unique file handle conflict")
"""Parts of DuckDB's error messages for a file that is in use; the last one means a concurrent use in this process."""


def opening_error(path: Path, error: duckdb.Error) -> StoreError:
    """The error to raise when DuckDB cannot open the file."""
    text = str(error).splitlines()[0]
    if any(words in text for words in _HELD):
        return StoreBusy(f"{_holder(text)} holds {path}; it is free again when that connection is closed")
    if "Cannot open file" in text or "Permission denied" in text or "Read-only file system" in text:
        return StoreError(f"the database {path} cannot be opened: {text}. Check that the store folder is writable")
    if _is_full(text):
        return StoreError(
            f"the database {path} cannot be written: {text}. The journals hold everything; free some space"
        )
    return StoreUnreadable(
        f"the database {path} cannot be read: {text}. Delete it (and {path.name}.wal beside it): "
        "it is rebuilt from the journals by the next command"
    )


def _holder(text: str) -> str:
    """Holder of the file, extracted from DuckDB's error message."""
    process = re.search(r"Conflicting lock is held in (.+? \(PID \d+\))", text)
    if process is None:
        return "another connection"
    return f"another process, {process[1]},"


def _is_full(text: str) -> bool:
    return "Could not write file" in text or "No space left" in text


def damage(path: Path, error: duckdb.Error) -> StoreUnreadable | None:
    """The error for a database that opened but is damaged; None for any other problem."""
    text = str(error).splitlines()[0]
    fatal = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
    if not isinstance(error, fatal) and not any(words in text.lower() for words in _DAMAGED):
        return None
    return StoreUnreadable(
        f"the database {path} is damaged: {text}. Delete it (and {path.name}.wal beside it): "
        "it is rebuilt from the journals by the next command"
    )


def loading_error(path: Path, error: duckdb.Error) -> StoreError:
    """The error to raise when rows cannot be written."""
    text = str(error).splitlines()[0]
    if isinstance(error, (duckdb.BinderException, duckdb.CatalogException)):
        return StoreError(
            f"{path} does not have the tables that this version of simkit loads: {text}. Each field of an event needs a"
            " column of its name in simkit/store/schema.sql. The journals hold everything"
        )
    return damage(path, error) or StoreError(
        f"{path} cannot be written: {text}. The journals hold everything; free some space and load again"
    )


def is_no_database(error: StoreError) -> bool:
    """Whether a file could not be opened because its contents are not a valid database."""
    text = str(error.__cause__).lower()
    return any(words in text for words in _DAMAGED)


_DAMAGED = ("not a valid duckdb database", "corrupt", "checksum", "serialization error", "could not read enough bytes")
"""Parts of DuckDB's error messages for files with invalid contents."""


def rename_damaged(path: Path) -> Path:
    """Rename a database and its log so that a new one can be built; returns the new path."""
    number = 1
    while (renamed := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    log = path.with_name(path.name + ".wal")
    if log.exists():
        log.rename(renamed.with_name(renamed.name + ".wal"))
    path.rename(renamed)
    return renamed


def create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Create all tables, macros and views in an empty database."""
    connection.begin()
    connection.execute(sql_text("schema.sql"))
    connection.execute(sql_text("views.sql"))
    comment_columns(connection)
    connection.execute("INSERT INTO store_format VALUES (?)", [schema_format()])
    connection.commit()


def stored_format(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Format that a database was created with; None for an empty database, '' for one that simkit did not create."""
    try:
        row = connection.execute("SELECT format FROM store_format").fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):  # no such table, or one without such a column
        return "" if connection.execute("SELECT 1 FROM duckdb_tables() LIMIT 1").fetchone() else None
    return str(row[0]) if row else ""


def compact(path: Path) -> bool:
    """Copy a database without its free space, if that is most of it; the copy takes its place when it is complete.

    Returns whether that was worth it.

    Raises:
        StoreError: the database cannot be opened.
    """
    made = path.with_name(f".{path.name}.new")
    remove_database(made)
    with connected(path, read_only=False) as connection:
        connection.execute("CHECKPOINT")
        total, free, name = connection.execute(_BLOCKS).fetchone() or (0, 0, "")
        if 2 * free < total or free < LEAST_FREE:
            return False
        try:
            target = str(made.absolute()).replace("'", "''")
            connection.execute(f"ATTACH '{target}' AS compacted")
            connection.execute("USE compacted")
            create_schema(connection)
            connection.execute("DELETE FROM store_format")
            query = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'compacted' ORDER BY ALL"
            for (table,) in connection.execute(query).fetchall():
                connection.execute(f'INSERT INTO {table} BY NAME FROM "{name}".main.{table}')
            connection.execute(f'USE "{name}"')
            connection.execute("DETACH compacted")
            keep_private(made)
            made.rename(path)
        finally:
            remove_database(made)
    sync_folders(path)
    return True


LEAST_FREE = 16
"""Free blocks, of 256 kB each, below which a database is left as it is."""

_BLOCKS = """
SELECT total_blocks, free_blocks, database_name
FROM pragma_database_size() WHERE database_name = current_database()
"""


def remove_database(path: Path) -> None:
    """Delete the database file with its log."""
    for name in (path, path.with_name(path.name + ".wal")):
        name.unlink(missing_ok=True)
