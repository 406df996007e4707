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

MOST_STEPS: Final = 50_000_000
"""Instructions of SQLite's virtual machine that one call may take, so that no query runs for ever."""

_STEPS_BETWEEN: Final = 100_000
_READS: Final = ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list")
"""Pragmas that only read the schema."""

_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_WRITING: Final = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "random", "randomblob"})
"""Functions that reach beyond the database, or whose results never repeat."""

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
        with closing(_memory()) as made:
            for line, statement in _statements(script):
                try:
                    made.execute(statement)
                except sqlite3.Error as error:
                    raise UsageError(f"{name}:{line}: SQLite refuses the statement: {error}") from error
            if made.in_transaction:
                made.commit()
            return cls(_image(made))

    @contextmanager
    def draft(self) -> Generator[_Copy]:
        """A connection to a copy of the database."""
        with closing(_memory(self.image)) as connection:
            yield _Copy(self, connection)

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
    """A connection for one call, which notes the tables that its statements write."""

    def __init__(self, before: Database, connection: sqlite3.Connection) -> None:
        self._before = before
        self._connection = connection
        self._written: set[str] = set()
        self._rounds = 0
        connection.set_authorizer(self._authorize)
        connection.set_progress_handler(self._tired, _STEPS_BETWEEN)

    @property
    def value(self) -> sqlite3.Connection:
        """The connection."""
        return self._connection

    def finish(self) -> tuple[Database, tuple[RowChange, ...]]:
        """The database after the call, and the rows that the call changed."""
        own = self._connection
        if own.in_transaction:
            own.commit()
        own.set_progress_handler(None, 0)
        own.set_authorizer(None)
        if not self._written:
            return self._before, ()
        image = _image(own)
        if image == self._before.image:
            return self._before, ()
        return Database(image), _differences(own, self._before.image, self._written)

    def _authorize(self, action: int, first: str | None, second: str | None, base: str | None, _by: str | None) -> int:
        if action in _FORBIDDEN or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FUNCTIONS):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA and str(first).lower() not in _READS:
            return sqlite3.SQLITE_DENY
        if action in _WRITING and base == "main" and first is not None:
            self._written.add(first)
        return sqlite3.SQLITE_OK

    def _tired(self) -> int:
        self._rounds += 1
        return int(self._rounds * _STEPS_BETWEEN > MOST_STEPS)


def _memory(image: bytes | None = None) -> sqlite3.Connection:
    """A connection to a database in memory, which can be used by any thread, and commits each statement."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if image:
        connection.deserialize(image)
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma temp_store = memory")
    connection.execute(f"pragma max_page_count = {_MOST_PAGES}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    connection.row_factory = _as_dict
    return connection


def _image(connection: sqlite3.Connection) -> bytes:
    """The pages of a database, marked as one without a write-ahead log, which memory cannot have."""
    image = connection.serialize()
    if image[18:20] in (b"", _NO_LOG):
        return image
    return image[:18] + _NO_LOG + image[20:]


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


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
    listed = f"select name from {schema}.sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'"
    return tuple(sorted(row["name"] for row in connection.execute(listed)))


def _columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    return tuple(row["name"] for row in connection.execute(f"pragma table_info({_quoted(table)})"))


def _rows(connection: sqlite3.Connection, table: str, columns: Sequence[str]) -> list[JsonObject]:
    listed = ", ".join(map(_quoted, columns)) or "*"
    return [_plain(row) for row in connection.execute(f"select {listed} from {_quoted(table)}")]


def _plain(row: JsonObject) -> JsonObject:
    """A row as JSON; bytes are shown in hexadecimal digits."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}


def _differences(connection: sqlite3.Connection, before: bytes, written: Iterable[str] | None) -> tuple[RowChange, ...]:
    """The rows that are not the same as in an earlier image, in these tables or in all."""
    connection.execute("attach ':memory:' as before")
    connection.deserialize(before, name="before")
    was, now = _tables(connection, "before"), _tables(connection)
    found: list[RowChange] = []
    for table in sorted({*was, *now} if written is None else {*was, *now}.intersection(written)):
        gone, new = (_only_in(connection, one, other, table) for one, other in (("before", "main"), ("main", "before")))
        found += [RowChange(table, row, removed=True) for row in gone]
        found += [RowChange(table, row) for row in new]
    return tuple(found)


def _only_in(connection: sqlite3.Connection, here: str, there: str, table: str) -> list[JsonObject]:
    """Rows of a table in one schema that are not in the other; equal rows are told apart by their row ids."""
    if table not in _tables(connection, here):
        return []
    one, other = f"{here}.{_quoted(table)}", f"{there}.{_quoted(table)}"
    if table not in _tables(connection, there):
        return [_plain(row) for row in connection.execute(f"select * from {one}")]
    try:
        rows = connection.execute(f"select rowid, * from {one} except select rowid, * from {other}").fetchall()
    except sqlite3.OperationalError:  # a table without row ids, or with other columns than before
        rows = connection.execute(f"select * from {one} except select * from {other}").fetchall()
    names = _columns(connection, table) if here == "main" else None
    return [_plain({name: value for name, value in row.items() if names is None or name in names}) for row in rows]
