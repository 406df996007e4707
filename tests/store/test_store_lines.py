"""Lines of journals one by one: how they are sealed and found again, and what is said of damaged ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

import pytest

from simkit.store.damage import BadLine
from simkit.store.lines import (
    JournalLine,
    JournalLines,
    JournalPosition,
    Prefix,
    Read,
    advance,
    each_line,
    each_piece,
    is_sealed,
    journal_seed,
    next_number,
    number_of,
    read_prefix,
    seal,
    survey,
    unsealed,
    whole_lines,
    written_number,
)
from simkit.store.source import LOST

PATH = Path("store", "journals", "r1", "w0.jsonl")
SEED = journal_seed(PATH)

Lines = Sequence[bytes]


def event(text: str = "x") -> bytes:
    return b'{"e":"X","v":"%s"}\n' % text.encode()


def old(number: int) -> bytes:
    """A line of a version before numbers."""
    return b'{"e":"Old","v":%d}\n' % number


def altered(line: bytes) -> bytes:
    return line.replace(b'"v"', b'"w"')


def renumbered(line: bytes, number: int, to: int) -> bytes:
    """The number of a line changed behind the back of its checksum."""
    return line.replace(b',"n":%d,' % number, b',"n":%d,' % to)


def reading(lines: Lines | bytes) -> Read:
    data = lines if isinstance(lines, bytes) else b"".join(lines)
    return lambda start, size: data[start : start + size]


AT = [seal(event("x" * number), number, SEED) for number in range(8)]
"""A journal."""

FOREIGN = seal(event("of another journal"), 3, journal_seed(PATH.with_name("w1.jsonl")))
JUNK = b"junk\n"
SEALED_ALONE = b',"c":"%08x"}\n' % crc32(b'{"e":"X"', SEED)
"""The end of a line whose checksum holds, and that has no number."""


def test_a_line_ends_with_its_number_and_the_checksum_of_what_is_before() -> None:
    assert crc32(b"r1/w0") == SEED
    head = b'{"e":"X","v":"x","n":41'
    assert seal(event(), 41, SEED) == head + b',"c":"%08x"}\n' % crc32(head, SEED)


def test_a_name_that_is_no_utf_8_has_a_checksum() -> None:
    assert journal_seed(Path("r\udcff", "w0.jsonl")) == crc32(b"r\xff/w0")


@pytest.mark.parametrize("number", [0, 9, 10, 999, 10**17])
def test_the_number_of_a_sound_line_is_read(number: int) -> None:
    line = seal(event(), number, SEED)
    assert number_of(line, SEED) == number
    assert number_of(line[:-1] + b"\r\n", SEED) == number
    assert written_number(line) == number
    assert is_sealed(line)
    assert is_sealed(line[:-1] + b"\r\n")


@pytest.mark.parametrize("place", range(len(AT[3]) - 1))
def test_one_altered_byte_anywhere_is_noticed(place: int) -> None:
    line = bytearray(AT[3])
    line[place] ^= 1
    assert number_of(bytes(line), SEED) is None


@pytest.mark.parametrize(
    ("line", "sealed", "written"),
    [
        (FOREIGN, True, 3),
        (altered(AT[3]), True, 3),
        (renumbered(AT[3], 3, 12), True, 12),
        (AT[2][:9] + AT[3], True, 3),
        (AT[2][:-1] + AT[3], True, 3),
        (b'{"e":"X"%b' % SEALED_ALONE, True, None),
        (AT[3][:20], False, None),
        (old(3), False, None),
        (JUNK, False, None),
        (b"\n", False, None),
    ],
)
def test_what_is_no_sound_line_has_no_number_but_may_say_one(line: bytes, sealed: bool, written: int | None) -> None:
    assert number_of(line, SEED) is None
    assert is_sealed(line) == sealed
    assert written_number(line) == written


@pytest.mark.parametrize("torn", [b"", b"torn"])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 20, 1 << 20])
def test_pieces_are_whole_lines_of_about_a_size(size: int, torn: bytes) -> None:
    lines = [b"a\n", b"\n", b"bcdefgh\n", b"i\n", b"jk\n", b"l" * 100 + b"\n"]
    whole = b"".join(lines)
    for start in (0, 2, 3):
        pieces = list(each_piece(reading(whole + torn), start, size))
        assert b"".join(pieces) == whole[start:]
        assert all(piece.endswith(b"\n") for piece in pieces)
        assert all(len(piece) <= size or piece.count(b"\n") == 1 or size <= 100 for piece in pieces)
    assert whole_lines(reading(whole + torn), 0, 8) == b"a\n\n"
    assert whole_lines(reading(whole + torn), 3, 8) == lines[2]
    assert whole_lines(reading(whole + torn), len(whole), size) == b""
    assert list(each_line(reading(whole + torn), 2)) == lines[1:]


def test_a_long_line_is_read_in_growing_pieces() -> None:
    data = b"x" * 1_000 + b"\n"
    asked: list[tuple[int, int]] = []

    def read(start: int, size: int) -> bytes:
        asked.append((start, size))
        return data[start : start + size]

    assert whole_lines(read, 0, 300) == data
    assert asked == [(0, 300), (300, 300), (600, 600)]


Bad = tuple[int, str, int | None, int]
"""The line of a damage in the file, its kind, the number that the line has or would have, and how many lines."""

DAMAGED: dict[str, tuple[Lines, list[tuple[int, int]], list[Bad]]] = {
    # what the file holds, the lines to be read (line and losses before it), what is wrong
    "nothing is wrong": (AT[:3], [(1, 0), (2, 0), (3, 0)], []),
    "a copy": ([*AT[:3], AT[2], AT[3]], [(1, 0), (2, 0), (3, 0), (5, 0)], [(4, "duplicate", 2, 1)]),
    "a copy behind a gap": (
        [AT[0], *AT[2:4], AT[3]],
        [(1, 0), (2, 1), (3, 1)],
        [(2, "lost", 1, 1), (4, "duplicate", 3, 1)],
    ),
    "two lines swapped": ([AT[0], AT[2], AT[1], AT[3]], [(1, 0), (3, 0), (2, 0), (4, 0)], [(3, "late", 1, 1)]),
    "lines in reverse": (AT[2::-1], [(3, 0), (2, 0), (1, 0)], [(2, "late", 1, 1), (3, "late", 0, 1)]),
    "a lost line": ([*AT[:2], AT[3]], [(1, 0), (2, 0), (3, 1)], [(3, "lost", 2, 1)]),
    "lost lines in two places": (
        [AT[0], AT[2], *AT[5:7]],
        [(1, 0), (2, 1), (3, 2), (4, 2)],
        [(2, "lost", 1, 1), (3, "lost", 3, 2)],
    ),
    "a lost beginning": (AT[2:4], [(1, 1), (2, 1)], [(1, "lost", 0, 2)]),
    "an altered line": ([AT[0], altered(AT[1]), AT[2]], [(1, 0), (3, 1)], [(2, "altered", 1, 1)]),
    "an altered first line": ([altered(AT[0]), AT[1]], [(2, 1)], [(1, "altered", 0, 1)]),
    "an altered last line": ([AT[0], altered(AT[1])], [(1, 0)], [(2, "altered", 1, 1)]),
    "two altered lines": (
        [AT[0], altered(AT[1]), altered(AT[2]), AT[3]],
        [(1, 0), (4, 1)],
        [(2, "altered", 1, 1), (3, "altered", 2, 1)],
    ),
    "an altered line and lost ones": (
        [AT[0], altered(AT[1]), AT[4]],
        [(1, 0), (3, 1)],
        [(2, "altered", 1, 1), (3, "lost", 1, 2)],
    ),
    "an altered line in another place, and a lost one": (
        [AT[0], *AT[3:5], altered(AT[2]), AT[5]],
        [(1, 0), (2, 1), (3, 1), (5, 1)],
        [(2, "lost", 1, 1), (4, "altered", 2, 1)],
    ),
    "an altered number": ([AT[0], renumbered(AT[1], 1, 9), AT[2]], [(1, 0), (3, 1)], [(2, "altered", 9, 1)]),
    "a number altered to that of a lost line": (
        [AT[0], renumbered(AT[1], 1, 3), AT[2], AT[4]],
        [(1, 0), (3, 1), (4, 2)],
        [(2, "altered", 3, 1), (3, "lost", 1, 1)],
    ),
    "a number altered to an earlier one": (
        [*AT[:2], renumbered(AT[2], 2, 0), AT[3]],
        [(1, 0), (2, 0), (4, 1)],
        [(3, "altered", 0, 1)],
    ),
    "garbage": ([AT[0], JUNK, AT[1]], [(1, 0), (3, 0)], [(2, "garbage", None, 1)]),
    "garbage at the beginning": ([JUNK, *AT[:2]], [(2, 0), (3, 0)], [(1, "garbage", None, 1)]),
    "garbage at the end": ([AT[0], JUNK, JUNK], [(1, 0)], [(2, "garbage", None, 1), (3, "garbage", None, 1)]),
    "garbage in place of a line": ([AT[0], JUNK, AT[2]], [(1, 0), (3, 1)], [(2, "garbage", None, 1)]),
    "garbage in place of two lines": (
        [AT[0], JUNK, AT[3]],
        [(1, 0), (3, 1)],
        [(2, "garbage", None, 1), (3, "lost", 1, 1)],
    ),
    "garbage far from what is lost": (
        [JUNK, *AT[:2], AT[3]],
        [(2, 0), (3, 0), (4, 1)],
        [(1, "garbage", None, 1), (4, "lost", 2, 1)],
    ),
    "the beginning, with the number of another line": (
        [renumbered(AT[0], 0, 2), *AT[1:3]],
        [(2, 1), (3, 1)],
        [(1, "altered", 2, 1)],
    ),
    "garbage behind a gap": (
        [AT[0], AT[2], JUNK, AT[4]],
        [(1, 0), (2, 1), (4, 2)],
        [(2, "lost", 1, 1), (3, "garbage", None, 1)],
    ),
    "garbage behind a late line": (
        [AT[2], AT[0], JUNK, AT[4]],
        [(2, 0), (1, 1), (4, 2)],
        [(2, "late", 0, 1), (3, "garbage", None, 1), (4, "lost", 3, 1)],
    ),
    "an altered line with the number of the one before it": (
        [AT[0], AT[2], altered(AT[2]), AT[4]],
        [(1, 0), (2, 1), (4, 2)],
        [(2, "lost", 1, 1), (3, "altered", 2, 1)],
    ),
    "a line of another journal": (
        [*AT[:2], FOREIGN, *AT[2:4]],
        [(1, 0), (2, 0), (4, 0), (5, 0)],
        [(3, "altered", 3, 1)],
    ),
    "a late line that leaves lost ones": (
        [*AT[:2], AT[5], AT[3]],
        [(1, 0), (2, 0), (4, 1), (3, 2)],
        [(3, "lost", 4, 1), (4, "late", 3, 1), (4, "lost", 2, 1)],
    ),
    "an older version's lines": ([old(0), old(1)], [(1, 0), (2, 0)], []),
    "an older version's lines, gone on with": ([old(0), old(1), AT[2]], [(1, 0), (2, 0), (3, 0)], []),
    "older lines of which one is lost": (
        [old(0), *AT[2:4]],
        [(1, 0), (2, 1), (3, 1)],
        [(2, "lost", 1, 1)],
    ),
    "older lines of which the first number knows fewer": (
        [old(0), old(1), old(2), AT[1]],
        [(1, 0), (2, 0), (3, 0), (4, 0)],
        [(1, "duplicate", 1, 2)],
    ),
    "older lines before a journal that has its beginning": (
        [old(0), *AT[:2]],
        [(2, 0), (3, 0)],
        [(1, "garbage", None, 1)],
    ),
    "an older line after numbered ones": ([AT[0], old(1), AT[1]], [(1, 0), (3, 0)], [(2, "garbage", None, 1)]),
    "older lines, altered ones behind them": (
        [old(0), altered(AT[1]), AT[2]],
        [(1, 0), (3, 1)],
        [(2, "altered", 1, 1)],
    ),
}


def begins(lines: Lines) -> list[int]:
    """The byte where each line begins, and that where the last one ends."""
    return [sum(map(len, lines[:count])) for count in range(len(lines) + 1)]


def told(bad: Iterable[BadLine]) -> list[Bad]:
    return [(one.line, one.kind, one.sequence, one.lines) for one in bad]


@pytest.mark.parametrize("torn", [b"", AT[7][:-1]])
@pytest.mark.parametrize("name", DAMAGED)
def test_each_sound_line_is_read_in_its_order_and_each_damage_has_its_place(
    tmp_path: Path, name: str, torn: bytes
) -> None:
    lines, expected, bad = DAMAGED[name]
    path = tmp_path / "r1" / "w0.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"".join(lines) + torn)
    journal = JournalLines(path)
    assert (journal.bad, journal.lines) == ((), 0)
    bytes_of = begins(lines)
    assert list(journal) == [
        JournalLine(lines[line - 1], bytes_of[line - 1], line, losses) for line, losses in expected
    ]
    assert told(journal.bad) == bad
    assert journal.lines == len(lines)
    for one in journal.bad:
        assert one.journal == path
        assert one.byte == bytes_of[one.line - 1]
        if one.kind in ("altered", "garbage", "late") or (one.lines == 1 and one.kind == "duplicate"):
            assert one.checksum == crc32(lines[one.line - 1])


def test_an_event_is_what_it_was_before_it_was_numbered() -> None:
    line = seal(event(), 12, SEED)
    assert unsealed(line) == unsealed(line[:-1] + b"\r\n") == event()


def test_bytes_of_a_compressed_journal_that_are_lost_are_named_as_such() -> None:
    lines = [seal(event(), 0, SEED), LOST + b" " * 2000 + b',"c":"-       "}\n', seal(event(), 2, SEED)]
    rest = survey(PATH, reading(lines), JournalPosition(), SEED, Prefix())
    (bad,) = rest.bad
    size = len(lines[1])
    assert (bad.kind, bad.reason) == ("altered", f"{size:,} bytes of the compressed journal cannot be decompressed")


def test_an_acknowledged_loss_is_that_of_so_many_lines() -> None:
    """A gap that grows is another damage, although it begins at the same place."""
    gaps = [survey(PATH, reading(lines), JournalPosition(), SEED, Prefix()).bad for lines in (AT[1:], AT[2:])]
    assert [[(one.byte, one.checksum) for one in bad] for bad in gaps] == [[(0, 1)], [(0, 2)]]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([AT[0], AT[2]], "the line before it is missing"),
        ([AT[0], AT[3]], "2 lines before it are missing"),
        ([AT[0], altered(AT[1])], "its checksum does not hold: it was altered, or is a line of another journal"),
        ([AT[0], JUNK], "it has no number and checksum, which all lines here have"),
        ([AT[1], JUNK, AT[0]], "it has no number and checksum, which all lines here have"),
        ([JUNK, AT[0]], "it has no number and checksum"),
        ([AT[0], AT[0]], "an earlier line has the same number"),
        ([AT[1], AT[0]], "it stands after lines that were written later; it is read where it belongs"),
        ([old(0), old(1), AT[1]], "2 lines without numbers, where the first numbered one counts 1"),
    ],
)
def test_a_damage_says_what_is_wrong(lines: Lines, reason: str) -> None:
    prefix = read_prefix(PATH, reading(lines), JournalPosition(), SEED)
    taken, place = advance(b"".join(lines), JournalPosition(), SEED, prefix)
    assert all(one.checksum == 0 for one in prefix.bad)
    bad = survey(PATH, reading(lines), place, SEED, prefix).bad if taken < len(b"".join(lines)) else prefix.bad
    assert reason in [one.reason for one in bad]


@pytest.mark.parametrize(
    ("lines", "count"),
    [(AT, 8), ([], 0), ([*AT[:3], altered(AT[3])], 3), ([*AT[:3], AT[4]], 3), (AT[1:], 0), ([JUNK], 0)],
)
@pytest.mark.parametrize("before", [0, 5])
def test_lines_in_order_are_taken_up_to_the_first_that_is_not(lines: Lines, count: int, before: int) -> None:
    shifted = [seal(event(), number, SEED) for number in range(before)]
    lines = [renewed(line, before) for line in lines]
    place = JournalPosition(sum(map(len, shifted)), before, before)
    size = sum(map(len, lines[:count]))
    taken = advance(b"".join(lines), place, SEED, Prefix())
    assert taken == (size, JournalPosition(place.byte + size, before + count, before + count))


def test_lines_with_line_ends_of_windows_are_in_order() -> None:
    data = b"".join(AT[:3]).replace(b"\n", b"\r\n")
    assert advance(data, JournalPosition(), SEED, Prefix()) == (len(data), JournalPosition(len(data), 3, 3))


def renewed(line: bytes, more: int) -> bytes:
    """A sound line with a number that is higher by `more`; others as they are."""
    number = number_of(line, SEED)
    return line if number is None else seal(line.rpartition(b',"n":')[0] + b"}\n", number + more, SEED)


@pytest.mark.parametrize(
    ("prefix", "count", "number"),
    [(Prefix(2, 2), 4, 4), (Prefix(2, 3), 2, 3), (Prefix(3, 3), 4, 4), (Prefix(1, 1), 1, 1), (Prefix(9, 9), 4, 0)],
)
def test_lines_without_numbers_are_taken_as_many_as_belong_to_the_journal(
    prefix: Prefix, count: int, number: int
) -> None:
    lines = [old(0), old(1), AT[2], AT[3]]
    taken = advance(b"".join(lines), JournalPosition(), SEED, prefix)
    size = sum(map(len, lines[:count]))
    assert taken == (size, JournalPosition(size, count, number))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Prefix()),
        (AT, Prefix()),
        ([old(0)], Prefix(1, 1)),
        ([old(0), old(1), AT[2]], Prefix(2, 2)),
        ([old(0), AT[2]], Prefix(1, 1)),
        ([old(0), AT[0]], Prefix()),
        ([old(0), altered(AT[1]), old(2)], Prefix(1, 1)),
        ([altered(AT[0]), old(1)], Prefix()),
    ],
)
def test_lines_without_numbers_are_counted_up_to_the_first_that_has_one(lines: Lines, expected: Prefix) -> None:
    assert read_prefix(PATH, reading(lines), JournalPosition(), SEED) == expected


def test_lines_without_numbers_that_were_read_already_are_counted_too() -> None:
    place = JournalPosition(len(old(0)), 1, 1)
    assert read_prefix(PATH, reading([old(0), old(1), AT[2]]), place, SEED) == Prefix(2, 2)


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([], 0),
        (AT[:3], 3),
        ([AT[5]], 6),
        ([AT[0], AT[2], AT[1]], 3),
        ([old(0), old(1)], 2),
        ([JUNK, JUNK, JUNK], 3),
        ([*AT[:3], JUNK], 4),
        ([*AT[:3], JUNK, JUNK], 5),
        ([JUNK, JUNK, *AT[:3]], 3),
        ([JUNK, *AT[:3], JUNK], 4),
        ([JUNK, AT[0]], 1),
        ([altered(AT[5])], 1),
        ([altered(AT[0])], 1),
        ([*AT[:3], altered(AT[3])], 4),
        ([*AT[:3], AT[3][:-1] + altered(AT[4])], 5),
        ([*AT[:3], AT[7][:-1] + JUNK, JUNK], 8),
        ([*AT[:2], altered(seal(event(), 10**12, SEED))], 3),
        ([AT[0], altered(AT[1]), AT[2]], 3),
    ],
)
def test_a_journal_goes_on_with_a_number_that_no_line_has(lines: Lines, number: int) -> None:
    assert next_number(reading(lines), SEED) == number


@pytest.mark.parametrize(("more", "number"), [(0, 151), (1, 2)])
def test_a_damaged_number_is_believed_as_far_as_there_is_room_for_such_lines(more: int, number: int) -> None:
    (length,) = {len(seal(event("x" * 100), number, SEED)) for number in (150, 151)}
    line = altered(seal(event("x" * (250 - length)), 150 + more, SEED))
    assert len(line) == 150
    assert next_number(reading([AT[0], line]), SEED) == number


def test_damage_alone_has_the_numbers_after_those_before_it() -> None:
    lines = [AT[0], JUNK, JUNK]
    found = survey(PATH, reading(lines), JournalPosition(len(AT[0]), 1, 1), SEED, Prefix())
    assert found.end == JournalPosition(begins(lines)[-1], 3, 3)
    assert found.order == []
    assert not found.whole


@pytest.mark.parametrize(
    ("lines", "whole", "ends_with"),
    [
        ([*AT, AT[0]], True, 8),
        ([*AT, JUNK], False, 9),
        ([*AT[:4], JUNK, *AT[4:]], True, 8),
        ([*AT[:4], *AT[5:]], False, 8),
        ([*AT[:4], AT[5], AT[4]], True, 6),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_the_rest_of_a_journal_is_sorted_out_from_any_place(
    lines: Lines, whole: bool, ends_with: int, before: int
) -> None:
    byte = begins(lines)
    found = survey(PATH, reading(lines), JournalPosition(byte[before], before, before), SEED, Prefix())
    assert found.whole == whole
    assert found.end == JournalPosition(byte[-1], len(lines), ends_with)
    assert [number_of(lines[line - 1], SEED) for _, _, line, _ in found.order] == sorted(
        {number for line in lines[before:] if (number := number_of(line, SEED)) is not None and number >= before}
    )
    assert all((begin, size) == (byte[line - 1], byte[line] - byte[line - 1]) for begin, size, line, _ in found.order)


def test_the_rest_of_an_older_journal_is_sorted_out() -> None:
    lines = [old(0), old(1), AT[3], AT[2]]
    found = survey(PATH, reading(lines), JournalPosition(), SEED, Prefix(2, 2))
    assert [line for _, _, line, _ in found.order] == [1, 2, 4, 3]
    assert found.end == JournalPosition(begins(lines)[-1], 4, 4)
    only = survey(PATH, reading(lines[:2]), JournalPosition(), SEED, Prefix(2, 5))
    assert only.end.number == 5
