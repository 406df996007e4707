"""From journals to the database: whole lines, exactly once, in short transactions.

How far a journal has been loaded is a row of the table `journals`, changed in the transaction that loads its lines:
after any crash both are there or neither. The text is parsed by DuckDB, in its own threads and without Python's lock,
so loading does not slow a run that is going in this process. Loaders of several processes take turns by a lock file;
whoever finds the database held skips the round.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import duckdb
from anyio import to_thread

from simkit.errors import StoreBusy, StoreError, StoreUnreadable
from simkit.store.database import (
    connected,
    create_schema,
    loading_error,
    remove_database,
    schema_format,
    sql_text,
    stored_format,
)

PIECE = 32 << 20
"""Bytes of a journal that are loaded in one transaction (a longer line is loaded alone)."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a journal that could not be read; `byte` is where it starts, `line` counts from 1."""

    journal: Path
    byte: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a round did. `finished` is False when it stopped at its time limit with more to load."""

    lines: int = 0
    bytes: int = 0
    finished: bool = True
    unreadable: tuple[BadLine, ...] = ()

    def raise_unreadable(self) -> None:
        """Complain about lines that could not be read.

        Raises:
            StoreUnreadable: there were some; everything else has been loaded.
        """
        if self.unreadable:
            raise StoreUnreadable(describe(self.unreadable))


def describe(lines: tuple[BadLine, ...]) -> str:
    """Bad lines in words: where, why, and what to do."""
    first = lines[0]
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return (
        f"{first.journal}, line {first.line} (byte {first.byte}){more} cannot be read: {first.reason}. It was left out "
        "and all other lines were loaded; `FROM unreadable_lines` lists them. Mend the line and delete simkit.duckdb "
        "to load everything again, or go on without it"
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a journal has been loaded."""

    loaded: int = 0
    lines: int = 0


@dataclass(slots=True)
class _Round:
    """One round under way."""

    connection: duckdb.DuckDBPyConnection
    folder: Path
    scratch: Path
    piece: int
    deadline: float
    lines: int = 0
    bytes: int = 0
    bad: list[BadLine] = field(default_factory=list[BadLine])


class Loader:
    """Loads the journals of one store folder into its database.

    Args:
        folder: the store: `journals/<run_id>/<worker>.jsonl` are read.
        piece: bytes loaded in one transaction.
        database: the file to write; the store's `simkit.duckdb` by default.
        lock: the file by which loaders of one database take turns; the store's `.loading` by default.
        runs: ids of the runs to load; None for all of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        piece: int = PIECE,
        database: Path | None = None,
        lock: Path | None = None,
        runs: Sequence[str] | None = None,
    ) -> None:
        self.folder = folder
        self.database = database or folder / "simkit.duckdb"
        self._lock = lock or folder / ".loading"
        self._piece = piece
        self._runs = runs

    def load(self, seconds: float | None = None) -> LoadReport:
        """One round: everything that is in the journals now, or as much as fits into `seconds`.

        Raises:
            StoreBusy: somebody else holds the database, or is loading.
            StoreUnreadable: the database file, or a journal as a whole, is not what it should be.
            StoreError: the folder cannot be written.
        """
        deadline = time.monotonic() + seconds if seconds is not None else float("inf")
        try:
            with self._exclusive(), self._opened() as connection, tempfile.TemporaryDirectory() as scratch:
                work = _Round(connection, self.folder, Path(scratch), self._piece, deadline)
                finished = _load_all(work, journal_files(self.folder, self._runs))
                return LoadReport(work.lines, work.bytes, finished, tuple(work.bad))
        except duckdb.Error as error:
            raise loading_error(self.database, error) from error
        except OSError as error:
            raise StoreError(f"the store {self.folder} cannot be loaded: {error}. Check the disk and rights") from error

    @contextmanager
    def _exclusive(self) -> Generator[None]:
        """The right to load: one loader at a time on this machine."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreBusy(f"somebody else is loading {self.folder} right now") from error
        try:
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _opened(self) -> Generator[duckdb.DuckDBPyConnection]:
        """The database of this version, made new when there is none or when it is another version's."""
        with connected(self.database, read_only=False) as connection:
            found = stored_format(connection)
            if found is None:
                create_schema(connection)
            if found in (None, schema_format()):
                yield connection
                return
            self.check_rebuildable(connection)
        remove_database(self.database)
        with connected(self.database, read_only=False) as connection:
            create_schema(connection)
            yield connection

    def check_rebuildable(self, connection: duckdb.DuckDBPyConnection) -> None:
        """A database of another version may go only if the journals it was made from are still there.

        Raises:
            StoreUnreadable: they are not, or it is no database of simkit's.
        """
        try:
            marks = read_marks(connection)
        except duckdb.Error as error:
            raise StoreUnreadable(
                f"{self.database} was not made by simkit; move it away, the store makes its own"
            ) from error
        for name, mark in marks.items():
            path = self.folder / "journals" / name
            if not path.exists() or size_of(path) < mark.loaded:
                raise StoreUnreadable(
                    f"{self.database} was made by another version of simkit and cannot be rebuilt, because the journal "
                    f"{path} is gone or shorter than it was. Put it back, or move the database away and start anew"
                )


def size_of(journal: Path) -> int:
    """Bytes of a journal; none when it is gone again, with a run that recorded nothing."""
    try:
        return journal.stat().st_size
    except FileNotFoundError:
        return 0


