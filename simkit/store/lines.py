"""Lines of a journal: numbered and checksummed when written, returned in order when read.

A line is the JSON object of one event whose last two members are its number and a checksum:

    {"e":"RunFinished",...,"n":41,"c":"9a0b1c2d"}

Lines of a journal are numbered from 0. The checksum is the CRC-32 of everything before `,"c":`, seeded with that of the
journal's own name (`run_id/worker`), so a line of another journal does not pass. Older versions wrote lines without
numbers. They are accepted only at the beginning of a journal, and only in the number that the first numbered line
implies.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from simkit.store.damage import BadLine, Kind
from simkit.store.source import LOST, open_journal

CHUNK = 8 << 20
"""Bytes read at a time."""

_SEAL = 17
"""Number of bytes from the `,"c":` of a line to its end."""

_NUMBERS = re.compile(rb',"n":(\d{1,18}),"c":"')

Read = Callable[[int, int], bytes]
"""Function `(start, size)` that reads `size` bytes of a file from offset `start`, fewer at its end."""


def journal_seed(path: Path) -> int:
    """Seed of a journal's checksums, derived from the names of the journal and its run."""
    return crc32(f"{path.parent.name}/{path.stem}".encode("utf-8", "surrogateescape"))


def seal(line: bytes, number: int, seed: int) -> bytes:
    """An encoded event with its number and checksum."""
    head = b'%b,"n":%d' % (line[:-2], number)
    return b'%b,"c":"%08x"}\n' % (head, crc32(head, seed))


def unsealed(line: bytes) -> bytes:
    """The encoded event of an intact numbered line."""
    head = line.rstrip(b"\r\n")[: 1 - _SEAL]
    return head[: head.rfind(b',"n":')] + b"}\n"


def number_of(line: bytes, seed: int) -> int | None:
    """Number of a complete line, None if its checksum does not match. Windows line endings are accepted."""
    if line.endswith(b"\r\n"):
        line = line[:-2] + b"\n"
    head = line[:-_SEAL]
    digits = head[head.rfind(b',"n":') + 5 :]
    if not digits.isdigit() or line[-_SEAL:] != b',"c":"%08x"}\n' % crc32(head, seed):
        return None
    return int(digits)


def is_sealed(line: bytes) -> bool:
    """Whether a line ends like a numbered line, intact or not."""
    line = line.rstrip(b"\r\n")
    return line[1 - _SEAL : 7 - _SEAL] == b',"c":"'


def written_number(line: bytes) -> int | None:
    """Number written in a line, whether the line is intact or not."""
    numbers = _NUMBERS.findall(line[-64:])
    return int(numbers[-1]) if numbers else None


