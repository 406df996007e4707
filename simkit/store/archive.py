"""Compressed journals: `main.jsonl.zst` holds the bytes of `main.jsonl` in Zstandard frames.

Offsets, sizes and lines are always those of the uncompressed journal, so nothing that is recorded about a journal
changes when it is compressed. Archives of simkit have frames of whole lines and end with a table of them (the seekable
format of Zstandard's `contrib`); files of other programs are read, too. A frame that cannot be decompressed reads as
one line of filler of its length: the damage has a place, and the frames behind it count.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from struct import Struct
from types import ModuleType

from simkit.store.files import open_private, sync_folders
from simkit.store.source import ARCHIVED, LOST, DiskSource

FRAME = 1 << 20
"""Bytes of lines in a frame; a longer line has a frame of its own."""

LARGEST = 1 << 30
"""Largest frame that is read, in bytes."""

LEVEL = 3

_UNSEALED = b',"c":"-       "}\n'
"""The end of a line with a checksum that none has, so that the filler is never taken for a line of an old version."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = Struct("<II")
_ENTRY = Struct("<II")
_FOOTER = Struct("<IBI")
_TABLE, _SEEKABLE = 0x184D2A5E, 0x8F92EAB1


def archive_of(journal: Path) -> Path:
    """The compressed form of a journal."""
    return journal.with_name(f"{journal.name}{ARCHIVED}")


def zstd() -> ModuleType:
    """Python's own module for Zstandard (3.14), or its copy for earlier versions."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame, or a damaged stretch: its place in the file, and the bytes that it stands for (None: not known)."""

    start: int
    size: int
    length: int | None
    sound: bool = True


class ArchiveSource(DiskSource):
    """A compressed journal, opened for reading: a `JournalSource` of the uncompressed bytes.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        super().__init__(path, synced=synced)
        try:
            self._data: mmap.mmap | bytes = b""
            if os.fstat(self._fd).st_size:
                self._data = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ)
            self._frames = _table(self._data) or [*_walked(self._data)]
            self._known: tuple[int, bytes] = (-1, b"")
            lengths = (self._length(number) for number in range(len(self._frames)))
            self._ends = [*accumulate(lengths)]
        except BaseException:
            super().close()
            raise

    def size(self) -> int:
        """Bytes in the journal."""
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes of the journal from offset `start`."""
        end = min(start + size, self.size())
        parts: list[bytes] = []
        while start < end:
            number = bisect_right(self._ends, start)
            before = self._ends[number] - self._length(number)
            part = self._decompressed(number)[start - before : end - before]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        super().close()
        data, self._data = self._data, b""
        if isinstance(data, mmap.mmap):
            data.close()

    def _length(self, number: int) -> int:
        length = self._frames[number].length
        return len(self._decompressed(number)) if length is None else length

    def _decompressed(self, number: int) -> bytes:
        """The bytes that a frame stands for; the last ones are kept."""
        if self._known[0] != number:
            self._known = (number, _decompressed(self._data, self._frames[number]))
        return self._known[1]


def _decompressed(data: mmap.mmap | bytes, frame: _Frame) -> bytes:
    if frame.sound:
        most = LARGEST if frame.length is None else frame.length
        with suppress(zstd().ZstdError, MemoryError):
            reader = zstd().ZstdDecompressor()
            found: bytes = reader.decompress(data[frame.start : frame.start + frame.size], max_length=most + 1)
            if reader.eof and len(found) in (frame.length, *((len(found),) if frame.length is None else ())):
                return found
    if frame.length is None:
        return LOST + _UNSEALED
    return (LOST.ljust(frame.length, b"\0")[: -len(_UNSEALED)] + _UNSEALED)[-frame.length :]


def _table(data: mmap.mmap | bytes) -> list[_Frame]:
    """The frames that the table at the end lists; empty if there is none, or if it does not fit the file."""
    if len(data) < _FOOTER.size:
        return []
    count, descriptor, magic = _FOOTER.unpack(data[-_FOOTER.size :])
    begin = len(data) - _FOOTER.size - count * _ENTRY.size - _SKIPPABLE.size
    if magic != _SEEKABLE or descriptor or begin < 0:
        return []
    if _SKIPPABLE.unpack(data[begin : begin + _SKIPPABLE.size]) != (_TABLE, len(data) - begin - _SKIPPABLE.size):
        return []
    frames: list[_Frame] = []
    start = 0
    for size, length in _ENTRY.iter_unpack(data[begin + _SKIPPABLE.size : -_FOOTER.size]):
        frames.append(_Frame(start, size, length))
        start += size
    return frames if start == begin and all(0 < frame.length <= LARGEST for frame in frames if frame.length) else []


