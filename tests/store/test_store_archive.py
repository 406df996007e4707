"""Compressed journals read, load, resume and are damaged as plain ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.core.events import Event, RunFinished
from simkit.errors import JournalFailed
from simkit.run.resume import RecordedRun
from simkit.store import Store
from simkit.store.archive import ArchiveSource, archive_of, compress, restore, zstd
from simkit.store.damage import BadLine
from simkit.store.encoding import JournalEvents
from simkit.store.journal import DiskFile
from simkit.store.lines import JournalLines
from simkit.store.reading import journal_sizes
from simkit.store.source import find_journals, open_journal, size_of

EVENTS: list[Event] = [
    run_started(),
    *(event for task in range(12) for event in josh_episode(task=f"MUL{task}").events),
    run_finished(),
]
LINES = numbered(EVENTS)
WHOLE = b"".join(LINES)
TABLES = ("runs", "episodes", "messages", "branches", "journals", "unreadable_lines")


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of about ten lines."""
    monkeypatch.setattr("simkit.store.archive.FRAME", 4_000)


def written(folder: Path, lines: list[bytes] = LINES) -> Path:
    return write_lines(folder, lines)


def contents(path: Path) -> bytes:
    source = open_journal(path)
    try:
        return source.read(0, source.size())
    finally:
        source.close()


def rows(store: Store) -> dict[str, list[tuple[object, ...]]]:
    return {table: store.query(f"FROM {table} ORDER BY ALL").rows for table in TABLES}


def by_another_program(path: Path) -> None:
    """As the program zstd compresses a file that it reads from a pipe: one frame that does not tell its length."""
    made = zstd().ZstdCompressor()
    data = made.compress(path.read_bytes()) + made.flush()
    archive_of(path).write_bytes(data)
    path.unlink()


def without_table(path: Path) -> None:
    compress(path)
    archive = archive_of(path)
    data = archive.read_bytes()
    archive.write_bytes(data[: data.rfind(b"\x5e\x2a\x4d\x18")])


FORMS: dict[str, Callable[[Path], object]] = {
    "own": compress,
    "without the table": without_table,
    "of another program": by_another_program,
}


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_compressed_journal_has_the_bytes_of_the_plain_one(tmp_path: Path, form: Callable[[Path], object]) -> None:
    path = written(tmp_path)
    form(path)
    assert not path.exists()
    assert contents(path) == WHOLE
    assert size_of(path) == len(WHOLE)
    source = open_journal(path)
    for start in range(0, len(WHOLE) + 1_000, 777):
        assert source.read(start, 1_500) == WHOLE[start : start + 1_500]
    source.close()
    source.close()


def test_an_empty_journal_and_one_with_a_torn_line_and_a_long_line_come_back(tmp_path: Path) -> None:
    for data in (b"", b"torn", b"one\ntorn", b"x" * (3 << 20) + b"\n", WHOLE):
        path = tmp_path / "w.jsonl"
        path.write_bytes(data)
        compress(path)
        assert contents(path) == data
        restore(path)
        assert path.read_bytes() == data
        assert not archive_of(path).exists()


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_store_of_compressed_journals_answers_as_one_of_plain_ones(
    tmp_path: Path, form: Callable[[Path], object]
) -> None:
    plain, other = Store(tmp_path / "plain"), Store(tmp_path / "other")
    written(plain.path)
    form(written(other.path))
    assert rows(other) == rows(plain)
    assert other.load().lines == 0
    assert list(find_journals(other.path).runs.values()) == [[other.path / "journals" / "r1" / "w0.jsonl"]]
    assert RecordedRun.read(other.path, "r1").finished == RecordedRun.read(plain.path, "r1").finished


def test_nothing_is_loaded_again_when_a_loaded_journal_is_compressed_or_restored(store: Store) -> None:
    path = written(store.path)
    before = rows(store)
    for change in (compress, restore):
        change(path)
        assert journal_sizes(store.path) == {"r1/w0.jsonl": len(WHOLE)}
        report = store.load()
        assert (report.lines, report.damaged) == (0, ())
        assert rows(store) == before


