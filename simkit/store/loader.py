"""Loader from journals to the database: intact lines, exactly once, in the order written, in short transactions.

A row of the table `journals` records how far each journal has been loaded. It changes in the transaction that loads the
lines, so a crash leaves both or neither. The journal is synced to disk before the transaction is committed, so the
database never contains more than the journals, even after a power failure. DuckDB parses the text in its own threads
without Python's lock, so loading does not slow down a run in this process. A lock file serializes the loaders of
several processes; a loader that finds the database in use skips the round.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import duckdb
from anyio import to_thread

from simkit.errors import StoreBusy, StoreError, StoreUnreadable
from simkit.store.damage import BadLine, DamageFile, describe_runs, known_damage
from simkit.store.database import (
    compact,
    connected,
    create_schema,
    damage,
    is_no_database,
    loading_error,
    remove_database,
    rename_damaged,
    schema_format,
    stored_format,
)
from simkit.store.files import PRUNED, keep_private, open_private, scratch_folder
from simkit.store.notes import load_notes
from simkit.store.rounds import load_all
from simkit.store.source import SourceOpener, file_of, open_journal, size_of
from simkit.store.transactions import LoadingRound

PIECE = 32 << 20
"""Bytes of a journal loaded in one transaction (a longer line is loaded alone)."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Result of a loading round.

    Attributes:
        lines, bytes: number of lines and bytes loaded.
        finished: False if the time limit ended the round before everything was loaded.
        unreadable: damage found in this round; the store keeps it (`Store.damage`).
        damaged: all unacknowledged damage of the store, whenever it was found.
        notes: messages about other events, such as the rebuild of a damaged database.
    """

    lines: int = 0
    bytes: int = 0
    finished: bool = True
    unreadable: tuple[BadLine, ...] = ()
    damaged: tuple[BadLine, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages about events in the database and about damaged runs."""
        return (*self.notes, *describe_runs(self.damaged))