@dataclass(frozen=True, slots=True)
class JournalPosition:
    """A position between two lines of a journal.

    Attributes:
        byte, line: bytes and lines before it.
        number: number that the next line must have.
    """

    byte: int = 0
    line: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Prefix:
    """The unnumbered lines at the beginning of a journal.

    Attributes:
        lines: number of them that belong to the journal.
        number: number of the first line after them, if none is lost.
        bad: damage that their count reveals.
    """

    lines: int = 0
    number: int = 0
    bad: tuple[BadLine, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalLine:
    """An intact line: its offset, and its number in the file, counted from 1; `losses` counts the gaps before it."""

    data: bytes
    byte: int
    line: int
    losses: int = 0


@dataclass(slots=True)
class _IntactLine:
    """An intact line of a journal that is not in order, before sorting."""

    number: int
    byte: int
    size: int
    line: int
    checksum: int


@dataclass(frozen=True, slots=True)
class UnorderedRest:
    """The rest of a journal that is not in order.

    Attributes:
        order: the intact lines in the order in which they were written: byte offset, size, line counted from 1, and
            number of gaps before the line.
        bad: all damage, in the order of the file.
        end: the end of the file.
        whole: whether no number is missing and the last line is intact.
    """

    order: list[tuple[int, int, int, int]]
    bad: list[BadLine]
    end: JournalPosition
    whole: bool


def advance(data: bytes, place: JournalPosition, seed: int, prefix: Prefix) -> tuple[int, JournalPosition]:
    """Number of bytes of `data` (complete lines starting at `place`) that are in order, and the position after them."""
    start, line, number = 0, place.line, place.number
    for text in data.split(b"\n")[:-1]:
        if line >= prefix.lines:
            tail = b',"n":%d,"c":"%08x"}' % (number, crc32(text[: 1 - _SEAL], seed))
            if not text.endswith(tail) and number_of(text + b"\n", seed) != number:
                break
            number += 1
        start, line = start + len(text) + 1, line + 1
        if line == prefix.lines:
            number = prefix.number
    return start, JournalPosition(place.byte + start, line, number)


def read_prefix(path: Path, read: Read, place: JournalPosition, seed: int) -> Prefix:
    """The accepted unnumbered lines, for a reader that has reached `place` without meeting a numbered line.

    The first numbered line implies their count: a journal that starts with numbers has none.
    """
    lines, before = place.line, True
    for line in each_line(read, place.byte):
        number = number_of(line, seed) if is_sealed(line) else None
        before = before and not is_sealed(line)
        if number is not None:
            return _counted(path, lines, number)
        lines += before
    return Prefix(lines, lines)


def _counted(path: Path, lines: int, number: int) -> Prefix:
    """The prefix of a journal with `lines` unnumbered lines whose first numbered line has `number`."""
    if number >= lines:
        return Prefix(lines, lines)
    if number == 0:
        return Prefix()
    reason = f"{lines} lines without numbers, where the first numbered one counts {number}"
    return Prefix(lines, number, (BadLine(path, 0, 1, reason, "duplicate", number, lines - number, 0),))


def each_piece(read: Read, start: int, size: int = CHUNK) -> Iterator[bytes]:
    """Complete lines of a file from offset `start`, about `size` bytes at a time."""
    while data := whole_lines(read, start, size):
        yield data
        start += len(data)


def each_line(read: Read, start: int = 0) -> Iterator[bytes]:
    """Complete lines of a file from offset `start`, one at a time."""
    for data in each_piece(read, start):
        yield from each_of(data)


def each_of(data: bytes) -> Iterator[bytes]:
    """Split data that consists of complete lines into lines."""
    start = 0
    while start < len(data):
        end = data.index(b"\n", start) + 1
        yield data[start:end]
        start = end


def whole_lines(read: Read, start: int, size: int) -> bytes:
    """About `size` bytes of complete lines from offset `start`: at least one line, or nothing at the end."""
    data = read(start, size)
    while (end := data.rfind(b"\n") + 1) == 0:  # one line longer than a piece
        more = read(start + len(data), max(size, len(data)))
        if not more:
            return b""
        data += more
    return data[:end]


def next_number(read: Read, seed: int) -> int:
    """Number for the next line of a journal; no existing line, intact or damaged, has it."""
    highest, lines, trailing = -1, 0, list[bytes]()
    for line in each_line(read):
        number = number_of(line, seed)
        lines += 1
        if number is None:
            trailing.append(line)
        else:
            highest = max(highest, number)
            trailing.clear()
    return lines if highest < 0 else _following(highest, trailing)


def _following(highest: int, trailing: Sequence[bytes]) -> int:
    """Number after an intact line and the damaged lines that follow it, which may contain several numbers."""
    most = highest + sum(map(len, trailing))
    seen = [int(digits) for line in trailing for digits in _NUMBERS.findall(line)]
    return max([highest + len(trailing), *(number for number in seen if number <= most)]) + 1


def survey(path: Path, read: Read, place: JournalPosition, seed: int, prefix: Prefix) -> UnorderedRest:
    """Examine the rest of a journal in which everything before `place` is in order.

    Damaged lines and duplicates are left out; misplaced lines are moved to their proper position.
    """
    found, bad, trailing = list[_IntactLine](), list[BadLine](), list[bytes]()
    byte, line = place.byte, place.line
    highest = place.number - 1
    for data in each_line(read, place.byte):
        number = line if line < prefix.lines else number_of(data, seed)
        line += 1
        if number is None:
            bad.append(_damaged(path, byte, line, data, numbered=bool(found or place.number)))
            trailing.append(data)
        else:
            found.append(_IntactLine(number, byte, len(data), line, crc32(data)))
            highest = max(highest, number)
            trailing.clear()
        byte += len(data)
    kept, misplaced = _sorted_out(path, found, place.number)
    gaps = _gaps(kept, place.number)
    bad += misplaced
    bad += _lost(path, kept, gaps, bad, place.number)
    end = JournalPosition(byte, line, _following(highest, trailing) if line > prefix.lines else prefix.number)
    bad.sort(key=lambda one: (one.byte, one.kind))
    return UnorderedRest(_ordered(kept, place.number), bad, end, whole=not gaps and not trailing)


def _damaged(path: Path, byte: int, line: int, data: bytes, *, numbered: bool) -> BadLine:
    kind: Kind = "altered"
    if data.startswith(LOST):
        reason = f"{len(data):,} bytes of the compressed journal cannot be decompressed"
    elif is_sealed(data):
        reason = "its checksum does not hold: it was altered, or is a line of another journal"
    else:
        kind = "garbage"
        reason = "it has no number and checksum" + (", which all lines here have" if numbered else "")
    return BadLine(path, byte, line, reason, kind, written_number(data), 1, crc32(data))


def _sorted_out(path: Path, found: Sequence[_IntactLine], first: int) -> tuple[list[_IntactLine], list[BadLine]]:
    """The lines to keep, sorted by number, and the damage: duplicates and misplaced lines."""
    seen: set[int] = set()
    bad: list[BadLine] = []
    kept: list[_IntactLine] = []
    highest = first
    for one in found:
        if one.number < first or one.number in seen:
            reason = "an earlier line has the same number"
            bad.append(BadLine(path, one.byte, one.line, reason, "duplicate", one.number, 1, one.checksum))
            continue
        if one.number < highest:
            reason = "it stands after lines that were written later; it is read where it belongs"
            bad.append(BadLine(path, one.byte, one.line, reason, "late", one.number, 1, one.checksum))
        highest = max(highest, one.number)
        seen.add(one.number)
        kept.append(one)
    kept.sort(key=lambda one: one.number)
    return kept, bad


def _gaps(kept: Sequence[_IntactLine], first: int) -> list[range]:
    """Ranges of numbers without an intact line."""
    gaps: list[range] = []
    for one in kept:
        if one.number > first:
            gaps.append(range(first, one.number))
        first = one.number + 1
    return gaps


def _lost(
    path: Path, kept: Sequence[_IntactLine], gaps: Sequence[range], bad: Sequence[BadLine], first: int
) -> list[BadLine]:
    """Gaps with more missing numbers than damaged lines that could account for them."""
    starts, left = [gap.start for gap in gaps], [len(gap) for gap in gaps]
    here = sorted((one.byte, one.number) for one in kept)
    after = {one.number: one for one in kept}

    def gap_of(number: int) -> int | None:
        place = bisect_right(starts, number) - 1
        return place if place >= 0 and number in gaps[place] else None

    for one in bad:
        if one.kind in ("altered", "garbage"):
            place = None if one.sequence is None else gap_of(one.sequence)
            if place is None:  # unreadable number: assume the one after that of the preceding line
                before = bisect_right(here, one.byte, key=lambda at: at[0]) - 1
                place = gap_of(here[before][1] + 1 if before >= 0 else first)
            if place is not None:
                left[place] -= 1
    lost: list[BadLine] = []
    for gap, count in zip(gaps, left, strict=True):
        if count > 0:
            next_line = after[gap.stop]
            reason = f"{count} lines before it are missing" if count > 1 else "the line before it is missing"
            lost.append(BadLine(path, next_line.byte, next_line.line, reason, "lost", gap.start, count, len(gap)))
    return lost


def _ordered(kept: Sequence[_IntactLine], number: int) -> list[tuple[int, int, int, int]]:
    order: list[tuple[int, int, int, int]] = []
    losses = 0
    for one in kept:
        losses += one.number != number
        number = one.number + 1
        order.append((one.byte, one.size, one.line, losses))
    return order


class JournalLines:
    """Intact lines of a journal file in the order in which they were written. After iteration, `bad` holds the damage.

    A torn last line left by a killed process is not damage: it was never acknowledged.

    Raises:
        OSError: the file cannot be read (raised during iteration).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad: tuple[BadLine, ...] = ()
        self.lines = 0
        self._seed = journal_seed(path)

    def __iter__(self) -> Iterator[JournalLine]:
        with closing(open_journal(self.path, synced=False)) as source:
            read = source.read
            place = JournalPosition()
            prefix = read_prefix(self.path, read, place, self._seed)
            self.bad = prefix.bad
            for data in each_piece(read, 0):
                before = place
                taken, place = advance(data, place, self._seed, prefix)
                byte = before.byte
                for count, line in enumerate(each_of(data[:taken]), before.line + 1):
                    yield JournalLine(line, byte, count)
                    byte += len(line)
                self.lines = place.line
                if taken < len(data):
                    yield from self._surveyed(read, survey(self.path, read, place, self._seed, prefix))
                    return

    def _surveyed(self, read: Read, rest: UnorderedRest) -> Iterator[JournalLine]:
        self.bad += tuple(rest.bad)
        for byte, size, line, losses in rest.order:
            yield JournalLine(read(byte, size), byte, line, losses)
        self.lines = rest.end.line