def test_plain_and_compressed_journals_of_one_run_are_read_together(store: Store) -> None:
    first = write_lines(store.path, numbered([run_started(), *josh_episode().events], worker="w0"), worker="w0")
    write_lines(store.path, numbered(josh_episode(task="MUL2").events, worker="w1"), worker="w1")
    compress(first)
    assert store.query("SELECT task_id FROM episodes ORDER BY ALL").rows == [("MUL1",), ("MUL2",)]


def test_the_plain_journal_counts_where_both_are_there(store: Store) -> None:
    path = written(store.path, LINES[:5])
    compress(path)
    path.write_bytes(WHOLE)
    assert size_of(path) == len(WHOLE)
    assert store.load().lines == len(LINES)


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("table", [True, False])
def test_a_damaged_frame_is_named_and_all_others_count(store: Store, table: bool) -> None:
    path = written(store.path)
    (compress if table else without_table)(path)
    archive = archive_of(path)
    source = ArchiveSource(archive)
    before, frame = source._frames[:2]  # pyright: ignore[reportPrivateUsage]
    first = before.length or 0
    source.close()
    data = bytearray(archive.read_bytes())
    data[frame.start + frame.size // 2] ^= 0xFF
    archive.write_bytes(data)
    journal = JournalLines(path)
    sound = sum(1 for _ in journal)
    altered, lost = journal.bad
    assert frame.length is not None
    assert altered.kind == "altered"
    assert f"{frame.length:,} bytes of the compressed journal cannot be decompressed" in altered.reason
    assert altered.byte == first
    assert lost.byte == first + frame.length
    assert sound + lost.lines + 1 == len(LINES)
    assert store.load().lines == sound
    assert store.damage("r1") == journal.bad


@pytest.mark.parametrize("cut", [1, 3, 40])
def test_an_archive_that_was_cut_off_gives_what_is_whole(store: Store, cut: int) -> None:
    path = written(store.path)
    without_table(path)
    data = archive_of(path).read_bytes()
    archive_of(path).write_bytes(data[:-cut])
    assert [bad.kind for bad in bads(path)] == ["altered"]
    assert store.load().damaged[0].journal == path


def bads(path: Path) -> list[BadLine]:
    lines = JournalLines(path)
    list(lines)
    return list(lines.bad)


def test_other_bytes_than_an_archive_are_damage_not_a_crash(store: Store) -> None:
    path = written(store.path, [])
    path.unlink()
    archive_of(path).write_bytes(b"no archive at all\n" * 20)
    assert len(bads(path)) == 1
    assert store.load().damaged


def test_a_journal_that_is_written_again_becomes_plain(store: Store) -> None:
    path = written(store.path, LINES[:-1])
    compress(path)
    file = DiskFile(path)
    file.append(LINES[-1])
    file.close()
    assert not archive_of(path).exists()
    assert path.read_bytes() == WHOLE


def test_a_journal_that_was_replaced_while_it_was_opened_takes_no_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)

    def late(_: int) -> None:
        compress(path)

    monkeypatch.setattr("simkit.store.journal.lock_for_writing", late)
    with pytest.raises(OSError, match="compressed or deleted"):
        DiskFile(path)


@pytest.mark.anyio
async def test_the_journal_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(store.path)

    def late(_: int) -> None:
        compress(path)

    monkeypatch.setattr("simkit.store.journal.lock_for_writing", late)
    with pytest.raises(JournalFailed, match="cannot be opened for writing"):
        async with store.journal("r1", "w0"):
            pass


def test_a_disk_that_is_full_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            compress(path)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == WHOLE


def test_events_of_a_compressed_journal_are_read_in_order(tmp_path: Path) -> None:
    path = written(tmp_path)
    compress(path)
    assert [type(event) for event, _ in JournalEvents(path, (RunFinished,))] == [RunFinished]


def test_reading_plain_journals_imports_no_compression(tmp_path: Path) -> None:
    written(tmp_path)
    show = "import sys; print('backports' in sys.modules)"
    code = f"from simkit.store import Store; Store({str(tmp_path)!r}).load(); {show}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
