"""What SQL of tools may not do: reach files, run for ever, read more than fits, or depend on clock and chance."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from math import isfinite
from sys import getsizeof
from typing import Any, Final, TypeAlias

MOST_STEPS: Final = 50_000_000
"""Instructions of SQLite's virtual machine that one call may take, so that no query runs for ever."""

MOST_READ: Final = 64 << 20
"""Bytes of rows that one call may read, as estimated from their values."""

_STEPS_BETWEEN: Final = 100_000
_READS: Final = (
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "foreign_key_list",
    "data_version",  # full-text tables ask for it
)
"""Pragmas that change nothing, and say nothing about the world around the database."""

_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_WRITING: Final = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_OUTSIDE: Final = frozenset({"load_extension", "fts3_tokenizer"})
"""Functions that reach beyond the database."""

_CHANCE: Final = ("random", "randomblob")
_MOMENTS: Final = ("current_timestamp", "current_date", "current_time")
_DATES: Final = {"date": 0, "time": 0, "datetime": 0, "julianday": 0, "unixepoch": 0, "strftime": 1}
"""Functions of dates, with the number of arguments before the time."""

_NOW: Final = frozenset({"now", "subsec", "subsecond"})
_ZONES: Final = frozenset({"localtime", "utc"})
"""Modifiers that depend on the time zone of the machine."""

_ROW = 200  # bytes that Python needs for a row without its values

Row: TypeAlias = dict[str, Any]


class Repeatable:
    """Replaces the functions of one connection that draw random numbers or read the clock or the time zone.

    They fail: the same calls must give the same results. They are replaced instead of forbidden, since SQLite asks for
    no permission to evaluate a column's default.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.reason: str | None = None
        self._plain: sqlite3.Connection | None = None
        for name in _CHANCE:
            connection.create_function(name, -1, self._refusal(f"{name}() draws a random number"), deterministic=True)
        for name in _MOMENTS:
            connection.create_function(name, 0, self._refusal(f"{name} reads the clock"), deterministic=True)
        for name, before in _DATES.items():
            connection.create_function(name, -1, self._dated(name, before), deterministic=True)

    def close(self) -> None:
        """End what the functions of dates have used."""
        if self._plain is not None:
            self._plain.close()

    def _refusal(self, what: str) -> Callable[..., Any]:
        def refuse(*_: object) -> None:
            self.reason = f"{what}, and the same calls must give the same results; give the value itself"
            raise sqlite3.DataError(self.reason)

        return refuse

    def _dated(self, name: str, before: int) -> Callable[..., Any]:
        reads_clock = self._refusal(f"{name}() reads the clock")
        reads_zone = self._refusal(f"{name}() reads the time zone of this machine")

        def compute(*given: Any) -> Any:
            texts = [each.lower() if isinstance(each, str) else "" for each in given]
            if len(texts) == before or (len(texts) > before and texts[before] in _NOW):
                reads_clock()
            if not _ZONES.isdisjoint(texts[before + 1 :]):
                reads_zone()
            if self._plain is None:
                self._plain = sqlite3.connect(":memory:", check_same_thread=False)
            return self._plain.execute(f"select {name}({', '.join('?' * len(given))})", given).fetchone()[0]

        return compute


class SqlGuard(Repeatable):
    """Watches the connection of one call. It notes which tables are written, and why a statement was refused."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.written: set[str] = set()
        self._connection = connection
        self._rounds = 0
        self._read = 0
        connection.set_authorizer(self._authorize)
        connection.set_progress_handler(self._tired, _STEPS_BETWEEN)
        connection.row_factory = self._row

    def release(self) -> None:
        """Let the caller do what it likes with the connection."""
        self._connection.set_progress_handler(None, 0)
        self._connection.set_authorizer(None)
        self._connection.row_factory = as_dict

    def _authorize(self, action: int, first: str | None, second: str | None, base: str | None, _by: str | None) -> int:
        if action in _FORBIDDEN or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _OUTSIDE):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA and str(first).lower() not in _READS:
            return sqlite3.SQLITE_DENY
        if action in _WRITING and base == "main" and first is not None:
            self.written.add(first)
        return sqlite3.SQLITE_OK

    def _tired(self) -> int:
        self._rounds += 1
        if self._rounds * _STEPS_BETWEEN <= MOST_STEPS:
            return 0
        self.reason = f"the SQL takes too long (more than {MOST_STEPS:,} steps); ask for less"
        return 1

    def _row(self, cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
        check_finite(values)
        self._read += _ROW + sum(map(getsizeof, values))
        if self._read > MOST_READ:
            raise sqlite3.DataError(f"the SQL reads more than {MOST_READ >> 20} MB; ask for less")
        return as_dict(cursor, values)


def as_dict(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    """A row with the names of its columns."""
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


def check_finite(values: Iterable[Any]) -> None:
    """Check that JSON has all numbers of a row.

    Raises:
        sqlite3.DataError: one is infinite.
    """
    for each in values:
        if type(each) is float and not isfinite(each):
            raise sqlite3.DataError("a number is infinite, which JSON does not have")
