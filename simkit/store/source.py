"""The journals of a store as files to read: where they are, how they are read, and how they are brought to the disk."""

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

from simkit.core.events import RunStarted
from simkit.errors import StoreError, StoreUnreadable
from simkit.store.encoding import JournalEvents
from simkit.store.files import open_plain, open_private, refuse_link
from simkit.store.journal import UNSYNCED, sync_folders


class Source(Protocol):
    """What a loader asks of a journal. Replaced in tests by files that lose what was not synced."""

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """So many bytes from byte `start` on, fewer at the end."""
        ...

    def sync(self) -> None:
        """Bring the file and its name to the disk."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


SourceOpener: TypeAlias = Callable[[Path], Source]


class DiskSource:
    """A journal on a disk, opened for reading.

    Raises:
        OSError: it cannot be opened, or is no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named = False
        self._fd = open_plain(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name must not hold us
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise OSError(errno.EINVAL, "it is no ordinary file")

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def read(self, start: int, size: int) -> bytes:
        """So many bytes from byte `start` on."""
        return os.pread(self._fd, size, start)

    def sync(self) -> None:
        """Bring it to the disk, whoever has written it; the first time with the folders that name it."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in UNSYNCED:
                raise
        if not self._named:
            sync_folders(self._path)
            self._named = True

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Journals:
    """The journals of a store: those found, by run, and the places that could not be looked into."""

    runs: dict[str, list[Path]]
    troubles: tuple[tuple[Path, OSError], ...] = ()


def find_journals(folder: Path, runs: Sequence[str] | None = None) -> Journals:
    """The journals of some runs of a store, by default of all, in the order of their names.

    Raises:
        OSError: the folder of the journals cannot be read.
    """
    top = folder / "journals"
    refuse_link(top)
    if not top.exists():
        return Journals({})
    there: dict[str, list[Path]] = {}
    troubles: list[tuple[Path, OSError]] = []
    names = (each.name for each in os.scandir(top) if each.is_dir()) if runs is None else iter({*runs})
    for run in sorted(names):
        try:
            refuse_link(top / run)
            found = sorted(name for name in os.listdir(top / run) if name.endswith(".jsonl"))
        except FileNotFoundError:  # a run that recorded nothing is being forgotten
            continue
        except OSError as error:
            troubles.append((top / run / "main.jsonl", error))
            continue
        there[run] = [top / run / name for name in found]
    return Journals(there, tuple(troubles))


def journal_files(folder: Path, runs: Sequence[str] | None = None) -> list[Path]:
    """The journals of some runs of a store, by default of all, in the order of their names."""
    found = find_journals(folder, runs)
    return sorted([*(path for paths in found.runs.values() for path in paths), *(path for path, _ in found.troubles)])


def journal_name(path: Path) -> str:
    """A journal as the database knows it: `run_id/worker.jsonl`."""
    return f"{path.parent.name}/{path.name}"


def size_of(journal: Path) -> int:
    """Bytes of a journal; 0 when it is gone again, with a run that recorded nothing, and 1 when nobody may know."""
    try:
        return journal.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError:
        return 1


STARTS = ".starts"
"""The file with the number of the last start of a run in a store: counted up, because clocks step back."""


def next_start(folder: Path) -> int:
    """Count one more start of a run in a store.

    The last number is in the file `.starts`. Where that is missing or cannot be read (a store that was copied without
    it) the highest number in the journals is found once more.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        file = open_private(folder / STARTS, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = os.pread(file, 32, 0).strip()
            number = int(text) if text.isdigit() else max(_told(folder), default=0)
            os.pwrite(file, b"%20d\n" % (number + 1), 0)
            return number + 1
        finally:
            os.close(file)
    except OSError as error:
        raise StoreError(
            f"{folder / STARTS} cannot be written: {error.strerror or error}. Make the store folder writable, or use "
            "another --store"
        ) from error


def _told(folder: Path) -> Iterator[int]:
    """The numbers of the starts that the journals of a store hold."""
    for path in journal_files(folder):
        with suppress(StoreUnreadable):  # it is named when it is loaded
            for event, _ in JournalEvents(path, (RunStarted,)):
                if isinstance(event, RunStarted) and event.number is not None:
                    yield event.number
