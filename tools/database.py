"""A world's state in SQLite: an image of the database, of which each call gets a copy in memory.

    server = FunctionTools(find_items, place_order, state=Database.read("shop.sqlite"))

Branches share images, so a fork copies nothing. A call copies the image (benchmarks/sqlite_states.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from simkit.core.messages import JsonObject
from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.tools.drafts import Draft, DraftedState, RowChange, Tables
from simkit.tools.row_digests import digest_of, table_error
from simkit.tools.sql_guard import Repeatable, SqlGuard, as_dict, check_finite

_SCHEMA: Final = frozenset({"sqlite_master", "sqlite_schema"})
_ROW_IDS: Final = ("rowid", "_rowid_", "oid")
_CLOSED: Final = (
    "a tool closed its database, or used that of an earlier call; use the parameter `db`, leave it open, and keep it "
    "nowhere"
)
_LONGEST: Final = 64 << 20
"""Bytes of one value or statement."""

_MOST_PAGES: Final = 65_536
_NO_LOG: Final = b"\x01\x01"
"""Bytes 18 and 19 of a database without a write-ahead log."""


@dataclass(frozen=True, slots=True)
class Database(DraftedState):
    """An SQLite database as an immutable state. A function with a parameter `db` gets a connection to a copy.

    Rows of the connection are dicts. What a function changes is the next state, unless it answers with an error. SQL in
    arguments cannot reach files: other databases cannot be attached, and settings not be changed. It cannot run for
    ever (`MOST_STEPS`). A statement that SQLite refuses is answered with an error, which changes nothing.
    """

    parameter: ClassVar[str] = "db"
    refusals: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error, OverflowError, UnicodeError)
    """What SQLite says to a statement, and to values that it cannot hold."""
    image: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path | str) -> Database:
        """The database in a file, which is not changed.

        Raises:
            DataMissing: there is no such file.
            DataCorrupt: it is no SQLite database.
        """
        place = Path(path)
        if not place.is_file():
            raise DataMissing(f"there is no database {place}; give the file of an SQLite database")
        try:
            with (
                closing(sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", uri=True)) as file,
                closing(sqlite3.connect(":memory:")) as copy,
            ):
                file.backup(copy)
                return cls(_image(copy))
        except sqlite3.Error as error:
            raise DataCorrupt(f"{place} cannot be read as an SQLite database: {error}") from error

    @classmethod
    def made_by(cls, script: str, name: str = "the script") -> Database:
        """The database that an SQL script makes.

        Raises:
            UsageError: SQLite refuses a statement; the message names its line, as in `name`:LINE.
        """
        with closing(_memory()) as made, closing(Repeatable(made)) as repeatable:
            begun = 1
            try:
                for begun, statement in _statements(script):  # noqa: B007
                    made.execute(statement)
                made.commit()
            except sqlite3.Error as error:
                why = repeatable.reason or error
                raise UsageError(f"{name}:{begun}: SQLite refuses the statement: {why}") from error
            return cls(_image(made))

    @contextmanager
    def draft(self) -> Generator[_Copy]:
        """A connection to a copy of the database.

        Raises:
            UsageError: the function closed it, or used the connection of an earlier call.
        """
        with closing(_memory(self.image)) as connection, closing(SqlGuard(connection)) as guard:
            try:
                yield _Copy(self, connection, guard)
            except sqlite3.ProgrammingError as error:
                if "closed database" in str(error):
                    raise UsageError(_CLOSED) from error
                raise
            except sqlite3.Error as error:
                if guard.reason is None:
                    raise
                raise sqlite3.OperationalError(guard.reason) from error

    def tables(self) -> tuple[str, ...]:
        """Names of the tables, sorted."""
        with closing(_memory(self.image)) as connection:
            return _tables(connection)

    def digest(self, tables: Tables) -> str:
        """Digest of the rows of these tables, whatever their order.

        Raises:
            UsageError: there is no such table or column.
        """
        with closing(_memory(self.image)) as connection:
            known = {table: _columns(connection, table) for table in _tables(connection)}
            for table, columns in tables.items():
                if problem := table_error(table, columns, known):
                    raise UsageError(f"the database {problem}")
            return digest_of({table: _rows(connection, table, columns) for table, columns in tables.items()})

    def changes(self, since: DraftedState) -> tuple[RowChange, ...]:
        """The rows that differ from an earlier state.

        Raises:
            UsageError: the earlier state is no database.
        """
        if not isinstance(since, Database):
            raise UsageError(f"a database cannot be compared with a {type(since).__name__}")
        if since.image == self.image:
            return ()
        with closing(_memory(self.image)) as now:
            return _differences(now, since.image, None)


class _Copy(Draft):
    """A connection for one call."""

    def __init__(self, before: Database, connection: sqlite3.Connection, guard: SqlGuard) -> None:
        self._before = before
        self._connection = connection
        self._guard = guard

    @property
    def value(self) -> sqlite3.Connection:
        """The connection."""
        return self._connection

    def finish(self) -> tuple[Database, tuple[RowChange, ...]]:
        """The database after the call, and the rows that the call changed."""
        own, written = self._connection, self._guard.written
        own.commit()
        self._guard.release()
        if not written:
            return self._before, ()
        image = _image(own)
        if image == self._before.image:
            return self._before, ()
        tables = None if _SCHEMA.intersection(written) else written
        return Database(image), _differences(own, self._before.image, tables)


def _memory(image: bytes | None = None) -> sqlite3.Connection:
    """A connection to a database in memory, which can be used by any thread, and commits each statement."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if image:
        connection.deserialize(image)
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma temp_store = memory")
    connection.execute(f"pragma max_page_count = {_MOST_PAGES}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    connection.row_factory = as_dict
    return connection


def _image(connection: sqlite3.Connection) -> bytes:
    """The pages of a database, marked as one without a write-ahead log, which memory cannot have."""
    image = connection.serialize()
    if image[18:20] in (b"", _NO_LOG):
        return image
    return image[:18] + _NO_LOG + image[20:]


def _statements(script: str) -> Iterable[tuple[int, str]]:
    """The statements of a script, each with the line on which it begins."""
    pending, line = "", 1
    for number, text in enumerate(script.splitlines(keepends=True), 1):
        if not pending.strip():
            pending, line = "", number
        pending += text
        if sqlite3.complete_statement(pending):
            yield line, pending
            pending = ""
    if pending.strip():
        yield line, pending


# --- rows -------------------------------------------------------------------------------------------------------------


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(connection: sqlite3.Connection, schema: str = "main") -> tuple[str, ...]:
    """The tables of a schema, without those in which virtual tables keep their contents."""
    listed = f"select name from {schema}.sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'"
    hidden = {row["name"] for row in connection.execute(f"pragma {schema}.table_list") if row["type"] == "shadow"}
    return tuple(sorted(row["name"] for row in connection.execute(listed) if row["name"] not in hidden))


def _columns(connection: sqlite3.Connection, table: str, schema: str = "main") -> tuple[str, ...]:
    return tuple(row["name"] for row in connection.execute(f"pragma {schema}.table_info({_quoted(table)})"))


def _rows(connection: sqlite3.Connection, table: str, columns: Sequence[str]) -> list[JsonObject]:
    listed = ", ".join(map(_quoted, columns)) or "*"
    return [_plain(row) for row in connection.execute(f"select {listed} from {_quoted(table)}")]


def _plain(row: JsonObject) -> JsonObject:
    """A row as JSON; bytes are shown in hexadecimal digits.

    Raises:
        sqlite3.DataError: a number is infinite.
    """
    check_finite(row.values())
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}


