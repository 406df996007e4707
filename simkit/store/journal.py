"""The journal: one file of JSON lines per worker. It is the source of truth of the store.

`record` queues events, and one thread at a time writes them. All branches that commit during a write share the next
one (group commit), so ten thousand branches cost a few writes. When `commit` returns, the events have been handed to
the operating system and survive a crash of this process. They survive a crash of the machine once they are synced to
disk: when the journal is closed, before a loader copies them to the database, or (`durable`) before `commit` returns.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeAlias

import anyio
from anyio import CancelScope, CapacityLimiter, to_thread

from simkit.core.events import Event
from simkit.errors import JournalFailed
from simkit.store.encoding import encode
from simkit.store.files import is_open_at, lock_for_writing, make_folder, open_private, sync_folders
from simkit.store.lines import journal_seed, next_number, seal
from simkit.store.source import file_of

SLICE = 8 << 20
"""Bytes encoded and written at a time; bounds the memory used by a batch."""


class JournalFile(Protocol):
    """File operations that a journal needs. Tests substitute files that fail."""

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes from offset `start`, fewer at the end of the file."""
        ...

    def append(self, data: bytes) -> int:
        """Write at the end; returns the number of bytes written, which may be fewer than given."""
        ...

    def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes."""
        ...

    def sync(self) -> None:
        """Flush the file and its directory entry to disk."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


Opener: TypeAlias = Callable[[Path], JournalFile]


