"""Conversion of journal lines to rows in one transaction; lines that the database rejects are recorded as damage."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Protocol
from zlib import crc32

import duckdb
import orjson

from simkit.store.columns import load_sql, stage_sql
from simkit.store.damage import FIELDS, BadLine, DamageFile
from simkit.store.encoding import refusal
from simkit.store.lines import JournalPosition, UnorderedRest, each_of, written_number
from simkit.store.reading import LoadProgress
from simkit.store.source import JournalSource, SourceOpener

ENDING = 256
"""Number of bytes before the end of the loaded data whose checksum reveals a changed journal."""

REFUSED = (duckdb.DataError, duckdb.InvalidInputException, duckdb.IntegrityError, UnicodeDecodeError)
"""Errors that DuckDB raises for rejected lines; its message may end within a character, which cannot be decoded."""


@dataclass(slots=True)
class LoadingRound:
    """State of the current loading round; `troubles` lists the journals that could not be read."""

    connection: duckdb.DuckDBPyConnection
    folder: Path
    scratch: Path
    piece: int
    deadline: float
    source: SourceOpener
    damage: DamageFile
    again: frozenset[str] = frozenset()
    marks: dict[str, LoadProgress] = field(default_factory=dict[str, LoadProgress])
    lines: int = 0
    bytes: int = 0
    bad: list[BadLine] = field(default_factory=list[BadLine])
    troubles: list[BadLine] = field(default_factory=list[BadLine])


@dataclass(frozen=True, slots=True)
class OpenJournal:
    """A journal that is being loaded."""

    path: Path
    name: str
    seed: int
    source: JournalSource

    def size(self) -> int:
        """Bytes in the file."""
        try:
            return self.source.size()
        except OSError as error:
            raise UnreadableJournal(error.strerror or str(error)) from error

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes from offset `start`."""
        try:
            return self.source.read(start, size)
        except OSError as error:
            raise UnreadableJournal(error.strerror or str(error)) from error

    def sync(self) -> None:
        """Flush the file to disk."""
        try:
            self.source.sync()
        except OSError as error:
            raise UnreadableJournal(f"it cannot be brought to the disk: {error.strerror or error}") from error


class UnreadableJournal(Exception):
    """A journal cannot be read."""


class Batch(Protocol):
    """Lines loaded in one transaction, in one or more pieces."""

    def pieces(self) -> Iterator[bytes]:
        """The complete lines."""
        ...

    def places(self) -> Iterator[tuple[int, int]]:
        """The byte where each line begins, and its number in the file."""
        ...


@dataclass(frozen=True, slots=True)
class OrderedBatch:
    """A contiguous part of a journal that is in order."""

    data: bytes
    start: JournalPosition

    def pieces(self) -> Iterator[bytes]:
        """The complete lines, as one piece."""
        yield self.data

    def places(self) -> Iterator[tuple[int, int]]:
        """The byte where each line begins, and its number in the file."""
        byte = self.start.byte
        for number, line in enumerate(each_of(self.data), self.start.line + 1):
            yield byte, number
            byte += len(line)