def _walked(data: mmap.mmap | bytes) -> Iterator[_Frame]:
    """The frames of a file without a table, found one after the other; behind damage, at the next mark of a frame."""
    position = 0
    view = memoryview(data)
    try:
        while position < len(data):
            rest = view[position:]
            try:
                size = int(zstd().get_frame_size(rest))
                if bytes(rest[:4]) == _MAGIC:
                    length = zstd().get_frame_info(rest).decompressed_size
                    yield _Frame(position, size, length, sound=length is None or length <= LARGEST)
            except zstd().ZstdError:
                following = data.find(_MAGIC, position + 1)
                size = (len(data) if following < 0 else following) - position
                yield _Frame(position, size, None, sound=False)
            finally:
                rest.release()
            position += size
    finally:
        view.release()


def compress(journal: Path) -> Path:
    """Replace a journal by its compressed form; at every moment one of them is complete. Returns the new path.

    Raises:
        OSError: a file cannot be read or written. The journal is as it was.
    """
    archive = archive_of(journal)
    made = journal.with_name(f".{archive.name}")
    try:
        _write(made, _compressed(journal))
        _check(made, journal)
        made.rename(archive)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    sync_folders(archive)
    journal.unlink()
    sync_folders(archive)
    return archive


def restore(journal: Path) -> None:
    """Replace a compressed journal by the plain one, to which lines can be appended; does nothing if it is plain.

    Raises:
        OSError: a file cannot be read or written.
    """
    archive = archive_of(journal)
    if journal.exists() or not archive.exists():
        return
    made = journal.with_name(f".{journal.name}.restored")
    try:
        source = ArchiveSource(archive)
        try:
            _write(made, (source.read(start, FRAME) for start in range(0, source.size(), FRAME)))
        finally:
            source.close()
        made.rename(journal)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    sync_folders(journal)
    archive.unlink()


def _compressed(journal: Path) -> Iterator[bytes]:
    """The frames of a journal and their table."""
    package = zstd()
    options = {package.CompressionParameter.compression_level: LEVEL, package.CompressionParameter.checksum_flag: 1}
    entries: list[bytes] = []
    for lines in _stretches(journal):
        frame: bytes = package.compress(lines, options=options)
        entries.append(_ENTRY.pack(len(frame), len(lines)))
        yield frame
    size = len(entries) * _ENTRY.size + _FOOTER.size
    yield b"".join((_SKIPPABLE.pack(_TABLE, size), *entries, _FOOTER.pack(len(entries), 0, _SEEKABLE)))


def _stretches(journal: Path) -> Iterator[bytes]:
    """The bytes of a journal in stretches of whole lines; a torn line at the end stays with the last."""
    with journal.open("rb") as file:
        rest = b""
        while data := file.read(FRAME):
            end = data.rfind(b"\n") + 1
            if end:
                yield rest + data[:end]
                rest = b""
            rest += data[end:]
        if rest:
            yield rest


def _check(archive: Path, journal: Path) -> None:
    """Compare an archive with the journal it was made from, before the journal goes."""
    source = ArchiveSource(archive)
    try:
        with journal.open("rb") as file:
            for start in range(0, max(1, source.size()), FRAME):
                part = source.read(start, FRAME)
                if file.read(FRAME) != part:
                    raise OSError(errno.EIO, f"{archive} does not hold what {journal} does")
            if file.read(1):
                raise OSError(errno.EIO, f"{archive} lacks the end of {journal}")
    finally:
        source.close()


def _write(path: Path, parts: Iterator[bytes] | Sequence[bytes]) -> None:
    """Write a new file and bring it to the disk."""
    path.unlink(missing_ok=True)
    file = open_private(path, os.O_WRONLY)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)
