"""Rounds of loading, one by one: what is loaded, what the database knows of each journal then, and what is damage."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import duckdb
import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.core.events import Event, ItemScored, LoopBlocked, Measured, ModelCall, UnitsNotPlayed, UnitsPlanned
from simkit.core.records import PlannedUnit, UnplayedUnit
from simkit.store import Loader, LoadReport
from simkit.store.archive import compress
from simkit.store.damage import FILE, DamageFile
from simkit.store.encoding import encode
from simkit.store.files import IS_A_LINK
from simkit.store.lines import journal_seed, seal
from simkit.store.source import DiskSource, JournalSource, open_journal
from simkit.store.transactions import LoadingRound, stage_and_load

EVENTS: Sequence[Event] = [run_started(), *josh_episode().events, run_finished()]
LINES = numbered(EVENTS)
COUNT = len(LINES)
OLD = [encode(event) for event in EVENTS]
"""The same, as a version before numbers wrote them."""

JUNK = b"junk\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, because one is copied faster than made."""
    folder = tmp_path_factory.mktemp("made")
    Loader(folder).load()
    return folder / "simkit.duckdb"


@pytest.fixture
def folder(tmp_path: Path, made: Path) -> Path:
    shutil.copy(made, tmp_path / "simkit.duckdb")
    return tmp_path


def rewrite(folder: Path, lines: Sequence[bytes], run: str = "r1", worker: str = "w0") -> Path:
    """A journal of these lines, whatever was there."""
    path = write_lines(folder, (), run, worker)
    path.write_bytes(b"".join(lines))
    return path


def asked(folder: Path, question: str) -> list[tuple[object, ...]]:
    with duckdb.connect(folder / "simkit.duckdb", read_only=True) as connection:
        return connection.execute(question).fetchall()


def mark(folder: Path) -> tuple[object, ...]:
    (row,) = asked(folder, "SELECT loaded, lines, number, numbered, attempt, whole, ending FROM journals")
    return row


def size(lines: Sequence[bytes]) -> int:
    return sum(map(len, lines))


def ending(lines: Sequence[bytes]) -> int:
    return crc32(b"".join(lines)[-256:])


def nothing(report: LoadReport) -> bool:
    """Whether a round found nothing new."""
    return report == LoadReport(damaged=report.damaged)


def loaded_lines(folder: Path) -> int:
    """Rows that lines became: starts and ends of runs are in the same one."""
    (row,) = asked(folder, "SELECT (SELECT count(*) FROM branches) + (SELECT count(*) FROM runs)")
    return int(str(row[0]))


class Disk:
    """Opens journals, notes what is asked of them, and refuses as it is told to."""

    def __init__(self, **refused: int) -> None:
        self.refused = refused
        self.reads: list[tuple[int, int]] = []
        self.synced = 0
        self.closed = 0

    def __call__(self, path: Path) -> JournalSource:
        if "open" in self.refused:
            raise OSError(self.refused["open"], os.strerror(self.refused["open"]), str(path))
        return Watched(path, self)


class Watched(DiskSource):
    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path)
        self.disk = disk

    def read(self, start: int, size: int) -> bytes:
        if "read" in self.disk.refused:
            raise OSError(self.disk.refused["read"], os.strerror(self.disk.refused["read"]))
        self.disk.reads.append((start, size))
        return super().read(start, size)

    def sync(self) -> None:
        if "sync" in self.disk.refused:
            raise OSError(self.disk.refused["sync"], os.strerror(self.disk.refused["sync"]))
        self.disk.synced += 1

    def close(self) -> None:
        self.disk.closed += 1
        super().close()


def test_a_journal_is_loaded_once_and_brought_to_the_disk_before(folder: Path) -> None:
    rewrite(folder, LINES)
    disk = Disk()
    loader = Loader(folder, source=disk)
    assert loader.load() == LoadReport(COUNT, size(LINES))
    assert mark(folder) == (size(LINES), COUNT, COUNT, True, 0, True, ending(LINES))
    assert (disk.synced, disk.closed) == (1, 1)
    assert max(count for _, count in disk.reads) == 32 << 20, "of a long journal no more is in memory at once"
    disk.reads.clear()
    assert loader.load() == LoadReport()
    assert disk.reads == []
    assert disk.closed == 1
    write_lines(folder, numbered([run_started(attempt=1)], first=COUNT))
    assert loader.load().lines == 1
    assert mark(folder)[1:5] == (COUNT + 1, COUNT + 1, True, 1)
    assert min(start for start, _ in disk.reads) == size(LINES) - 256
    assert all(start + count == size(LINES) or start >= size(LINES) for start, count in disk.reads[:2])
    assert disk.closed == 2


@pytest.mark.parametrize("piece", [2_000, 6_000, 1 << 20])
def test_a_piece_is_a_transaction_of_about_its_size(folder: Path, piece: int) -> None:
    rewrite(folder, LINES)
    disk = Disk()
    Loader(folder, source=disk, piece=piece).load()
    assert mark(folder) == (size(LINES), COUNT, COUNT, True, 0, True, ending(LINES))
    assert disk.synced == pieces(LINES, piece)
    assert loaded_lines(folder) == 6


