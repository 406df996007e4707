"""The journals of a store as a loader finds, reads and syncs them, and the number of the next start."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
from store_events import numbered, run_started, write_lines

from simkit.errors import StoreError
from simkit.store.archive import archive_of, compress, zstd
from simkit.store.files import UNSYNCED
from simkit.store.source import (
    STARTS,
    DiskSource,
    JournalSource,
    file_of,
    find_journals,
    journal_files,
    next_start,
    open_journal,
    raise_starts,
    size_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_lines(tmp_path, numbered([run_started()]))


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("simkit.store.source.os.fsync", refused)
    monkeypatch.setattr("simkit.store.source.sync_folders", str)


def test_a_journal_and_once_the_folders_above_it_are_brought_to_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[object] = []

    def sync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)

    monkeypatch.setattr("simkit.store.source.os.fsync", sync)
    monkeypatch.setattr("simkit.store.source.sync_folders", synced.append)
    source = DiskSource(path)
    source.sync()
    source.sync()
    source.close()
    inode = path.stat().st_ino
    assert synced == [inode, path, inode]


@pytest.mark.parametrize("number", sorted(UNSYNCED))
def test_a_file_system_that_cannot_sync_is_no_error(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refusing(monkeypatch, number)
    source = DiskSource(path)
    source.sync()
    source.close()


def test_a_disk_that_fails_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.EIO)
    source = DiskSource(path)
    with pytest.raises(OSError, match="Input/output error"):
        source.sync()
    source.close()


def test_a_journal_that_is_closed_gives_its_descriptor_back(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = DiskSource(path)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_file_is_closed_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "main.jsonl")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="it is not a regular file"):
        DiskSource(tmp_path / "main.jsonl")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_journal_that_has_the_number_of_a_closed_standard_input_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    (tmp_path / "w0.jsonl").write_bytes(b"")

    def first(path: Path, flags: int) -> int:
        return 0

    def status(file: int) -> os.stat_result:
        return (tmp_path / "w0.jsonl").stat()

    monkeypatch.setattr("simkit.store.source.open_plain", first)
    monkeypatch.setattr("simkit.store.source.os.fstat", status)
    monkeypatch.setattr("simkit.store.source.os.close", closed.append)
    source = DiskSource(tmp_path / "w0.jsonl")
    source.close()
    source.close()
    assert closed == [0]


def recorded(folder: Path, run: str, *numbers: int | None) -> Path:
    """The journal of a run that was started with these numbers."""
    starts = [replace(run_started(run), number=number, attempt=place) for place, number in enumerate(numbers)]
    return write_lines(folder, numbered(starts, run), run)


def test_starts_are_counted_on_from_the_last_in_the_store(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert [next_start(tmp_path) for _ in range(3)] == [1, 2, 3]
    assert len(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / STARTS).read_bytes() == b"%20d\n" % 3
    (tmp_path / STARTS).write_text("41\n")
    recorded(tmp_path, "r1", 90)
    assert next_start(tmp_path) == 42


def test_a_start_is_counted_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[bool] = []
    read = os.pread

    def watched(fd: int, size: int, start: int) -> bytes:
        with (tmp_path / STARTS).open() as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked.append(False)
            except BlockingIOError:
                locked.append(True)
        return read(fd, size, start)

    monkeypatch.setattr("simkit.store.source.os.pread", watched)
    assert (next_start(tmp_path), next_start(tmp_path), locked) == (1, 2, [True, True])


@pytest.mark.parametrize("text", [None, "", "no number"])
def test_without_a_counter_starts_are_counted_on_from_the_journals(tmp_path: Path, text: str | None) -> None:
    recorded(tmp_path, "r1", 4, None, 9)
    recorded(tmp_path, "r2", 7)
    (tmp_path / "journals" / "r3" / "w0.jsonl").mkdir(parents=True)  # cannot be read
    if text is not None:
        (tmp_path / STARTS).write_text(text)
    assert next_start(tmp_path) == 10


def test_a_counter_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / STARTS).mkdir()
    with pytest.raises(StoreError) as found:
        next_start(tmp_path)
    assert str(found.value) == (
        f"{tmp_path / STARTS} cannot be written: Is a directory. Make the store folder writable, or use another --store"
    )


def test_the_journals_of_a_store_are_listed_by_run_and_name_with_those_that_cannot_be_read(tmp_path: Path) -> None:
    assert journal_files(tmp_path) == []
    first = [write_lines(tmp_path, (), run, worker) for run in ("r2", "r1") for worker in ("w1", "main", "w0")]
    first[0].with_name("notes.txt").touch()
    (tmp_path / "journals" / "r0").symlink_to("r1")
    (tmp_path / "journals" / "file").touch()
    unreadable = tmp_path / "journals" / "r0" / "main.jsonl"
    assert journal_files(tmp_path) == [unreadable, *sorted(first)]
    assert journal_files(tmp_path, ["r1", "r1", "gone"]) == sorted(first[3:])
    found = find_journals(tmp_path)
    assert found.runs == {"r1": sorted(first[3:]), "r2": sorted(first[:3])}
    assert [path for path, _ in found.troubles] == [unreadable]


def test_runs_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(10)]
    for name in reversed(names):
        (tmp_path / "journals" / name).mkdir(parents=True)
    assert list(find_journals(tmp_path).runs) == names
    assert list(find_journals(tmp_path, names[::-1]).runs) == names


def test_journals_are_not_looked_for_behind_a_link(tmp_path: Path) -> None:
    recorded(tmp_path / "elsewhere", "r1", 1)
    (tmp_path / "journals").symlink_to(tmp_path / "elsewhere" / "journals")
    with pytest.raises(OSError, match="link"):
        find_journals(tmp_path)


def test_a_journal_that_is_gone_has_no_bytes_and_one_whose_size_is_unknown_has_some(path: Path) -> None:
    assert size_of(path) == path.stat().st_size
    assert size_of(path.with_name("gone")) == 0
    assert size_of(path / "below a file") == 1


# --- compressed journals ----------------------------------------------------------------------------------------------


def read(source: JournalSource) -> bytes:
    try:
        return source.read(0, source.size())
    finally:
        source.close()


def test_a_compressed_journal_is_found_by_its_plain_name_and_has_its_size(path: Path) -> None:
    data = path.read_bytes()
    assert file_of(path) == path
    compress(path)
    assert file_of(path) == archive_of(path)
    assert find_journals(path.parents[2]).runs == {"r1": [path]}
    assert read(open_journal(path)) == data
    assert size_of(path) == len(data) != archive_of(path).stat().st_size
    path.write_bytes(b"plain\n")
    assert file_of(path) == path
    assert read(open_journal(path)) == b"plain\n"
    assert find_journals(path.parents[2]).runs == {"r1": [path]}
    path.with_name(".w1.jsonl.zst").touch()
    path.with_name(".w1.jsonl.restored").touch()
    assert find_journals(path.parents[2]).runs == {"r1": [path]}


def test_a_journal_without_a_file_is_not_found_and_one_that_cannot_be_read_has_some_bytes(path: Path) -> None:
    assert file_of(path.with_name("gone.jsonl")) == path.with_name("gone.jsonl")
    with pytest.raises(FileNotFoundError):
        open_journal(path.with_name("gone.jsonl"))
    archive_of(path.with_name("odd.jsonl")).mkdir()
    assert size_of(path.with_name("odd.jsonl")) == 1


def test_a_journal_that_is_restored_while_it_is_opened_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = path.read_bytes()
    path.rename(path.with_name("aside"))

    def restored(journal: Path) -> Path:
        path.with_name("aside").rename(path)
        return archive_of(journal)

    monkeypatch.setattr("simkit.store.archive.archive_of", restored)
    assert read(open_journal(path)) == data


def test_sizes_are_read_without_a_descriptor_that_stays_and_nothing_is_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, errno.EIO)
    compress_refused(path)
    before = len(os.listdir("/proc/self/fd"))
    assert size_of(path) > 0
    assert len(os.listdir("/proc/self/fd")) == before
    for source in (open_journal(path, synced=False), DiskSource(archive_of(path), synced=False)):
        source.sync()
        source.close()
    source = open_journal(path)
    with pytest.raises(OSError, match="Input/output"):
        source.sync()
    source.close()


def compress_refused(path: Path) -> None:
    """Compress a journal where nothing can be synced."""
    archive_of(path).write_bytes(zstd().compress(path.read_bytes()))
    path.unlink()


# --- starts of another store ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "number", "following"), [(None, 5, 6), ("7\n", 5, 8), ("7\n", 7, 8), ("7\n", 9, 10)])
def test_starts_go_on_above_those_that_came_from_another_store(
    tmp_path: Path, known: str | None, number: int, following: int
) -> None:
    if known is not None:
        (tmp_path / STARTS).write_text(known)
    before = len(os.listdir("/proc/self/fd"))
    raise_starts(tmp_path, number)
    assert len(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / STARTS).read_bytes() == b"%20d\n" % (following - 1)
    assert next_start(tmp_path) == following


def test_without_a_counter_starts_from_another_store_are_compared_with_the_journals(tmp_path: Path) -> None:
    recorded(tmp_path, "r1", 4, None, 9)
    raise_starts(tmp_path, 5)
    assert next_start(tmp_path) == 10
    (tmp_path / STARTS).unlink()
    (tmp_path / STARTS).mkdir()
    with pytest.raises(StoreError, match=r"cannot be written: Is a directory\. Make the store folder writable"):
        raise_starts(tmp_path, 5)
