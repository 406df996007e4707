"""A private copy of a store's database, for queries when another process holds the database or the store is read-only.

The journals, which are the source of truth, supply what the copy lacks. The store is never locked and never written.
The folder of the copy is private (0700) and removed at the end; the next replica of the same user removes the folder
of a killed process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from simkit.errors import StoreError, StoreUnreadable
from simkit.store.damage import BadLine, DamageFile
from simkit.store.database import connected, remove_database, schema_format, stored_format
from simkit.store.files import open_plain
from simkit.store.loader import Loader, LoadReport
from simkit.store.notes import FILE, size_of_notes
from simkit.store.reading import journal_sizes
from simkit.store.scope import opened_with_packs
from simkit.store.source import open_journal

PREFIX = "simkit-replica-"
IN_USE = "in-use"
PATIENCE = 2.0
"""Seconds to wait for another simkit process that is loading the database, before doing without its database."""


class Replica:
    """A private database with the contents of all journals of a store: `with Replica(folder) as replica`.

    Attributes:
        connection: read-only connection for queries. It is replaced by a `refresh` that finds new data.
        copied: the store's own database was copied. Otherwise the rows come only from the journals.

    Args:
        folder: the store.
        runs: ids of the runs to read when the database cannot be copied; None for all of them.
        copy: False for a damaged database: only the journals are read.
        external: queries may access files and networks.

    Raises:
        StoreError: on entry, if the copy cannot be made; the message says why.
        StoreUnreadable: the private database cannot be read.
    """

    def __init__(
        self, folder: Path, *, runs: Sequence[str] | None = None, copy: bool = True, external: bool = False
    ) -> None:
        self.copied = False
        self._copy = copy
        self._external = external
        self._store = folder
        self._runs = runs
        self._sizes: dict[str, int] | None = None
        self._seconds: float | None = None
        self._held = ExitStack()
        self._open = ExitStack()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._loader: Loader | None = None

    @property
    def database(self) -> Path:
        """Database file of the copy."""
        assert self._loader is not None, "use the replica inside `with`"
        return self._loader.database

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """Connection for queries; valid until the next `refresh`, and for one thread at a time."""
        assert self._connection is not None, "use the replica inside `with`"
        return self._connection

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = self._folder(stack)
            database = folder / "simkit.duckdb"
            self._loader = Loader(
                self._store,
                database=database,
                lock=folder / ".loading",
                runs=self._runs,
                source=partial(open_journal, synced=False),
            )
            self._loader.damage = _RememberedDamage(self._store)
            self.copied = database.exists() or (self._copy and self._copy_to(database))
            stack.callback(self._close)
            self._fill()
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def refresh(self) -> LoadReport:
        """Read what was appended to the journals; nothing is opened if they have not changed.

        Raises:
            StoreError: the copy cannot be written.
        """
        assert self._loader is not None, "use the replica inside `with`"
        sizes = {**journal_sizes(self._store, self._runs), FILE: size_of_notes(self._store)}
        if self._connection is not None and sizes == self._sizes:
            return LoadReport()
        self._release()
        report = self._loader.load(self._seconds)
        if self._connection is None:
            self._connection = self._open.enter_context(self._connected(self._loader.database))
        self._sizes = sizes if report.finished else {}
        return report

    # --- what a replica that stays open does otherwise ----------------------------------------------------------------

    def _folder(self, stack: ExitStack) -> Path:
        """The folder of the copy, which the stack removes."""
        return stack.enter_context(_private_folder())

    def _copy_to(self, database: Path) -> bool:
        return _copy(self._store / "simkit.duckdb", database)

    def _connected(self, database: Path) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return opened_with_packs(database, self._store, external=self._external)

    def _release(self) -> None:
        """Make room for the loader, which needs the database for itself."""
        self._close()

    def _fill(self) -> None:
        try:
            self.refresh()
        except StoreUnreadable:
            if not self.copied:
                raise
            self.copied = False  # the copy is damaged; use only the journals
            remove_database(self.database)
            self.refresh()

    def _close(self) -> None:
        self._connection = None
        self._open.close()


class _RememberedDamage(DamageFile):
    """Damage recorded in the store plus damage found by this replica, which is kept in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._kept: tuple[BadLine, ...] = ()

    def found(self) -> tuple[BadLine, ...]:
        """Damage that the journals do not show."""
        return (*super().found(), *self._kept)

    def keep(self, bad: Iterable[BadLine]) -> None:
        """Remember damage that was found."""
        self._kept += tuple(bad)


def _copy(database: Path, copy: Path) -> bool:
    """Copy a database that can be opened for reading; an open connection keeps writers away during the copy.

    A separate process copies the file: if this process opened and closed it, the system would drop the locks that this
    process's connections hold on it.
    """
    if not database.exists():
        return False
    deadline = time.monotonic() + PATIENCE
    while _is_loaded_into(database.parent) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        with connected(database, read_only=True) as connection:
            if stored_format(connection) != schema_format():
                return False
            for suffix in (".wal", ""):
                source = database.with_name(database.name + suffix)
                if source.exists():
                    target = copy.with_name(copy.name + suffix)
                    subprocess.run(["cp", str(source), str(target)], check=True, capture_output=True)
    except (StoreError, duckdb.Error, OSError, subprocess.SubprocessError):
        remove_database(copy)
        return False
    return copy.exists()


def _is_loaded_into(folder: Path) -> bool:
    """Whether a simkit process is loading the store; it will release the database soon."""
    with suppress(OSError):
        lock = open_plain(folder / ".loading", os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False


class _private_folder:  # noqa: N801 (a context manager, named as those of contextlib are)
    """A private temporary folder, locked while it is in use."""

    def __enter__(self) -> Path:
        try:
            place = Path(tempfile.gettempdir())
            _remove_abandoned(place)
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            self._lock = os.open(self._folder / IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"no private copy of the store can be made: {error}. Let TMPDIR name a folder that can be written"
            ) from error
        return self._folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(place: Path) -> None:
    """Remove folders left by killed processes of this user."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            lock = os.open(folder / IN_USE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