def pieces(lines: Sequence[bytes], piece: int) -> int:
    """How many pieces lines are, when each takes what fits and at least one."""
    count = room = 0
    for line in lines:
        if len(line) > room:
            count, room = count + 1, piece
        room -= len(line)
    return count


@pytest.mark.parametrize("damaged", [False, True])
def test_a_round_that_is_out_of_time_ends_after_a_transaction_and_says_so(folder: Path, damaged: bool) -> None:
    rewrite(folder, [*LINES[:2], *([JUNK] if damaged else []), *LINES[2:]])
    rewrite(folder, numbered([run_started("r2")], run="r2"), "r2")
    loader = Loader(folder, piece=2_000)
    reports = [loader.load(seconds=0.0)]
    while not reports[-1].finished:
        reports.append(loader.load(seconds=0.0))
    assert sum(report.lines for report in reports) == COUNT + 1
    assert [bool(report.lines) for report in reports] == [True] * (len(reports) - 1) + [False]
    together = 0 if damaged else 1  # the last piece, which is small, and the other journal
    assert len(reports) == (1 if damaged else pieces(LINES, 2_000)) + 2 - together
    assert asked(folder, "SELECT run_id, status FROM runs ORDER BY run_id") == [("r1", "done"), ("r2", "running")]


def test_a_round_that_has_time_left_goes_on(folder: Path) -> None:
    rewrite(folder, LINES)
    assert Loader(folder, piece=2_000).load(seconds=3_600.0) == LoadReport(COUNT, size(LINES))


def test_only_the_runs_that_are_asked_for_are_loaded(folder: Path) -> None:
    for run in ("r1", "r2", "r3"):
        rewrite(folder, numbered([run_started(run)], run=run), run)
    assert Loader(folder, runs=["r3", "r1", "r3"]).load().lines == 2
    assert asked(folder, "SELECT run_id FROM runs ORDER BY run_id") == [("r1",), ("r3",)]


def test_rows_are_made_again_when_it_is_asked_and_others_are_left(folder: Path) -> None:
    for run in ("r1", "r2", "r10"):
        rewrite(folder, numbered([run_started(run), *josh_episode(run).events], run=run), run)
    Loader(folder).load()
    with duckdb.connect(folder / "simkit.duckdb") as connection:
        connection.execute("UPDATE messages SET content = 'wrong'")
        connection.execute("UPDATE runs SET name = 'wrong'")
    report = Loader(folder).reload(["r1"])
    assert report.lines == 15
    assert report.unreadable == ()
    names = asked(folder, "SELECT run_id, name FROM runs ORDER BY run_id")
    assert names == [("r1", "demo"), ("r10", "wrong"), ("r2", "wrong")]
    wrong = "SELECT DISTINCT split_part(episode_id, '/', 1) AS run FROM messages WHERE content = 'wrong' ORDER BY run"
    assert asked(folder, wrong) == [("r10",), ("r2",)]
    for table in ("branches", "rewards", "harvests", "tool_calls", "episodes", "tasks"):
        counts = [
            asked(folder, f"SELECT count(*) FROM {table} t WHERE regexp_matches(to_json(t)::VARCHAR, '\"{run}[\"/]')")
            for run in ("r1", "r2")
        ]
        assert counts[0] == counts[1] != [(0,)]


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ({"open": errno.EACCES}, "it cannot be read: Permission denied"),
        ({"read": errno.EIO}, "it cannot be read: Input/output error"),
        ({"sync": errno.EIO}, "it cannot be read: it cannot be brought to the disk: Input/output error"),
    ],
)
def test_a_journal_that_cannot_be_used_is_named_and_holds_up_no_other(
    folder: Path, refused: dict[str, int], reason: str
) -> None:
    path = rewrite(folder, LINES)
    rewrite(folder, numbered([run_started("r2")], run="r2"), "r2")
    disk = Disk(**refused)

    def source(path: Path) -> JournalSource:
        return disk(path) if path.parent.name == "r1" else DiskSource(path)

    report = Loader(folder, source=source).load()
    assert report.finished
    (bad,) = report.unreadable
    assert (bad.journal, bad.kind, bad.byte, bad.line, bad.lines, bad.reason) == (path, "file", 0, 1, 0, reason)
    assert bad.checksum == crc32(reason.removeprefix("it cannot be read: ").encode())
    assert asked(folder, "SELECT run_id FROM runs") == [("r2",)]
    assert asked(folder, "SELECT journal, kind, acknowledged FROM unreadable_lines") == [("r1/w0.jsonl", "file", False)]
    assert Loader(folder, source=source).load().unreadable == ()  # it is known
    assert Loader(folder).load().lines == COUNT
    assert asked(folder, "FROM unreadable_lines") == []


