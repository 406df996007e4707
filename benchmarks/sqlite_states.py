"""What a call costs in a world whose state is an SQLite database, as copied images or as changesets.

    python benchmarks/sqlite_states.py

The changesets of the session extension need `pip install apsw`: Python's sqlite3 does not have it. Without apsw
only images are measured.
"""

from __future__ import annotations

import importlib
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from simkit.tools.database import Database

SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
ROW = 120
"""Bytes of a row, roughly."""

READ, WRITE = "select * from items where id = 7", "insert into orders values (?, 'kettle', '')"


def database(size: int) -> Database:
    """A database of about that many bytes."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("create table items (id integer primary key, name text, note text)")
        made.execute("create table orders (id integer primary key, name text, note text)")
        rows = ((number, f"item {number}", "x" * 90) for number in range(size // ROW))
        made.executemany("insert into items values (?, ?, ?)", rows)
        made.commit()
        return Database(made.serialize())


def milliseconds(work: Callable[[int], object], times: int) -> float:
    """Median of a piece of work, in milliseconds."""
    taken: list[float] = []
    for number in range(times):
        start = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3


def read(state: Database) -> None:
    with state.draft() as draft:
        draft.value.execute(READ).fetchall()
        draft.finish()


def write(state: Database, number: int) -> Database:
    with state.draft() as draft:
        draft.value.execute(WRITE, (number,))
        return draft.finish()[0]


def changesets(state: Database, times: int) -> tuple[float, float, int] | None:
    """Milliseconds of a read in a branch of ten changesets and of a write, and bytes of a changeset."""
    try:
        apsw: Any = importlib.import_module("apsw")
    except ModuleNotFoundError:
        return None

    def opened() -> Any:
        connection = apsw.Connection(":memory:")
        connection.deserialize("main", state.image)
        return connection

    def changed(number: int) -> bytes:
        connection = opened()
        session = apsw.Session(connection, "main")
        session.attach()
        connection.execute(WRITE, (number,))
        found = session.changeset()
        session.close()
        connection.close()
        return found

    made = [changed(number) for number in range(10)]

    def branch(_: int) -> None:
        connection = opened()
        for each in made:
            apsw.Changeset.apply(each, connection)
        connection.execute(READ).fetchall()
        connection.close()

    return milliseconds(branch, times), milliseconds(changed, times), len(made[0])


def main() -> None:
    """Print a row for each size."""
    print("size     image: read  write   changesets: read after 10  write   bytes of one")
    for name, size in SIZES.items():
        state, times = database(size), 100 if size < 5_000_000 else 30
        image = (milliseconds(lambda _, s=state: read(s), times), milliseconds(lambda n, s=state: write(s, n), times))
        found = changesets(state, times)
        rest = "not measured: no apsw" if found is None else f"{found[0]:26.2f} {found[1]:6.2f} {found[2]:10d}"
        print(f"{name:8} {image[0]:11.2f} {image[1]:6.2f} {rest}")


if __name__ == "__main__":
    main()
