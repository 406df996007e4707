"""The store: a folder of journals and the database built from them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import duckdb

from simkit.errors import StoreBusy, StoreError, StoreUnreadable, UsageError
from simkit.store.damage import BadLine
from simkit.store.database import loading_error, schema_format, stored_format
from simkit.store.files import being_deleted, make_store
from simkit.store.reader import Parameters, QueryResult, Reader
from simkit.store.reading import ReadState, Sizes, journal_sizes, read_marks, read_state
from simkit.store.scope import opened_with_packs
from simkit.store.tree_view import EpisodeTree, RunRow, Transcript

if TYPE_CHECKING:
    from simkit.store.journal import Journal, Opener
    from simkit.store.loader import Loader, LoadReport
    from simkit.store.pruning import RunFiles
    from simkit.store.upkeep import PackedRun

T = TypeVar("T")
Runs: TypeAlias = Sequence[str] | None

GRACE = 0.5
"""Maximum seconds that a query waits for a database held by another process, before a replica is used."""


class Store:
    """A folder of results. It opens without repair even if the process that wrote it was killed.

    Args:
        path: the folder; created with its parents if it does not exist.
        patience: seconds that `load` waits for a database held by another process.
        external: queries may access files, networks, extensions and settings, not only the database.
        shared: open the folder to its group; otherwise new files are private to their owner.

    Raises:
        StoreError: the folder does not exist and cannot be created, or is a file.
    """

    def __init__(
        self, path: Path | str, *, patience: float = 5.0, external: bool = False, shared: bool = False
    ) -> None:
        self.path = Path(path)
        self.database = self.path / "simkit.duckdb"
        self._patience = patience
        self._external = external
        try:
            make_store(self.path, shared=shared)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"{self.path} cannot be used as a store: {reason}. Name another folder") from error

    def __repr__(self) -> str:
        return f"<Store {str(self.path)!r}>"

    @cached_property
    def loader(self) -> Loader:
        """Loader of the journals into the database; imported when it is first needed, not by every reader."""
        from simkit.store.loader import Loader

        return Loader(self.path)

    def journal(
        self, run_id: str, worker: str = "main", *, opener: Opener | None = None, durable: bool = False
    ) -> Journal:
        """The journal of one worker of a run: a recorder to use with `async with`; see `Journal`.

        Raises:
            UsageError: a name is not a valid file name.
        """
        from simkit.store.journal import DiskFile, Journal

        for name in (run_id, worker):
            if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
                raise UsageError(f"{name!r} cannot name a run or a worker: it must be usable as a file name")
        return Journal(self.path / "journals" / run_id / f"{worker}.jsonl", opener=opener or DiskFile, durable=durable)

    def forget(self, run_id: str) -> None:
        """Remove the empty journals of a run that recorded nothing; other journals are kept."""
        folder = self.path / "journals" / run_id
        for journal in folder.glob("*.jsonl"):
            if journal.stat().st_size == 0:
                journal.unlink()
        with suppress(OSError):  # the folder contains other files
            folder.rmdir()

    def load(self, *, wait: float | None = None) -> LoadReport:
        """Load everything in the journals, waiting `wait` seconds (default: the store's patience) for a held database.

        Damage is listed in the report and recorded; see `damage`.

        Raises:
            StoreBusy: the database was held the whole time.
            StoreUnreadable: the database was not created by simkit.
            StoreError: the store cannot be written.
        """
        return self._patiently(self.loader.load, self._patience if wait is None else wait)

    def change(self, work: Callable[[Store], T], *, wait: float | None = None) -> T:
        """Call what changes the store, as long as the database is held for up to `wait` seconds (default: patience).

        Raises:
            UsageError: the store is read-only.
            StoreBusy: the database was held the whole time.
        """
        if not self.writable():
            raise UsageError(f"{self.path} is read-only: it can be read, but not changed")
        return self._patiently(lambda: work(self), self._patience if wait is None else wait)

    def pack(self, runs: Sequence[str] = ()) -> tuple[PackedRun, ...]:
        """Pack runs, named or (none) all that are finished: rows as Parquet files, journals compressed.

        Every answer stays the same. A packed run that is resumed is unpacked again.

        Raises:
            UsageError: a named run does not exist or has not ended, or the store is read-only.
            StoreError: the store cannot be read or written.
        """
        from simkit.store.upkeep import pack, to_pack

        return tuple(pack(self, to_pack(self, runs)))

    def prune(self, runs: Sequence[str], *, models: bool = False) -> tuple[RunFiles, ...]:
        """Delete runs with their stages for good; returns what they took. Trained models stay unless `models` is set.

        Raises:
            UsageError: a run does not exist or is being played, or the store is read-only.
            StoreError: the store cannot be read or written.
        """
        from simkit.store.upkeep import prune, to_prune

        found = to_prune(self, runs)
        prune(self, [each.run_id for each in found], models=models)
        return found

    def damage(self, run_id: str | None = None) -> tuple[BadLine, ...]:
        """Known, unacknowledged damage in the journals of a run, or of all runs.

        Raises:
            StoreError: the store cannot be read.
        """
        with self.reading(None if run_id is None else (run_id,)) as reader:
            return tuple(line for run in reader.state.runs for line in run.damaged)

    def acknowledge(self, run_id: str) -> tuple[BadLine, ...]:
        """Acknowledge the damage of a run, so that it is no longer reported; returns that damage.

        Raises:
            StoreError: the store cannot be read or written.
        """
        found = self.damage(run_id)
        self.loader.acknowledge(found)
        with suppress(StoreBusy):  # the next load updates the database
            self.load()
        return found

    @contextmanager
    def reading(self, runs: Runs = None, *, allow_incomplete: bool = False) -> Generator[Reader]:
        """A reader that sees every complete line now in the journals; all its answers come from one state.

        Outstanding lines are loaded first, once. If another process holds the database, or the store is read-only, a
        private replica filled from the journals is used instead, and the notes say so. Nothing can be loaded while a
        reader of the database is open: close it soon, or use a `Replica`.

        Args:
            runs: ids of the runs that the queries concern; None for all. The state of other runs is ignored.
            allow_incomplete: the reader passes on incomplete data; see `Reader.require_complete`.

        Raises:
            StoreUnreadable: the database was not created by simkit.
            StoreError: the store cannot be read, neither directly nor through a replica.
        """
        with ExitStack() as stack:
            reader = self._reader(stack, runs)
            reader.allow_incomplete = allow_incomplete
            yield reader

    def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        runs: Sequence[str] | None = None,
        scoped: bool = False,
    ) -> QueryResult:
        """Run read-only SQL on everything now in the journals; see `reading`.

        With `scoped`, tables and views hold the rows of `runs` alone, so that the answer costs the same however many
        other runs the store holds (`Reader.scoped`). The result's `state` describes the data that it was read from;
        `notes` says the same in words.

        Raises:
            UsageError: the SQL is wrong or tries to write; the message is DuckDB's.
            StoreError: the store cannot be read.
        """
        try:
            return self._query(sql, parameters, runs, scoped=scoped)
        except StoreUnreadable as error:
            self._try_load(error)
        return self._query(sql, parameters, runs, scoped=scoped)

    def _query(self, sql: str, parameters: Parameters | None, runs: Runs, *, scoped: bool) -> QueryResult:
        with self.reading(runs) as reader:
            if runs is None or not scoped:
                return reader.query(sql, parameters)
            with reader.scoped(runs) as own:
                return own.query(sql, parameters)

    def runs(self) -> tuple[RunRow, ...]:
        """All runs, oldest first."""
        with self.reading() as reader:
            return reader.runs()

    def resolve(self, name: str = "last") -> RunRow:
        """Find a run by its id, its name, a prefix of either, or `last`; see `Reader.resolve`."""
        with self.reading() as reader:
            return reader.resolve(name)

    def tree(self, run: str, episode: str) -> EpisodeTree:
        """The tree of one episode; see `Reader.tree`."""
        with self.reading() as reader:
            return reader.tree(run, episode)

    def transcript(self, branch_id: str) -> Transcript:
        """The conversation from the root to a branch; see `Reader.transcript`."""
        with self.reading() as reader:
            return reader.transcript(branch_id)

    def writable(self) -> bool:
        """Whether this process may write to the store."""
        return os.access(self.path, os.W_OK) and (not self.database.exists() or os.access(self.database, os.W_OK))

    # --- where a reader reads -----------------------------------------------------------------------------------------

    def _reader(self, stack: ExitStack, runs: Runs) -> Reader:
        sizes = journal_sizes(self.path, runs)
        problem: StoreError | None = None
        damaged: StoreUnreadable | None = None
        events: tuple[str, ...] = ()
        for _ in range(2):
            try:
                found = self._fresh(stack, sizes, runs)
            except StoreUnreadable as error:
                found, damaged = None, error
            if found is not None:
                found.state = replace(found.state, events=events)
                return found
            if problem is None:
                problem, events = self._try_load(damaged)
        assert problem is not None
        return self._aside(stack, sizes, runs, problem, copy=damaged is None)

    def _fresh(self, stack: ExitStack, sizes: Sizes, runs: Runs) -> Reader | None:
        """A reader of the store's own database; None if it lacks lines, holds deleted runs, or cannot be opened."""
        with ExitStack() as own:
            reader = self._own(own, sizes, runs)
            if reader is None or reader.state.stale or being_deleted(self.path) or not reader.has_notes():
                return None
            stack.push(own.pop_all())
            return reader

    def _own(self, stack: ExitStack, sizes: Sizes, runs: Runs, reason: str = "") -> Reader | None:
        if not self.database.exists():
            return None
        try:
            connection = stack.enter_context(opened_with_packs(self.database, self.path, external=self._external))
            if stored_format(connection) != schema_format():
                return None
            return self._opened(connection, ReadState(store=self.path, reason=reason), sizes, runs)
        except duckdb.Error as error:
            raise loading_error(self.database, error) from error
        except StoreUnreadable:
            raise
        except StoreError:  # held by another process, or not ours to read
            return None

    def _try_load(self, damaged: StoreUnreadable | None) -> tuple[StoreError, tuple[str, ...]]:
        """Load outstanding data once; returns the reason to report if that does not help, and notes on other events.

        A damaged database is renamed and rebuilt.
        """
        if not self.writable():
            return StoreError(f"{self.path} is read-only"), ()
        try:
            load = self.loader.load if damaged is None else self.loader.renew
            report = self._patiently(load, min(GRACE, self._patience))
        except StoreUnreadable:
            raise
        except StoreError as error:
            return error, ()
        return StoreBusy(f"another process holds {self.database}, or is loading it"), report.notes

    def _aside(self, stack: ExitStack, sizes: Sizes, runs: Runs, problem: StoreError, *, copy: bool = True) -> Reader:
        """A reader of a private replica, or of the own database as it is if no replica can be made."""
        from simkit.store.replica import Replica

        try:
            replica = stack.enter_context(Replica(self.path, runs=runs, copy=copy, external=self._external))
        except StoreUnreadable:
            raise
        except StoreError as error:
            stale = self._own(stack, sizes, runs, f"{problem}; {error}")
            if stale is None:
                raise error from problem
            return stale
        reason = f"{problem}" if replica.copied or not self.database.exists() else f"{problem} ({_ALONE})"
        state = ReadState(store=self.path, source="replica", reason=reason)
        return self._opened(replica.connection, state, sizes, runs)

    def _opened(self, connection: duckdb.DuckDBPyConnection, state: ReadState, sizes: Sizes, runs: Runs) -> Reader:
        known = read_state(connection, state, sizes, read_marks(connection))
        return Reader(self.path, connection, self.database, known if runs is None else known.of(runs))

    def _patiently(self, work: Callable[[], T], seconds: float) -> T:
        """Call `work`, retrying for up to `seconds` while the database is held."""
        deadline = time.monotonic() + seconds
        pause = 0.01
        while True:
            try:
                return work()
            except StoreBusy:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 0.25)


_ALONE = "nor can it be copied: what has no journal is not in the answer"