def test_a_reason_without_a_number_is_told_in_its_own_words(folder: Path) -> None:
    paths = [rewrite(folder, numbered([run_started(run)], run=run), run) for run in ("r1", "r2", "r3")]

    class Odd(DiskSource):
        def read(self, start: int, size: int) -> bytes:
            raise OSError("odd words of r2")

        def sync(self) -> None:
            raise OSError("odd words")

    class Unsynced(DiskSource):
        def sync(self) -> None:
            raise OSError("odd words of r3")

    def source(path: Path) -> JournalSource:
        match path.parent.name:
            case "r1":
                raise OSError("odd words of r1")
            case "r2":
                return Odd(path)
            case _:
                return Unsynced(path)

    found = Loader(folder, source=source).load().unreadable
    assert [(one.journal, one.reason) for one in found] == [
        (paths[0], "it cannot be read: odd words of r1"),
        (paths[1], "it cannot be read: odd words of r2"),
        (paths[2], "it cannot be read: it cannot be brought to the disk: odd words of r3"),
    ]


def test_a_place_that_is_no_journal_is_named_however_it_came_there(folder: Path) -> None:
    top = folder / "journals"
    rewrite(folder, LINES)
    (top / "r2").mkdir()
    os.mkfifo(top / "r2" / "w0.jsonl")  # as many bytes as were loaded: none
    (top / "r3").mkdir()
    (top / "r3" / "w0.jsonl").symlink_to("w0.jsonl")  # whose size nobody can say
    (top / "r4").write_bytes(b"no folder")
    (top / "r5").symlink_to("r1")
    report = Loader(folder, runs=["r1", "r2", "r3", "r4", "r5"]).load()
    assert report.lines == COUNT
    assert {one.journal: one.reason for one in report.unreadable} == {
        top / "r2" / "w0.jsonl": "it cannot be read: it is not a regular file",
        top / "r3" / "w0.jsonl": f"it cannot be read: {IS_A_LINK}",
        top / "r4" / "main.jsonl": "it cannot be read: Not a directory",
        top / "r5" / "main.jsonl": f"it cannot be read: {IS_A_LINK}",
    }


def test_of_the_journals_that_cannot_be_read_only_the_new_ones_are_news(folder: Path) -> None:
    first, second = (folder / "journals" / run / "w0.jsonl" for run in ("r1", "r2"))
    first.mkdir(parents=True)
    assert [one.journal for one in Loader(folder).load().unreadable] == [first]
    second.mkdir(parents=True)
    report = Loader(folder).load()
    assert [one.journal for one in report.unreadable] == [second]
    assert [one.journal for one in report.damaged] == [first, second]


def test_a_folder_that_cannot_be_read_is_told_in_its_own_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rewrite(folder, LINES)
    listed = os.listdir

    def refused(place: Path) -> list[str]:
        if place == path.parent:
            raise OSError("odd words")
        return listed(place)

    monkeypatch.setattr("simkit.store.source.os.listdir", refused)
    (one,) = Loader(folder).load().unreadable
    assert (one.journal, one.reason) == (path.with_name("main.jsonl"), "it cannot be read: odd words")


def test_what_happened_to_loaded_lines_is_a_trouble_where_it_cannot_be_read(folder: Path) -> None:
    """The damaged start of a journal that has become shorter, on a disk that fails."""
    path = rewrite(folder, LINES)
    Loader(folder).load()
    path.write_bytes(b"".join(LINES[:4]))

    class Failing(DiskSource):
        def read(self, start: int, size: int) -> bytes:
            if start == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(start, size)

    class Stale(DiskSource):
        def size(self) -> int:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    for source, reason in ((Failing, "Input/output error"), (Stale, os.strerror(errno.ESTALE))):
        report = Loader(folder, source=source).load()
        assert [(one.journal, one.kind, one.reason) for one in report.unreadable] == [
            (path, "file", f"it cannot be read: {reason}")
        ]
    assert [one.kind for one in Loader(folder).load().unreadable] == ["shortened"]


def test_a_size_that_cannot_be_told_is_told_in_its_own_words(folder: Path) -> None:
    class Odd(DiskSource):
        def size(self) -> int:
            raise OSError("odd words")

    rewrite(folder, LINES)
    (one,) = Loader(folder, source=Odd).load().unreadable
    assert one.reason == "it cannot be read: odd words"


def test_a_journal_that_goes_while_it_is_loaded_is_named(folder: Path) -> None:
    path = rewrite(folder, LINES)

    class Going(DiskSource):
        def close(self) -> None:
            super().close()
            path.unlink()

    report = Loader(folder, source=Going).load()
    assert report.lines == COUNT
    assert [(one.journal, one.kind, one.lines) for one in report.unreadable] == [(path, "gone", COUNT)]


def test_a_journal_that_is_gone_when_it_is_opened_holds_nothing(folder: Path) -> None:
    rewrite(folder, LINES)
    assert Loader(folder, source=Disk(open=errno.ENOENT)).load() == LoadReport()