class Loader:
    """Loads the journals of one store folder into its database.

    A damaged database is renamed and rebuilt from the journals. A database of another version is rebuilt too; the old
    file is kept under another name if a journal that it was built from is missing or has become shorter.

    Args:
        folder: the store; the files `journals/<run_id>/<worker>.jsonl` are read, or `.jsonl.zst`.
        piece: bytes loaded in one transaction.
        database: the file to write; the store's `simkit.duckdb` by default.
        lock: the lock file that serializes loaders of one database; the store's `.loading` by default.
        runs: ids of the runs to load; None for all of them.
        source: function that opens a journal for reading; tests replace it.

    Attributes:
        piece: bytes loaded in one transaction from the next round on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        piece: int = PIECE,
        database: Path | None = None,
        lock: Path | None = None,
        runs: Sequence[str] | None = None,
        source: SourceOpener = open_journal,
    ) -> None:
        self.folder = folder
        self.database = database or folder / "simkit.duckdb"
        self.lock = lock or folder / ".loading"
        self.damage = DamageFile(folder)
        self.piece = piece
        self._runs = runs
        self._source = source

    def load(self, seconds: float | None = None) -> LoadReport:
        """Run one round: load everything now in the journals, or as much as fits into `seconds`.

        Raises:
            StoreBusy: another process holds the database or is loading.
            StoreUnreadable: the database file was not created by simkit.
            StoreError: the folder cannot be written.
        """
        return self._load(seconds)

    def renew(self) -> LoadReport:
        """Rename the database, because it is damaged, and rebuild it; raises the same errors as `load`."""
        return self._load(renew=True)

    def reload(self, runs: Iterable[str]) -> LoadReport:
        """Rebuild the rows of some runs from their journals, and load the rest; raises the same errors as `load`."""
        return self._load(again=frozenset(runs))

    def _load(
        self, seconds: float | None = None, *, again: frozenset[str] = frozenset(), renew: bool = False
    ) -> LoadReport:
        deadline = time.monotonic() + seconds if seconds is not None else float("inf")
        notes: list[str] = []
        try:
            with self._exclusive(), scratch_folder() as scratch:
                if renew and self.database.exists():
                    notes.append(self._renewed("a question met damage in it"))
                try:
                    return self._round(scratch, deadline, again, notes)
                except duckdb.Error as error:
                    if damage(self.database, error) is None:
                        raise
                    notes.append(self._renewed(str(error).splitlines()[0]))
                    return self._round(scratch, deadline, again, notes)
        except duckdb.Error as error:
            raise loading_error(self.database, error) from error
        except OSError as error:
            raise StoreError(f"the store {self.folder} cannot be loaded: {error}. Check the disk and rights") from error

    def acknowledge(self, bad: Sequence[BadLine]) -> None:
        """Record damage as acknowledged; the next round updates the database.

        Raises:
            StoreError: the store cannot be written.
        """
        try:
            self.damage.acknowledge(bad)
        except OSError as error:
            raise StoreError(f"{self.damage.path} cannot be written: {error.strerror or error}") from error

    def _round(self, scratch: Path, deadline: float, again: frozenset[str], notes: list[str]) -> LoadReport:
        with self._opened(notes) as connection:
            self._settle(connection)
            work = LoadingRound(
                connection, self.folder, scratch, self.piece, deadline, self._source, self.damage, again
            )
            finished = load_all(work, self._runs)
            load_notes(connection, self.folder)
            damaged = known_damage(connection, self.folder)
            return LoadReport(work.lines, work.bytes, finished, tuple(work.bad), damaged, tuple(notes))

    def _settle(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Finish what a command that packed or deleted runs had begun, and fill a new database from packs."""
        own = self.database == self.folder / "simkit.duckdb"
        if (self.folder / PRUNED).exists():
            from simkit.store.pruning import finish_pruning

            finish_pruning(connection, self.folder, self.damage, files=own)
        if (self.folder / "packed").exists() and not connection.execute("SELECT 1 FROM journals LIMIT 1").fetchone():
            from simkit.store.packs import adopt_packs

            adopt_packs(connection, self.folder, self._runs, self._source)

    def compact(self) -> None:
        """Give the free space of the database back, if it is most of the file; skipped while somebody else holds it."""
        with suppress(StoreError, OSError, duckdb.Error), self._exclusive():
            compact(self.database)

    @contextmanager
    def writing(self) -> Generator[duckdb.DuckDBPyConnection]:
        """The database, with everything loaded, for changes to it and to the files of the store.

        Nothing else loads or reads it meanwhile; readers use replicas.

        Raises:
            StoreBusy: another process holds the database or is loading.
            StoreError: the store cannot be read or written.
        """
        try:
            with self._exclusive(), scratch_folder() as scratch:
                notes: list[str] = []
                self._round(scratch, float("inf"), frozenset(), notes)
                with self._opened(notes) as connection:
                    yield connection
        except duckdb.Error as error:
            raise loading_error(self.database, error) from error
        except OSError as error:
            raise StoreError(
                f"the store {self.folder} cannot be changed: {error}. Check the disk and rights"
            ) from error

    @contextmanager
    def _exclusive(self) -> Generator[None]:
        """Hold the loading lock: one loader at a time on this machine."""
        lock = open_private(self.lock, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreBusy(f"another process is loading {self.folder} right now") from error
        try:
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _opened(self, notes: list[str]) -> Generator[duckdb.DuckDBPyConnection]:
        """The database in this version's format; created if it is missing, damaged or of another version."""
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(connected(self.database, read_only=False))
                found = stored_format(connection)
                if found not in (None, schema_format()):
                    missing = self._missing(connection)
                    stack.close()
                    self._put_away(missing, notes)
                    connection, found = stack.enter_context(connected(self.database, read_only=False)), None
            except StoreUnreadable as error:
                if not is_no_database(error):
                    raise
                stack.close()
                notes.append(self._renewed(str(error.__cause__).splitlines()[0]))
                connection, found = stack.enter_context(connected(self.database, read_only=False)), None
            if found is None:
                create_schema(connection)
            keep_private(self.database.with_name(f"{self.database.name}.wal"))
            yield connection

    def _put_away(self, missing: list[BadLine], notes: list[str]) -> None:
        """Remove the database of another version, or rename it if some of its journals are no longer complete."""
        if not missing:
            remove_database(self.database)
            return
        self.damage.keep(missing)
        renamed = rename_damaged(self.database)
        notes.append(
            f"{self.database} was made by another version of simkit and {len(missing)} journals that it was made from "
            f"are gone or shorter than they were: it was kept as {renamed.name}, and a new one made from what is there"
        )

    def _missing(self, connection: duckdb.DuckDBPyConnection) -> list[BadLine]:
        """Journals that a database of another version was built from and that are now missing or shorter."""
        try:
            rows = connection.execute("SELECT journal, loaded, lines FROM journals").fetchall()
        except duckdb.Error as error:
            raise StoreUnreadable(
                f"{self.database} was not made by simkit; move it away, the store makes its own"
            ) from error
        found: list[BadLine] = []
        for name, loaded, lines in rows:
            path, size = self.folder / "journals" / name, size_of(self.folder / "journals" / name)
            if size < loaded:
                kind = "shortened" if file_of(path).exists() else "gone"
                reason = f"{loaded - size} bytes of it that an earlier database had are missing"
                found.append(BadLine(path, size, 1, reason, kind, None, lines, loaded))
        return found

    def _renewed(self, why: str) -> str:
        """Rename a damaged database; the next connection rebuilds it. Returns a note for the user."""
        renamed = rename_damaged(self.database)
        return (
            f"{self.database} was damaged ({why}): it was made again from the journals; the old file is {renamed.name}"
        )


PAUSE_PER_SECOND = 9.0
"""Seconds to pause after each second of loading during a run."""


async def keep_loaded(loader: Loader, every: float = 2.0, resting: Callable[[], bool] = lambda: False) -> None:
    """Load in a thread every `every` seconds until cancelled; start it in the task group of a run.

    A long round is followed by a longer pause, so loading takes at most a tenth of the time. There is no round while
    `resting` says so.

    Nothing waits for this task or fails because of it. A round that finds the database in use is skipped, and the load
    at the end of the run reports other problems. Until then the journals are the source of truth.
    """
    pause = every
    while True:
        await anyio.sleep(pause)
        if resting():
            continue
        began = time.monotonic()
        await to_thread.run_sync(_try_round, loader, every)
        pause = max(every, PAUSE_PER_SECOND * (time.monotonic() - began))


def _try_round(loader: Loader, seconds: float) -> None:
    with suppress(StoreError):
        loader.load(seconds)