def journal_files(folder: Path, runs: Sequence[str] | None = None) -> list[Path]:
    """The journals of some runs of a store, by default of all, in the order of their names."""
    journals = folder / "journals"
    if runs is None:
        return sorted(journals.glob("*/*.jsonl"))
    return [path for run in sorted({*runs}) for path in sorted((journals / run).glob("*.jsonl"))]


def journal_name(folder: Path, path: Path) -> str:
    """A journal as the database knows it: `run_id/worker.jsonl`."""
    return path.relative_to(folder / "journals").as_posix()


def read_marks(connection: duckdb.DuckDBPyConnection) -> dict[str, Mark]:
    """How far each journal has been loaded."""
    rows = connection.execute("SELECT journal, loaded, lines FROM journals").fetchall()
    return {str(name): Mark(int(loaded), int(lines)) for name, loaded, lines in rows}


def _load_all(work: _Round, files: Sequence[Path]) -> bool:
    marks = read_marks(work.connection)
    for path in files:
        name = journal_name(work.folder, path)
        mark: Mark | None = marks.get(name, Mark())
        if size_of(path) < mark.loaded:
            raise StoreUnreadable(
                f"the journal {path} is shorter than what was loaded from it: it was changed or replaced. "
                "Put the old one back, or delete simkit.duckdb to rebuild from what is there"
            )
        while (mark := _load_piece(work, path, mark)) is not None:
            if time.monotonic() > work.deadline:
                return False
    return True


def _load_piece(work: _Round, path: Path, mark: Mark) -> Mark | None:
    """Load the next whole lines of a journal; None when there are none."""
    data = whole_lines(path, mark.loaded, work.piece)
    if not data:
        return None
    return _load_lines(work, path, data, mark)


def _load_lines(work: _Round, path: Path, data: bytes, mark: Mark) -> Mark:
    """Load lines in one transaction; when one of them is bad, halve them until it stands alone."""
    count = data.count(b"\n")
    after = Mark(mark.loaded + len(data), mark.lines + count)
    try:
        _insert(work, path, data, after)
    except (duckdb.DataError, duckdb.InvalidInputException, duckdb.IntegrityError) as error:
        if count == 1:
            _leave_out(work, path, mark, after, error)
            return after
        middle = _middle(data)
        return _load_lines(work, path, data[middle:], _load_lines(work, path, data[:middle], mark))
    work.lines += count
    work.bytes += len(data)
    return after


def _middle(data: bytes) -> int:
    """Where to cut two or more lines in about half."""
    cut = data.find(b"\n", len(data) // 2) + 1
    return cut if 0 < cut < len(data) else data.rfind(b"\n", 0, len(data) - 1) + 1


def _insert(work: _Round, path: Path, data: bytes, after: Mark) -> None:
    piece = work.scratch / "piece.jsonl"
    piece.write_bytes(data)
    name = journal_name(work.folder, path)
    with _transaction(work.connection):
        values = {"piece": str(piece), "journal": name, "largest": max(len(data), 1 << 20)}
        work.connection.execute(sql_text("stage.sql"), values)
        work.connection.execute(sql_text("load.sql"))
        _set_mark(work.connection, name, after)


def _leave_out(work: _Round, path: Path, mark: Mark, after: Mark, error: duckdb.Error) -> None:
    """Go past a line that cannot be read, and remember it."""
    name = journal_name(work.folder, path)
    bad = BadLine(path, mark.loaded, after.lines, _reason(error))
    with _transaction(work.connection):
        work.connection.execute(
            "INSERT INTO unreadable_lines VALUES (?, ?, ?, ?)", [name, bad.byte, bad.line, bad.reason]
        )
        _set_mark(work.connection, name, after)
    work.bad.append(bad)


def _set_mark(connection: duckdb.DuckDBPyConnection, name: str, mark: Mark) -> None:
    connection.execute("DELETE FROM journals WHERE journal = ?", [name])
    connection.execute("INSERT INTO journals VALUES (?, ?, ?)", [name, mark.loaded, mark.lines])


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _reason(error: duckdb.Error) -> str:
    """DuckDB's complaint without the name of the scratch file and its advice."""
    text = str(error).splitlines()[0]
    return text.partition(", in line 1: ")[2] or text.rpartition(" in line 2: ")[2] or text


def whole_lines(path: Path, start: int, piece: int) -> bytes:
    """About `piece` bytes of whole lines from byte `start` on: at least one line, empty when there is none."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(piece)
        while (end := data.rfind(b"\n") + 1) == 0:  # one line longer than a piece
            more = file.read(max(piece, len(data)))
            if not more:
                return b""
            data += more
        return data[:end]


PAUSE_PER_SECOND = 9.0
"""Seconds of rest after each second of loading while a run goes."""


async def keep_loaded(loader: Loader, every: float = 2.0) -> None:
    """Load in a thread every so many seconds, until cancelled: start it in the task group of a run.

    A round that took long is followed by a longer pause, so that loading takes a tenth of the time at most.

    Nothing waits for it and nothing fails because of it: a round that finds the database held is skipped, and what else
    is wrong with the database is for the load at the end of the run to say. The journals are the truth meanwhile.
    """
    pause = every
    while True:
        await anyio.sleep(pause)
        began = time.monotonic()
        await to_thread.run_sync(_try_round, loader, every)
        pause = max(every, PAUSE_PER_SECOND * (time.monotonic() - began))


def _try_round(loader: Loader, seconds: float) -> None:
    with suppress(StoreError):
        loader.load(seconds)