def _differences(connection: sqlite3.Connection, before: bytes, written: Iterable[str] | None) -> tuple[RowChange, ...]:
    """The rows that are not the same as in an earlier image, in these tables or in all."""
    connection.execute("attach ':memory:' as before")
    if before:
        connection.deserialize(before, name="before")
    was, now = _tables(connection, "before"), _tables(connection)
    found: list[RowChange] = []
    for table in sorted({*was, *now} if written is None else {*was, *now}.intersection(written)):
        gone, new = (_only_in(connection, one, other, table) for one, other in (("before", "main"), ("main", "before")))
        found += [RowChange(table, row, removed=True) for row in gone]
        found += [RowChange(table, row) for row in new]
    return tuple(found)


def _only_in(connection: sqlite3.Connection, here: str, there: str, table: str) -> list[JsonObject]:
    """Rows of a table in one schema that are not in the other; equal rows are told apart by their row ids.

    Texts are compared as they are, whatever the collation of their column.
    """
    names = _columns(connection, table, here)
    if not names:  # there is no such table
        return []
    one, other = f"{here}.{_quoted(table)}", f"{there}.{_quoted(table)}"
    values = ", ".join(f"{_quoted(name)} collate binary" for name in names)
    key = next((each for each in _ROW_IDS if each not in map(str.lower, names)), "0")
    cursor = connection.cursor()
    cursor.row_factory = None

    def read(key: str) -> list[tuple[Any, ...]]:
        chosen = f"select {key}, {values} from"
        return cursor.execute(f"{chosen} {one} except {chosen} {other}").fetchall()

    if _columns(connection, table, there) != names:
        rows: list[tuple[Any, ...]] = cursor.execute(f"select 0, {values} from {one}").fetchall()
    else:
        try:
            rows = read(key)
        except sqlite3.OperationalError:  # a table without row ids
            rows = read("0")
    return [_plain(dict(zip(names, row[1:], strict=True))) for row in rows]