class DiskFile:
    """A journal file on disk, locked against a second writer while it is open."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self._path = path
        self._named = False
        if file_of(path) != path:
            from simkit.store.archive import restore

            restore(path)
        self._fd = open_private(path, os.O_RDWR | os.O_APPEND)
        try:
            lock_for_writing(self._fd)
            if not is_open_at(self._fd, path):
                raise OSError(errno.EAGAIN, "it was compressed or deleted at this moment")
        except OSError:
            os.close(self._fd)
            raise

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes from offset `start`."""
        return os.pread(self._fd, size, start)

    def append(self, data: bytes) -> int:
        """Write at the end."""
        return os.write(self._fd, data)

    def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes."""
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """Flush the file to disk; the first call also flushes the folders above it."""
        os.fsync(self._fd)
        if not self._named:
            sync_folders(self._path)
            self._named = True

    def close(self) -> None:
        """Close and unlock the file."""
        os.close(self._fd)


class Journal:
    """A recorder that writes to one file; use it as an async context manager.

    Args:
        path: the file; its folder is created. A torn last line left by a killed process is removed first, and line
            numbers continue after the highest existing one.
        opener: function that opens the file; tests replace it.
        durable: sync every commit to disk before it returns; concurrent commits share one `sync`.

    Raises:
        JournalFailed: on entry, if the file cannot be written or another process is writing to it; from `commit` and
            on exit, if a write failed. The file then ends with its last complete line and contains everything
            acknowledged before, and every later commit raises again.
    """

    def __init__(self, path: Path, *, opener: Opener = DiskFile, durable: bool = False) -> None:
        self.path = path
        self._opener = opener
        self._durable = durable
        self._seed = journal_seed(path)
        self._number = 0
        self._queue: deque[Event | bytes] = deque()
        self._recorded = 0
        self._written = 0
        self._size = 0
        self._file: JournalFile | None = None
        self._failure: str | None = None
        self._round: anyio.Event | None = None
        self._thread = CapacityLimiter(1)
        self._writing = threading.Lock()

    async def __aenter__(self) -> Journal:
        await to_thread.run_sync(self._open, limiter=self._thread)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with CancelScope(shield=True):  # the last writes of a cancelled run; bounded, because it waits only for a file
            try:
                await self.commit()
                await self.sync()
            finally:
                await to_thread.run_sync(self._close, limiter=self._thread)

    def record(self, event: Event) -> None:
        """Queue one event; it is encoded and written later in a thread."""
        self._queue.append(event)
        self._recorded += 1

    def record_lines(self, lines: Sequence[bytes]) -> None:
        """Queue events that were encoded elsewhere (`encode`); their numbers and checksums are added here."""
        self._queue.extend(lines)
        self._recorded += len(lines)

    async def commit(self) -> None:
        """Wait until everything recorded so far has been written; concurrent callers share a write.

        Raises:
            JournalFailed: this write or an earlier one failed.
        """
        target = self._recorded
        while self._written < target or self._failure is not None:
            self._check()
            if self._round is None:
                await self._write_round()
            else:
                await self._round.wait()

    async def sync(self) -> None:
        """Flush everything written so far to disk (fsync).

        Raises:
            JournalFailed: the flush failed.
        """
        self._check()
        await to_thread.run_sync(self._sync, limiter=self._thread)

    def write_now(self) -> None:
        """Write everything recorded so far, from any thread; for a process that is about to exit.

        Raises:
            JournalFailed: the write failed, or the journal is not open.
        """
        self._check()
        self._write_queue()

    async def _write_round(self) -> None:
        self._round = done = anyio.Event()
        try:
            await to_thread.run_sync(self._write_queue, limiter=self._thread)
        finally:
            self._round = None
            done.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise JournalFailed(self._failure)
        if self._file is None:
            raise JournalFailed(f"the journal {self.path} is not open: use `async with` around what records to it")

    def _open(self) -> None:
        try:
            self._file = self._opener(self.path)
            self._size = cut_torn_line(self._file)
            self._number = next_number(self._file.read, self._seed) if self._size else 0
        except OSError as error:
            raise JournalFailed(_cannot_open(self.path, error)) from error

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _sync(self) -> None:
        assert self._file is not None
        try:
            self._file.sync()
        except OSError as error:
            raise self._failed(error) from error

    def _write_queue(self) -> None:
        """Write everything queued in slices; runs in a thread, one call at a time."""
        with self._writing:
            self._write_slices()

    def _write_slices(self) -> None:
        count = len(self._queue)  # `record` may keep appending; those events are left to the next write
        while count:
            data, taken = bytearray(), 0
            while taken < count and len(data) < SLICE:
                data += self._encoded(self._queue.popleft())
                taken += 1
            self._append(bytes(data))
            if self._durable:
                self._sync()
            self._written += taken
            count -= taken

    def _encoded(self, event: Event | bytes) -> bytes:
        try:
            line = seal(event if isinstance(event, bytes) else encode(event), self._number, self._seed)
        except Exception as error:
            self._failure = (
                f"an event of kind {type(event).__name__} cannot be written as JSON to {self.path} ({error}); "
                "keep only JSON values in states, results and configurations"
            )
            raise JournalFailed(self._failure) from error
        self._number += 1
        return line

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                taken = self._file.append(bytes(rest) if len(rest) < len(data) else data)
                if taken <= 0:
                    raise OSError(errno.EIO, "the file takes no more bytes")
                rest = rest[taken:]
        except OSError as error:
            self._cut(data[: len(data) - len(rest)])
            raise self._failed(error) from error
        self._size += len(data)

    def _cut(self, taken: bytes) -> None:
        """Truncate the file after its last complete line; a loader may have read the complete lines already."""
        assert self._file is not None
        self._size += taken.rfind(b"\n") + 1
        try:
            self._file.truncate(self._size)
        except OSError:  # the next writer removes the torn line; readers ignore it
            return

    def _failed(self, error: OSError) -> JournalFailed:
        reason = error.strerror or str(error)
        self._failure = (
            f"the journal {self.path} cannot be written: {reason}. Everything acknowledged before is stored; "
            f"{_remedy(error)}, then start the run again"
        )
        return JournalFailed(self._failure)


def cut_torn_line(file: JournalFile, block: int = 1 << 16) -> int:
    """Truncate a file after its last newline; returns the new size."""
    size = file.size()
    end, window = 0, block
    while size and not end:
        start = max(0, size - window)
        end = start + file.read(start, size - start).rfind(b"\n") + 1
        if end == start:  # no newline in this window
            end = 0
        if start == 0:
            break
        window *= 2
    if end < size:
        file.truncate(end)
    return end


def _cannot_open(path: Path, error: OSError) -> str:
    if error.errno in (errno.EAGAIN, errno.EACCES) and os.access(path, os.W_OK):
        return f"another process is writing to the journal {path}; wait for it, or use another worker or run name"
    return f"the journal {path} cannot be opened for writing: {error.strerror or error}. {_remedy(error).capitalize()}"


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "free some space on that disk, or use another --store"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return "make the store folder writable, or use another --store"
        case _:
            return "check that disk, or use another --store"
