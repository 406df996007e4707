"""A replica that stays open for a viewer: it follows the journals while it answers, and leaves the store alone.

The store's database is copied without a lock. The copy counts only if nothing was written meanwhile and its marks fit
the journals; otherwise the rows come from the journals. All connections share one open database, so a reader goes on
seeing what it saw when it began while the loader adds lines.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb

from simkit.errors import StoreError, StoreUnreadable, UsageError, reason
from simkit.store.database import connected, loading_error, remove_database, schema_format, stored_format
from simkit.store.loader import LoadReport
from simkit.store.reader import Reader
from simkit.store.reading import LoadProgress, ReadState, journal_sizes, read_marks, read_state
from simkit.store.replica import Replica
from simkit.store.rounds import delete_rows
from simkit.store.scope import add_packs, pack_file, read_packs
from simkit.store.source import open_journal
from simkit.store.tables import PACKED
from simkit.store.transactions import ENDING, transaction

SETTLED = 0.1
"""Seconds since the last write to a database, from which on its time of change tells whether it was written again."""

ROUND = 0.5
"""Seconds of one round of loading: without a bound it would go on as long as a run writes, and nobody would see it."""

PIECE = 4 << 20
"""Bytes that are loaded in one transaction of such a round: its bound is looked at between them."""

FIRST, LONGEST, RATE = 2.0, 60.0, 1_000_000
"""The first round fills the database: its least and most seconds, and bytes of journals a second between them.

It is to load what there is, but not what a run goes on writing meanwhile. What is left comes with the next rounds.
"""

ATTEMPTS = 3
"""Copies of a database that is being written, before its rows are read from the journals."""


class LiveReplica(Replica):
    """A private database that follows a store's journals: `with LiveReplica(folder) as replica`.

    `refresh` may run in one thread while `reading` is used in others.

    Attributes:
        state: how completely each run had been read after the last `refresh`.
        loads: how often rows were loaded or removed: what readers see is the same as long as it is.

    Args:
        folder: the store, which may be read-only.
        cache: folder in which the database is kept for the next viewer of this store; None for a temporary one.
        threads: threads that one query may use.

    Raises:
        UsageError: another viewer uses the cache.
        StoreError: on entry, if the database cannot be made; the message says why.
    """

    def __init__(self, folder: Path, *, cache: Path | None = None, threads: int = 1) -> None:
        super().__init__(folder)
        self.state = ReadState(store=folder)
        self.loads = 0
        self._kept: dict[str, Any] = {}
        self._cache = cache
        self._seconds = LONGEST
        self._threads = threads
        self._known: frozenset[str] = frozenset()

    @contextmanager
    def reading(self) -> Generator[Reader]:
        """A reader of what was loaded last; it sees the same rows until it ends.

        Raises:
            StoreError: the private database, or a pack of the store, cannot be read.
        """
        with self.connection.cursor() as own:
            try:
                add_packs(own, self._store)
                own.begin()
                own.execute("FROM store_format")  # the first query of a transaction decides what all of them see
            except duckdb.Error as error:
                raise loading_error(self.database, error) from error
            yield Reader(self._store, own, self.database, self.state, kept=self._kept)

    def refresh(self) -> LoadReport:
        """Read what was appended to the journals; rows of runs that were deleted go.

        Raises:
            StoreError: the journals cannot be read, or the private database cannot be written.
        """
        try:
            return self._refresh()
        except duckdb.Error as error:
            raise loading_error(self.database, error) from error

    def _refresh(self) -> LoadReport:
        if self._connection is not None and not self._store.is_dir():
            return LoadReport(notes=(f"the store {self._store} is gone; this is what it held",))
        try:
            sizes, before = journal_sizes(self._store), self._sizes
        except OSError as error:
            raise StoreError(
                f"the journals of {self._store} cannot be read: {reason(error)}. Check its rights"
            ) from error
        if self._connection is not None:
            self._remove_stale({name.partition("/")[0] for name in sizes})
        else:
            self._seconds = FIRST if self.copied else min(LONGEST, FIRST + sum(sizes.values()) / RATE)
        try:
            report = super().refresh()
        except StoreUnreadable:  # the private database is damaged
            self._close()
            remove_database(self.database)
            report = super().refresh()
        self._known = frozenset(name.partition("/")[0] for name in sizes)
        self._seconds = ROUND
        if self._loader is not None:
            self._loader.piece = PIECE
        self.loads += self._sizes is not before
        with self.connection.cursor() as own:
            state = read_state(own, ReadState(store=self._store), sizes, read_marks(own))
        if state != self.state or self._sizes is not before:
            self.state, self._kept = state, {}
        return report

    def _remove_stale(self, runs: set[str]) -> None:
        """Remove rows of runs whose journals are gone, or that are in packs which are gone."""
        with self.connection.cursor() as own:
            packs = read_packs(own)
            lost = [
                run
                for run, tables in packs.items()
                if not all(pack_file(self._store, run, table).exists() for table in tables if table in PACKED)
            ]
            for run in {*lost, *(self._known - runs)}:
                with transaction(own):
                    delete_rows(own, run)
                self._sizes = None

    def _folder(self, stack: ExitStack) -> Path:
        return super()._folder(stack) if self._cache is None else stack.enter_context(_kept(self._cache, self._store))

    def _copy_to(self, database: Path) -> bool:
        return any(_copied_unlocked(self._store, database) for _ in range(ATTEMPTS))

    def _connected(self, database: Path) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return _shared(database, self._threads)

    def _release(self) -> None:
        """Nothing: the loader shares the open database."""


@contextmanager
def _shared(database: Path, threads: int) -> Generator[duckdb.DuckDBPyConnection]:
    """The open database that the loader and all readers share."""
    with connected(database, read_only=False) as connection:
        connection.execute(f"SET threads = {max(1, threads)}")
        yield connection


def _copied_unlocked(store: Path, copy: Path) -> bool:
    """Copy the store's database without holding it; False if it was written meanwhile or does not fit the journals."""
    database = store / "simkit.duckdb"
    files = [(database.with_name(database.name + end), copy.with_name(copy.name + end)) for end in (".wal", "")]
    try:
        before = _signs(source for source, _ in files)
        if before is None:
            return False
        for source, target in files:
            if source.exists():
                copy_file(source, target)
        if _signs(source for source, _ in files) == before and _fits(copy, store):
            return True
    except (StoreError, duckdb.Error, OSError, subprocess.SubprocessError):
        pass
    remove_database(copy)
    return False