@dataclass(frozen=True, slots=True)
class SortedBatch:
    """The rest of a damaged journal: its intact lines in the order in which they were written."""

    read: Callable[[int, int], bytes]
    rest: UnorderedRest
    size: int

    def pieces(self) -> Iterator[bytes]:
        """The complete lines, about `size` bytes at a time."""
        piece: list[bytes] = []
        size = 0
        for byte, count in self._stretches():
            piece.append(self.read(byte, count))
            size += count
            if size >= self.size:
                yield b"".join(piece)
                piece, size = [], 0
        if piece:
            yield b"".join(piece)

    def places(self) -> Iterator[tuple[int, int]]:
        """The byte where each line begins, and its number in the file."""
        for byte, _, line, _ in self.rest.order:
            yield byte, line

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Runs of adjacent lines that can be read at once: byte offset and size."""
        start = count = 0
        for byte, size, _, _ in self.rest.order:
            if count and (byte != start + count or count >= self.size):
                yield start, count
                start, count = byte, 0
            start = start if count else byte
            count += size
        if count:
            yield start, count


def load_batch(
    work: LoadingRound, journal: OpenJournal, batch: Batch, after: LoadProgress, bad: Sequence[BadLine]
) -> LoadProgress:
    """Load lines in one transaction; lines that the database rejects are left out and recorded as damage."""
    try:
        return _insert(work, journal, batch.pieces(), after, bad)
    except REFUSED:
        refused = _refused(work, journal, batch)
    left = _without(batch, frozenset(one.byte for one in refused))
    try:
        return _insert(work, journal, left, after, (*bad, *refused))
    except REFUSED as error:
        raise UnreadableJournal(f"its lines cannot be loaded: {_reason(error)}") from error


def _without(batch: Batch, refused: frozenset[int]) -> Iterator[bytes]:
    places = batch.places()
    for piece in batch.pieces():
        kept = [line for line, (byte, _) in zip(each_of(piece), places, strict=False) if byte not in refused]
        if kept:
            yield b"".join(kept)


def _insert(
    work: LoadingRound, journal: OpenJournal, pieces: Iterator[bytes], after: LoadProgress, bad: Sequence[BadLine]
) -> LoadProgress:
    lines = size = 0
    with transaction(work.connection):
        for data in pieces:
            (attempt,) = stage_and_load(work, [(journal.name, after.attempt, data)])
            after = replace(after, attempt=attempt)
            lines += data.count(b"\n")
            size += len(data)
        after = replace(after, ending=ending_of(journal, after.loaded))
        keep_bad(work, bad)
        _set_marks(work.connection, {journal.name: after})
        journal.sync()  # the database may not know more than the disk has
    work.marks[journal.name] = after
    work.lines += lines
    work.bytes += size
    work.bad += bad
    return after


@dataclass(frozen=True, slots=True)
class JournalPart:
    """Lines of a journal that are in order, with the progress after them."""

    journal: OpenJournal
    data: bytes
    after: LoadProgress


def load_parts(work: LoadingRound, parts: Sequence[JournalPart]) -> None:
    """Load lines of several journals in one transaction.

    Raises:
        REFUSED: the database rejects a line; nothing is loaded.
        UnreadableJournal: a journal cannot be read or synced; nothing is loaded.
    """
    with transaction(work.connection):
        attempts = stage_and_load(work, [(part.journal.name, part.after.attempt, part.data) for part in parts])
        marks = {
            part.journal.name: replace(part.after, attempt=attempt, ending=ending_of(part.journal, part.after.loaded))
            for part, attempt in zip(parts, attempts, strict=True)
        }
        _set_marks(work.connection, marks)
        for part in parts:
            part.journal.sync()
    work.marks |= marks
    work.lines += sum(part.data.count(b"\n") for part in parts)
    work.bytes += sum(len(part.data) for part in parts)


def stage_and_load(work: LoadingRound, parts: Sequence[tuple[str, int, bytes]]) -> list[int]:
    """Convert lines to rows within a transaction.

    Args:
        parts: name of each journal, attempt of the run that its lines continue, and the lines.

    Returns:
        For each journal the attempt of the last start of its run among the lines.
    """
    pieces: list[str] = []
    for number, (_, _, data) in enumerate(parts):
        piece = work.scratch / f"{number}.jsonl"
        piece.write_bytes(data)
        pieces.append(str(piece))
    attempts = {name: attempt for name, attempt, _ in parts}
    values = {"pieces": pieces, "journals": [*attempts], "attempts": [*attempts.values()]}
    largest = max(1 << 20, *(len(data) for _, _, data in parts))
    work.connection.execute(stage_sql(), {**values, "largest": largest})
    starts = work.connection.execute(_STARTS).fetchall()
    work.connection.execute(load_sql())
    for name, recorded in starts:
        attempts[name] = attempts[name] + 1 if recorded is None else int(recorded)
    return [*attempts.values()]


_STARTS = "SELECT journal, attempt FROM staged WHERE e = 'RunStarted' ORDER BY line"


def _refused(work: LoadingRound, journal: OpenJournal, batch: Batch) -> list[BadLine]:
    """Lines that cannot be loaded: those that are not known events, and those that the database rejects."""
    found: list[BadLine] = []
    places = batch.places()
    for piece in batch.pieces():
        fine: list[tuple[bytes, int, int]] = []
        for line, (byte, number) in zip(each_of(piece), places, strict=False):
            if (reason := refusal(line)) is not None:
                found.append(_unreadable(journal.path, line, byte, number, reason))
            else:
                fine.append((line, byte, number))
        found += _halved(work, journal, fine)
    return found


def _halved(work: LoadingRound, journal: OpenJournal, lines: Sequence[tuple[bytes, int, int]]) -> list[BadLine]:
    if not lines:
        return []
    try:
        with transaction(work.connection, keep=False):
            stage_and_load(work, [(journal.name, 0, b"".join(line for line, _, _ in lines))])
    except REFUSED as error:
        if len(lines) == 1:
            line, byte, number = lines[0]
            return [_unreadable(journal.path, line, byte, number, _reason(error))]
        middle = len(lines) // 2
        return [*_halved(work, journal, lines[:middle]), *_halved(work, journal, lines[middle:])]
    return []


def _unreadable(path: Path, line: bytes, byte: int, number: int, reason: str) -> BadLine:
    return BadLine(path, byte, number, reason, "unreadable", written_number(line), 1, crc32(line))


def ending_of(journal: OpenJournal, loaded: int) -> int:
    """Checksum of the last bytes before `loaded`; it reveals a changed journal."""
    start = max(0, loaded - ENDING)
    return crc32(journal.read(start, loaded - start))


def keep_bad(work: LoadingRound, bad: Sequence[BadLine]) -> None:
    """Insert damage into `unreadable_lines` within the open transaction."""
    if not bad:
        return
    acknowledged = work.damage.acknowledged()
    rows = [
        {
            "journal": one.key[0],
            "acknowledged": one.key in acknowledged,
            **{name: getattr(one, name) for name in FIELDS},
        }
        for one in bad
    ]
    file = work.scratch / "bad.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    work.connection.execute(_KEEP, [str(file)])


_KEEP = """
INSERT INTO unreadable_lines BY NAME
FROM read_json(?, format = 'newline_delimited', columns = {
    'journal': 'VARCHAR', 'byte': 'BIGINT', 'line': 'BIGINT', 'reason': 'VARCHAR', 'kind': 'VARCHAR',
    'sequence': 'BIGINT', 'lines': 'BIGINT', 'checksum': 'BIGINT', 'acknowledged': 'BOOLEAN'
})
"""


def _set_marks(connection: duckdb.DuckDBPyConnection, marks: Mapping[str, LoadProgress]) -> None:
    connection.execute("DELETE FROM journals WHERE list_contains(?, journal)", [[*marks]])
    rows = [value for name, mark in marks.items() for value in (name, *astuple(mark))]
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(marks))
    connection.execute(f"INSERT INTO journals VALUES {places}", rows)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection, *, keep: bool = True) -> Generator[None]:
    """A transaction: committed on exit if `keep` is set, otherwise rolled back; always rolled back on an exception."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    if keep:
        connection.commit()
    else:
        connection.rollback()


def _reason(error: duckdb.Error | UnicodeDecodeError) -> str:
    """DuckDB's error message without the name of the scratch file and its advice."""
    if isinstance(error, UnicodeDecodeError):
        return "the database does not take it, and its reason is not valid UTF-8"
    text = str(error).splitlines()[0]
    return text.partition(", in line 1: ")[2] or text.rpartition(" in line 2: ")[2]