@pytest.mark.parametrize("piece", [1, 1_500, 1 << 20])
@pytest.mark.parametrize(
    ("there", "lines", "number", "whole", "kinds"),
    [
        ([*LINES[:4], JUNK, *LINES[4:]], COUNT, COUNT, True, ["garbage"]),
        ([*LINES, JUNK], COUNT, COUNT + 1, False, ["garbage"]),
        ([*LINES[:4], *LINES[5:]], COUNT - 1, COUNT, False, ["lost"]),
        ([*LINES[:4], LINES[5], LINES[4], *LINES[6:]], COUNT, COUNT, True, ["late"]),
        ([*LINES, *LINES[2:4]], COUNT, COUNT, True, ["duplicate", "duplicate"]),
        ([*LINES[8:], *LINES[:8]], COUNT, COUNT, True, ["late"] * 8),
    ],
)
def test_the_sound_lines_of_a_damaged_journal_are_loaded_in_their_order(
    folder: Path, there: list[bytes], lines: int, number: int, whole: bool, kinds: list[str], piece: int
) -> None:
    rewrite(folder, there)
    report = Loader(folder, piece=piece).load()
    assert (report.lines, report.bytes) == (lines, size(sorted({*there} - {JUNK})))
    assert [one.kind for one in report.unreadable] == kinds
    assert mark(folder) == (size(there), len(there), number, True, 0, whole, ending(there))
    assert asked(folder, "SELECT status FROM runs") == [("done",)]
    assert asked(folder, "SELECT kind FROM unreadable_lines ORDER BY byte") == [(kind,) for kind in kinds]
    assert nothing(Loader(folder).load())