def copy_file(source: Path, target: Path) -> None:
    """Copy a file in another process: if this one closed it, the system would drop this process's locks on it.

    Raises:
        CalledProcessError: it cannot be copied.
    """
    subprocess.run(["cp", "--", str(source), str(target)], check=True, capture_output=True)


def _signs(files: Iterable[Path]) -> list[tuple[int, int, int] | None] | None:
    """What changes when files are written: inode, size and time; waits until the time would tell a further write."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:
            found.append(None)
            continue
        age = time.time() - status.st_mtime
        if 0 <= age < SETTLED:
            time.sleep(SETTLED - age)
            status = file.stat()
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found if found[-1] is not None else None


def _fits(copy: Path, store: Path) -> bool:
    """Whether a copied database is of this version, and its marks fit the journals (those that are still there)."""
    with connected(copy, read_only=True) as connection:
        if stored_format(connection) != schema_format():
            return False
        return all(_mark_fits(store / "journals" / name, mark) for name, mark in read_marks(connection).items())


def _mark_fits(journal: Path, mark: LoadProgress) -> bool:
    try:
        with closing(open_journal(journal, synced=False)) as source:
            start = max(0, mark.loaded - ENDING)
            found = source.read(start, mark.loaded - start)
            return len(found) == mark.loaded - start and crc32(found) == mark.ending
    except FileNotFoundError:
        return True  # the database is all there is of it
    except OSError:
        return False


@contextmanager
def _kept(cache: Path, store: Path) -> Generator[Path]:
    """The folder in a cache that belongs to a store, locked while it is used."""
    name = blake2b(str(store.resolve()).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    folder = cache / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsageError(f"{folder} cannot keep the viewer's copy: {error}; name another --cache") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another viewer of {store} uses {folder}; leave --cache out, or name another folder"
            ) from error
        with suppress(OSError):
            (folder / "store").write_text(f"{store.resolve()}\n", encoding="utf-8", errors="surrogateescape")
        yield folder
    finally:
        os.close(lock)
