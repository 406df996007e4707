"""Access to a store's journals for loading: finding, reading and syncing them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from simkit.errors import StoreError, StoreUnreadable
from simkit.store.files import UNSYNCED, open_plain, open_private, refuse_link, sync_folders


class JournalSource(Protocol):
    """File operations that a loader needs. Tests substitute files that lose unsynced data."""

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes from offset `start`, fewer at the end of the file."""
        ...

    def sync(self) -> None:
        """Flush the file and its directory entry to disk."""
        ...

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        ...


SourceOpener: TypeAlias = Callable[[Path], JournalSource]

ARCHIVED = ".zst"
"""Ending of compressed journals; see `simkit.store.archive`."""

LOST = b"\0 not decompressed "
"""How the filler begins that stands for a damaged part of a compressed journal."""


class DiskSource:
    """A journal file on disk, opened for reading.

    Args:
        path: the file.
        synced: `sync` brings the file to the disk; False for readers that keep nothing.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        self._path = path
        self._synced = synced
        self._named = False
        self._fd = open_plain(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name must not block
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise OSError(errno.EINVAL, "it is not a regular file")

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes from offset `start`."""
        return os.pread(self._fd, size, start)

    def sync(self) -> None:
        """Flush the file to disk, whichever process wrote it; the first call also flushes the folders above it."""
        if not self._synced:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in UNSYNCED:
                raise
        if not self._named:
            sync_folders(self._path)
            self._named = True

    def close(self) -> None:
        """Close the file descriptor; a second call does nothing."""
        file, self._fd = self._fd, -1
        if file >= 0:
            os.close(file)


def open_journal(path: Path, *, synced: bool = True) -> JournalSource:
    """A journal on disk, plain or compressed, opened for reading; where both are there, the plain one counts.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    try:
        return DiskSource(path, synced=synced)
    except FileNotFoundError:
        from simkit.store.archive import ArchiveSource, archive_of

        try:
            return ArchiveSource(archive_of(path), synced=synced)
        except FileNotFoundError:
            return DiskSource(path, synced=synced)  # it was just restored


def file_of(journal: Path) -> Path:
    """The file that holds a journal: itself, or its compressed form."""
    archive = journal.with_name(f"{journal.name}{ARCHIVED}")
    return archive if not journal.exists() and archive.exists() else journal


@dataclass(frozen=True, slots=True)
class JournalFiles:
    """The journals of a store: paths found, by run, and paths that could not be read, with their errors.

    A compressed journal is named as if it were plain (`main.jsonl`): as damage, rows and messages name it.
    """

    runs: dict[str, list[Path]]
    troubles: tuple[tuple[Path, OSError], ...] = ()


def find_journals(folder: Path, runs: Sequence[str] | None = None) -> JournalFiles:
    """Journals of some runs of a store, by default of all, sorted by name.

    Raises:
        OSError: the folder of the journals cannot be read.
    """
    top = folder / "journals"
    refuse_link(top)
    if not top.exists():
        return JournalFiles({})
    there: dict[str, list[Path]] = {}
    troubles: list[tuple[Path, OSError]] = []
    wanted = (each.name for each in os.scandir(top) if each.is_dir()) if runs is None else iter({*runs})
    for run in sorted(wanted):
        try:
            refuse_link(top / run)
            names = {name.removesuffix(ARCHIVED) for name in os.listdir(top / run)}
            found = sorted(name for name in names if name.endswith(".jsonl") and not name.startswith("."))
        except FileNotFoundError:  # a run that recorded nothing was just removed
            continue
        except OSError as error:
            troubles.append((top / run / "main.jsonl", error))
            continue
        there[run] = [top / run / name for name in found]
    return JournalFiles(there, tuple(troubles))


def journal_files(folder: Path, runs: Sequence[str] | None = None) -> list[Path]:
    """Paths of the journals of some runs of a store, by default of all, sorted; unreadable ones are included."""
    found = find_journals(folder, runs)
    return sorted([*(path for paths in found.runs.values() for path in paths), *(path for path, _ in found.troubles)])


def journal_name(path: Path) -> str:
    """Name of a journal in the database: `run_id/worker.jsonl`."""
    return f"{path.parent.name}/{path.name}"


def size_of(journal: Path) -> int:
    """Size of a journal in bytes, uncompressed; 0 if it was deleted with a run that recorded nothing, 1 if it is
    inaccessible."""
    try:
        return journal.stat().st_size
    except FileNotFoundError:
        return _size_of_archive(journal)
    except OSError:
        return 1


def _size_of_archive(journal: Path) -> int:
    try:
        source = open_journal(journal, synced=False)
    except FileNotFoundError:
        return 0
    except OSError:
        return 1
    try:
        return source.size()
    finally:
        source.close()


STARTS = ".starts"
"""Name of the file with the number of the last start in a store: a counter, because clocks can go backwards."""


def next_start(folder: Path) -> int:
    """Number of the next start of a run in a store; increments the counter.

    Raises:
        StoreError: the file cannot be written.
    """
    return _change_starts(folder, lambda last: last + 1)


def raise_starts(folder: Path, number: int) -> None:
    """Let the next start in a store have a number above `number`, that of a run which came from another store.

    Raises:
        StoreError: the file cannot be written.
    """
    _change_starts(folder, lambda last: max(last, number))


def _change_starts(folder: Path, change: Callable[[int], int]) -> int:
    """Change the last number in the file `.starts`, and return the new one.

    If the file is missing or invalid (as in a store copied without it), the highest number in the journals counts.
    """
    try:
        file = open_private(folder / STARTS, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = os.pread(file, 32, 0).strip()
            number = change(int(text) if text.isdigit() else max(_recorded_numbers(folder), default=0))
            os.pwrite(file, b"%20d\n" % number, 0)
            return number
        finally:
            os.close(file)
    except OSError as error:
        raise StoreError(
            f"{folder / STARTS} cannot be written: {error.strerror or error}. Make the store folder writable, or use "
            "another --store"
        ) from error


def _recorded_numbers(folder: Path) -> Iterator[int]:
    """Start numbers recorded in the journals of a store."""
    from simkit.core.events import RunStarted
    from simkit.store.encoding import JournalEvents

    for path in journal_files(folder):
        with suppress(StoreUnreadable):  # it is reported when it is loaded
            for event, _ in JournalEvents(path, (RunStarted,)):
                if isinstance(event, RunStarted) and event.number is not None:
                    yield event.number