def grouped(lines: Sequence[bytes], piece: int) -> list[int]:
    """The sizes of groups of lines, when each is closed by the line with which it is full."""
    groups = [0]
    for line in lines:
        if groups[-1] >= piece:
            groups.append(0)
        groups[-1] += len(line)
    return groups


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each piece that is given to the database."""
    found: list[int] = []

    def noted(work: LoadingRound, parts: Sequence[tuple[str, int, bytes]]) -> list[int]:
        found.extend(len(data) for _, _, data in parts)
        return stage_and_load(work, parts)

    monkeypatch.setattr("simkit.store.transactions.stage_and_load", noted)
    return found


@pytest.mark.parametrize("between", [(), (JUNK,)])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_rest_of_a_damaged_journal_is_read_and_loaded_in_pieces(
    folder: Path, staged: list[int], more: int, between: tuple[bytes, ...]
) -> None:
    lines = numbered([run_started()] * 8)
    assert len({*map(len, lines)}) == 1
    piece = size(lines[:2]) + more
    rewrite(folder, [JUNK, *(each for line in lines for each in (line, *between))])
    disk = Disk()
    Loader(folder, piece=piece, source=disk).load()
    assert staged == grouped(lines, piece)
    read = {len(lines[0])} if between else {*staged}
    assert read <= {count for _, count in disk.reads}


def test_lines_of_a_damaged_journal_that_are_neighbours_are_read_at_once(folder: Path, staged: list[int]) -> None:
    rewrite(folder, [JUNK, *LINES[:4], JUNK, *LINES[4:]])
    disk = Disk()
    Loader(folder, source=disk).load()
    assert staged == [size(LINES)]
    first, second = size(LINES[:4]), size(LINES[4:])
    assert disk.reads[-5:-3] == [(len(JUNK), first), (2 * len(JUNK) + first, second)]


def test_lines_longer_than_the_database_expects_are_loaded(folder: Path) -> None:
    rewrite(folder, numbered(josh_episode(opening="x" * (17 << 20)).events))
    assert Loader(folder).load().unreadable == ()
    assert asked(folder, "SELECT max(length(content)) FROM messages") == [(17 << 20,)]


@pytest.mark.parametrize("more", [[], [JUNK]])
def test_a_run_is_read_again_as_often_as_more_damage_is_written_meanwhile(folder: Path, more: list[bytes]) -> None:
    path = rewrite(folder, [LINES[0], *LINES[2:5]])
    written = [JUNK, *more]

    class Written(DiskSource):
        def read(self, start: int, size: int) -> bytes:
            data = super().read(start, size)
            if not data and written:
                write_lines(folder, [written.pop()])
                data = super().read(start, size)
            return data

    report = Loader(folder, source=Written).load()
    assert report.finished
    assert [one.kind for one in report.unreadable] == ["lost", "garbage", *["garbage" for _ in more]]
    assert report.damaged == report.unreadable
    assert mark(folder)[0] == path.stat().st_size
    assert loaded_lines(folder) == 2


def test_damage_of_a_run_that_is_read_again_is_told_once_and_that_of_others_too(folder: Path) -> None:
    rewrite(folder, [LINES[0], *LINES[2:5]])
    rewrite(folder, numbered([run_started("r0")], run="r0"), "r0")
    rewrite(folder, numbered([run_started()], worker="a"), worker="a")
    Loader(folder).load()
    write_lines(folder, [JUNK], "r0")
    write_lines(folder, [JUNK], worker="a")
    write_lines(folder, [LINES[1]])  # so that the run is read again
    found = Loader(folder).load().unreadable
    assert [(one.run_id, one.journal.name, one.kind) for one in found] == [
        ("r0", "w0.jsonl", "garbage"),
        ("r1", "a.jsonl", "garbage"),
        ("r1", "w0.jsonl", "late"),
    ]


def test_a_run_with_one_journal_that_has_grown_is_loaded(folder: Path) -> None:
    for worker in ("a", "w0", "z"):
        rewrite(folder, numbered([run_started()], worker=worker), worker=worker)
    Loader(folder).load()
    write_lines(folder, LINES[1:])
    assert Loader(folder).load().lines == COUNT - 1


def test_a_journal_that_loads_alone_is_closed_too(folder: Path) -> None:
    rewrite(folder, [*LINES[:4], JUNK, *LINES[4:]])
    disk = Disk()
    assert Loader(folder, source=disk).load().lines == COUNT
    assert disk.closed == 1


def test_a_journal_of_a_run_that_cannot_be_read_keeps_the_next_one_from_nothing(folder: Path) -> None:
    names = ("w0", "w1", "w2")
    for worker in names:
        rewrite(folder, numbered(EVENTS if worker == "w1" else [run_started()], worker=worker), worker=worker)
    broken, disk = {"w0.jsonl", "w2.jsonl"}, Disk()

    class Broken(Watched):
        def read(self, start: int, size: int) -> bytes:
            if size:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return b""

    def source(path: Path) -> JournalSource:
        return Broken(path, disk) if path.name in broken else DiskSource(path)

    report = Loader(folder, source=source).load()
    assert report.lines == COUNT
    assert [(bad.journal.name, bad.kind) for bad in report.unreadable] == [("w0.jsonl", "file"), ("w2.jsonl", "file")]
    assert disk.closed == 2


def test_a_compressed_journal_that_is_loaded_is_not_opened_again(folder: Path) -> None:
    compress(rewrite(folder, LINES))
    opened: list[Path] = []

    def source(path: Path) -> JournalSource:
        opened.append(path)
        return open_journal(path)

    loader = Loader(folder, source=source)
    assert loader.load().lines == COUNT
    assert len(opened) == 1
    assert loader.load() == LoadReport()
    assert len(opened) == 1


def test_a_packed_run_that_goes_on_is_read_again_from_its_journals(folder: Path) -> None:
    for run in ("r1", "r2"):
        rewrite(folder, numbered([run_started(run), *josh_episode(run).events], run=run), run)
    Loader(folder).load()
    with duckdb.connect(folder / "simkit.duckdb") as connection:
        connection.execute("DELETE FROM messages")
        connection.execute("INSERT INTO packed_runs VALUES ('r1', ['messages']), ('r2', ['messages'])")
    assert Loader(folder).load() == LoadReport()
    write_lines(folder, numbered([run_finished()], first=COUNT - 1))
    assert Loader(folder).load().lines == COUNT
    assert asked(folder, "SELECT run_id FROM packed_runs") == [("r2",)]
    found = asked(folder, "SELECT DISTINCT split_part(episode_id, '/', 1) FROM messages")
    assert found == [("r1",)]


def test_a_round_that_finds_nothing_new_writes_nothing(folder: Path) -> None:
    path = rewrite(folder, [*LINES[:4], JUNK, *LINES[4:]])
    rewrite(folder, numbered([run_started("r2")], run="r2"), "r2").with_name("w1.jsonl").mkdir()
    loader = Loader(folder)
    loader.load()
    path.write_bytes(b"".join([*LINES[:2], JUNK]))
    loader.acknowledge(loader.load().unreadable[:1])
    known = loader.load()
    assert [one.kind for one in known.damaged] == ["garbage", "file"]
    before = (folder / "simkit.duckdb").read_bytes()
    assert loader.load() == LoadReport(damaged=known.damaged)
    assert (folder / "simkit.duckdb").read_bytes() == before


def test_what_was_missing_is_read_where_it_belongs_when_it_comes(folder: Path) -> None:
    rewrite(folder, [LINES[0], *LINES[2:5]])
    assert [one.kind for one in Loader(folder).load().unreadable] == ["lost"]
    write_lines(folder, LINES[5:7])  # goes on in order
    report = Loader(folder).load()
    assert report.lines == 2
    assert report.unreadable == ()
    write_lines(folder, [LINES[1], *LINES[7:]])
    report = Loader(folder).load()
    assert report.lines == COUNT
    assert report.finished
    assert [one.kind for one in report.unreadable] == ["late"]
    assert asked(folder, "SELECT kind FROM unreadable_lines") == [("late",)]
    assert mark(folder)[5] is True
    assert loaded_lines(folder) == 6


def test_damage_of_a_run_that_is_read_again_is_named_once_and_that_of_others_stays(folder: Path) -> None:
    lines = numbered(josh_episode("r2").events, "r2", "w1")
    rewrite(folder, LINES)
    rewrite(folder, numbered([run_started("r2")], "r2"), "r2")
    rewrite(folder, [lines[0], *lines[2:5]], "r2", "w1")
    Loader(folder).load()
    write_lines(folder, [JUNK])
    write_lines(folder, [JUNK], "r2")
    write_lines(folder, [lines[1], *lines[5:]], "r2", "w1")
    found = Loader(folder).load().unreadable
    assert [(one.key[0], one.kind) for one in found] == [
        ("r1/w0.jsonl", "garbage"),
        ("r2/w0.jsonl", "garbage"),
        ("r2/w1.jsonl", "late"),
    ]


def test_lines_without_numbers_are_those_that_the_first_number_counts(folder: Path) -> None:
    rewrite(folder, OLD[:9])
    assert Loader(folder).load().lines == 9
    assert mark(folder)[1:4] == (9, 9, False)
    write_lines(folder, LINES[9:12])
    assert Loader(folder).load().lines == 3
    assert mark(folder)[1:4] == (12, 12, True)
    write_lines(folder, [OLD[12]])  # not any more
    assert [one.kind for one in Loader(folder).load().unreadable] == ["garbage"]


@pytest.mark.parametrize(("first", "kinds", "lines"), [(7, ["duplicate"], 9 + 3), (0, ["garbage"] * 9, 3)])
def test_lines_without_numbers_that_turn_out_to_be_others_are_loaded_again(
    folder: Path, first: int, kinds: list[str], lines: int
) -> None:
    rewrite(folder, OLD[:9])
    Loader(folder).load()
    write_lines(folder, LINES[first : first + 3])
    report = Loader(folder).load()
    assert [one.kind for one in report.unreadable] == kinds
    assert report.lines == lines
    assert mark(folder)[1:4] == (12, first + 3, True)
    assert asked(folder, "SELECT kind FROM unreadable_lines") == [(kind,) for kind in kinds]


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_a_wrong_count_of_lines_without_numbers_is_named_once(folder: Path, piece: int) -> None:
    rewrite(folder, [*OLD[:4], *LINES[2:]])
    report = Loader(folder, piece=piece).load()
    assert [(one.kind, one.lines) for one in report.unreadable] == [("duplicate", 2)]
    assert asked(folder, "SELECT kind, lines FROM unreadable_lines") == [("duplicate", 2)]


def sealed(number: int, line: bytes = b'{"e":"Unheard"}\n') -> bytes:
    return seal(line, number, journal_seed(Path("r1", "w0.jsonl")))


@pytest.mark.parametrize("piece", [1, 3_000, 1 << 20])
def test_a_sound_line_that_is_no_event_is_left_out_and_named(folder: Path, piece: int) -> None:
    bad = sealed(3)
    there = [*LINES[:3], bad, *LINES[4:]]
    path = rewrite(folder, there)
    report = Loader(folder, piece=piece).load()
    (one,) = report.unreadable
    assert (one.journal, one.byte, one.line, one.kind) == (path, size(LINES[:3]), 4, "unreadable")
    assert (one.sequence, one.lines, one.checksum) == (3, 1, crc32(bad))
    assert one.reason == "it is an event of the unknown kind 'Unheard'"
    assert report.lines == COUNT - 1
    assert mark(folder) == (size(there), COUNT, COUNT, True, 0, True, ending(there))
    assert asked(folder, "SELECT byte, line, kind, sequence, lines, checksum, reason FROM unreadable_lines") == [
        (one.byte, 4, "unreadable", 3, 1, one.checksum, one.reason)
    ]


@pytest.mark.parametrize("piece", [1, 3_000, 1 << 20])
def test_what_only_the_database_refuses_is_found_among_sound_lines(folder: Path, piece: int) -> None:
    """A time may be any number where it is read, and the database has no such year."""
    told = next(re.sub(rb'"at":[0-9.]+', b'"at":1e300', line) for line in LINES if b'"at":' in line)
    assert b"1e300" in told
    bad = sealed(8, told.rpartition(b',"n":')[0] + b"}\n")
    there = [*LINES[:8], bad, *LINES[9:], JUNK]
    rewrite(folder, there)
    report = Loader(folder, piece=piece).load()
    garbage, one = sorted(report.unreadable, key=lambda one: one.kind)
    assert (garbage.kind, garbage.line) == ("garbage", COUNT + 1)
    assert (one.kind, one.line, one.sequence) == ("unreadable", 9, 8)
    assert one.reason.startswith("Conversion Error: ") or "Failed to cast" in one.reason, one.reason
    assert "piece.jsonl" not in one.reason
    assert report.lines == COUNT - 1


@pytest.mark.parametrize("piece", [1, 3_000, 1 << 20])
def test_a_sound_line_that_is_no_event_is_left_out_of_a_damaged_journal_too(folder: Path, piece: int) -> None:
    bad = sealed(3)
    rewrite(folder, [JUNK, *LINES[:3], bad, *LINES[4:]])
    report = Loader(folder, piece=piece).load()
    garbage, one = report.unreadable
    assert (garbage.kind, garbage.byte, garbage.line) == ("garbage", 0, 1)
    assert (one.kind, one.byte, one.line, one.sequence) == ("unreadable", len(JUNK) + size(LINES[:3]), 5, 3)
    assert (report.lines, report.bytes) == (COUNT - 1, size(LINES) - len(LINES[3]))
    assert asked(folder, "SELECT status FROM runs") == [("done",)]


def test_looking_for_a_line_that_the_database_refuses_leaves_no_row(folder: Path) -> None:
    told = LINES[8].replace(b'"step":0', b'"step":%d' % 2**40)
    rewrite(folder, [*LINES[:8], sealed(8, told.rpartition(b',"n":')[0] + b"}\n"), *LINES[9:]])
    Loader(folder).load()
    rows = ", ".join(f"(SELECT count(*) FROM {table})" for table in ("rewards", "tool_calls", "harvests", "messages"))
    counts = asked(folder, f"SELECT {rows}")
    (folder / "simkit.duckdb").unlink()
    rewrite(folder, numbered([*EVENTS[:8], *EVENTS[9:]]))
    Loader(folder).load()
    assert asked(folder, f"SELECT {rows}") == counts


def test_rows_of_lines_that_are_not_on_the_disk_are_not_kept_while_a_refused_line_is_looked_for(folder: Path) -> None:
    rewrite(folder, [*LINES[:8], sealed(8, b'{"e":"Unknown"}\n'), *LINES[9:]])
    Loader(folder, source=Disk(sync=errno.EIO)).load()
    assert loaded_lines(folder) == 0


UTF = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
TEXTS = {
    "Error: in piece.jsonl, in line 1: this in line 2: that\nTry something": "this in line 2: that",
    "Error: in piece.jsonl in line 2: this in line 2: that\nTry something": "that",
    "Error: words alone\nTry something": "Error: words alone",
}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        *((duckdb.InvalidInputException(text), reason) for text, reason in TEXTS.items()),
        (duckdb.ConversionException("Error: words"), "Error: words"),
        (duckdb.ConstraintException("Error: words"), "Error: words"),
        (UTF, "the database does not take it, and its reason is not valid UTF-8"),
    ],
)
def test_a_refused_line_has_the_databases_reason_without_names_of_scratch_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr("simkit.store.transactions.stage_and_load", refusing(lambda data: LINES[5] in data, error))
    rewrite(folder, LINES)
    report = Loader(folder).load()
    (one,) = report.unreadable
    assert (one.kind, one.line, one.reason) == ("unreadable", 6, reason)
    assert report.lines == COUNT - 1


def test_lines_that_are_refused_only_together_are_a_trouble(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = duckdb.InvalidInputException("Error: too many\nTry something")
    monkeypatch.setattr("simkit.store.transactions.stage_and_load", refusing(lambda data: data.count(b"\n") > 9, error))
    rewrite(folder, LINES)
    report = Loader(folder).load()
    assert report.lines == 0
    assert [(one.kind, one.reason) for one in report.unreadable] == [
        ("file", "it cannot be read: its lines cannot be loaded: Error: too many")
    ]
    assert asked(folder, "FROM journals") == []


Parts: TypeAlias = Sequence[tuple[str, int, bytes]]


def refusing(refused: Callable[[bytes], bool], error: Exception) -> Callable[[LoadingRound, Parts], list[int]]:
    """Loads lines, unless they are to be refused."""

    def load(work: LoadingRound, parts: Parts) -> list[int]:
        if any(refused(data) for _, _, data in parts):
            raise error
        return stage_and_load(work, parts)

    return load


def test_attempts_are_counted_where_a_version_did_not_tell_them(folder: Path) -> None:
    told = encode(run_started(attempt=0)).replace(b'"attempt":0,', b"")
    assert b"attempt" not in told
    rewrite(folder, [told, told])
    Loader(folder).load()
    assert mark(folder)[4] == 1
    write_lines(folder, [told])
    Loader(folder).load()
    assert mark(folder)[4] == 2
    write_lines(folder, [encode(run_started(attempt=7)), *OLD[1:3]])
    Loader(folder).load()
    assert mark(folder)[4] == 7
    assert asked(folder, "SELECT attempt FROM runs") == [(7,)]


@pytest.mark.parametrize("where", [10, size(LINES[:10]) - 5])
def test_other_bytes_where_lines_were_loaded_are_noticed_near_the_end(folder: Path, where: int) -> None:
    """Only the last bytes are looked at: `--verify` reads them all."""
    path = rewrite(folder, LINES[:10])
    Loader(folder).load()
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(bytes(data) + LINES[10])
    found = Loader(folder).load().unreadable
    if where == 10:
        assert found == ()
        return
    changed, altered = found
    assert (changed.kind, changed.byte, changed.line, changed.lines) == ("changed", 0, 1, 10)
    assert changed.reason == f"its first {size(LINES[:10])} bytes are not those that were loaded"
    assert changed.checksum == ending(LINES[:10])
    assert altered.kind == "altered"
    assert DamageFile(folder).found() == (changed,)
    assert asked(folder, "SELECT kind FROM unreadable_lines ORDER BY kind") == [("altered",), ("changed",)]


def test_the_first_byte_of_a_short_journal_counts_too(folder: Path) -> None:
    told = encode(run_started())
    assert len(told) < 256
    path = rewrite(folder, [told])
    Loader(folder).load()
    assert mark(folder)[6] == crc32(told)
    path.write_bytes(b" " + told[1:] + told)
    assert [one.kind for one in Loader(folder).load().unreadable][:1] == ["changed"]


def test_an_empty_line_at_the_start_is_one_that_is_left(folder: Path) -> None:
    path = rewrite(folder, LINES)
    Loader(folder).load()
    path.write_bytes(b"\n" + LINES[0])
    short, garbage = Loader(folder).load().unreadable
    assert (short.kind, short.line, short.lines) == ("shortened", 3, COUNT - 2)
    assert (garbage.kind, garbage.line) == ("garbage", 1)


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_journal_that_is_shorter_is_loaded_as_it_is(folder: Path, left: int) -> None:
    path = rewrite(folder, LINES)
    Loader(folder).load()
    path.write_bytes(b"".join(LINES[:left]))
    (one,) = Loader(folder).load().unreadable
    lost = size(LINES) - size(LINES[:left])
    assert (one.kind, one.byte, one.line, one.lines) == ("shortened", size(LINES[:left]), left + 1, COUNT - left)
    assert one.reason == f"{lost} bytes and {COUNT - left} lines that were loaded are missing at its end"
    assert one.checksum == ending(LINES)
    assert asked(folder, "SELECT kind FROM unreadable_lines") == [("shortened",)]
    assert asked(folder, "SELECT lines FROM journals") == ([(left,)] if left else [])
    assert nothing(Loader(folder).load())
    assert DamageFile(folder).found() == (one,)


KINDS: Sequence[Event] = [
    run_started(),
    UnitsPlanned("r1", 0, (PlannedUnit("MUL1", 0),), 1.0),
    *josh_episode().events,
    ModelCall("r1/MUL1/0", "r1/MUL1/0/.0", "agent", 0, 0, "m", "h", {}, {}, None, 1, 1, 0.0, 1.0, 2.0),
    UnitsNotPlayed("r1", 0, (UnplayedUnit("MUL1", 1, "stopped"),), 1.0),
    LoopBlocked("r1", 9.0, "place", "stack", 1.0),
    Measured("r1", "train", 1, {"loss": 0.5}, 1.0),
    ItemScored("r1", "suite", "item", "metric", 1.0, 2.0),
]
"""Events of all tables."""


def test_no_table_keeps_rows_of_lines_that_are_gone(folder: Path) -> None:
    def filled() -> set[str]:
        names = [str(name) for (name,) in asked(folder, "SELECT table_name FROM duckdb_tables() WHERE NOT temporary")]
        return {name for name in names if asked(folder, f"SELECT 1 FROM {name} LIMIT 1")}

    path = rewrite(folder, numbered(KINDS))
    assert Loader(folder).load().unreadable == ()
    everywhere = filled()
    path.write_bytes(b"")
    assert [one.kind for one in Loader(folder).load().unreadable] == ["shortened"]
    assert len(everywhere) == 17
    assert filled() == {"store_format", "toolsets", "unreadable_lines"}  # toolsets are of no run


def test_a_store_that_cannot_keep_damage_is_loaded_all_the_same(folder: Path) -> None:
    path = rewrite(folder, LINES)
    Loader(folder).load()
    (folder / FILE).mkdir()
    path.write_bytes(b"".join(LINES[:4]))
    report = Loader(folder).load()
    assert [one.kind for one in report.unreadable] == ["shortened"]
    assert report.lines == 4


def test_a_journal_that_is_gone_is_damage_until_it_is_back(folder: Path) -> None:
    path = rewrite(folder, LINES)
    rewrite(folder, [], "r1", "empty").unlink()
    Loader(folder).load()
    path.unlink()
    (one,) = Loader(folder).load().unreadable
    assert (one.journal, one.kind, one.byte, one.line, one.lines) == (path, "gone", 0, 1, COUNT)
    assert one.checksum == ending(LINES)
    assert one.reason == (
        f"it is gone; the {COUNT} lines that were loaded from it are still in the database, and nowhere else"
    )
    assert nothing(Loader(folder).load())
    rewrite(folder, LINES)
    assert Loader(folder).load() == LoadReport()
    assert asked(folder, "FROM unreadable_lines") == []


def test_what_was_acknowledged_is_marked_among_the_rows_and_nothing_else(folder: Path) -> None:
    path = rewrite(folder, [*LINES[:4], JUNK, *LINES[4:8], *LINES[9:]])
    garbage, lost = Loader(folder).load().unreadable
    loader = Loader(folder)
    loader.acknowledge([lost])
    assert loader.load().unreadable == ()
    told = "SELECT kind, acknowledged FROM unreadable_lines ORDER BY byte"
    assert asked(folder, told) == [("garbage", False), ("lost", True)]
    path.write_bytes(b"".join(LINES[:2]))
    (short,) = loader.load().unreadable
    loader.acknowledge([short, garbage])
    loader.load()
    assert asked(folder, told) == [("shortened", True)]
    path.write_bytes(b"".join([*LINES[:4], JUNK]))
    loader.load()
    assert asked(folder, told) == [("shortened", True), ("garbage", True)]
