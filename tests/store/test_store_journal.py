from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import orjson
import pytest
from anyio import from_thread
from hypothesis import given, settings
from hypothesis import strategies as st
from store_events import josh_episode, run_started

from simkit.core.events import Event, RunStarted
from simkit.errors import JournalFailed, UsageError
from simkit.store import Journal, Store
from simkit.store.archive import compress
from simkit.store.encoding import encode, kind_of
from simkit.store.files import UNSYNCED, sync_folders
from simkit.store.journal import DiskFile, JournalFile, cut_torn_line

pytestmark = pytest.mark.anyio


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def numbered(number: int) -> Event:
    return RunStarted(str(number), "n", "josh", number, {}, "0", 1.0)


class MemoryFile:
    """A journal file in memory that counts its writes and runs out of space."""

    def __init__(self, room: int = 1 << 40, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.room = room
        self.writes = 0
        self.synced = 0

    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, size: int) -> bytes:
        return bytes(self.data[start : start + size])

    def append(self, data: bytes) -> int:
        self.writes += 1
        left = self.room - len(self.data)
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.data += data[:left]
        return min(left, len(data))

    def truncate(self, size: int) -> None:
        del self.data[size:]

    def sync(self) -> None:
        self.synced = len(self.data)

    def close(self) -> None: ...


async def test_what_was_committed_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r1" / "w0.jsonl"
    async with Journal(path) as journal:
        for event in josh_episode().events:
            journal.record(event)
        await journal.commit()
        kinds = [line["e"] for line in lines(path)]
        assert kinds == [kind_of(encode(event)) for event in josh_episode().events]
        journal.record(run_started())
    assert lines(path)[-1]["e"] == "RunStarted"


async def test_branches_that_commit_at_once_share_writes(tmp_path: Path) -> None:
    file = MemoryFile()
    done: list[int] = []

    async def branch(journal: Journal, number: int) -> None:
        journal.record(numbered(number))
        await journal.commit()
        assert b'"run_id":"%d"' % number in file.data
        done.append(number)

    async with Journal(tmp_path / "w", opener=lambda _: file) as journal, anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(branch, journal, number)
    assert len(done) == 200
    assert file.writes < 20
    assert file.synced == file.size()


async def test_a_torn_last_line_is_cut_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    path.write_bytes(encode(numbered(1)) + encode(numbered(2))[:-5])
    async with Journal(path) as journal:
        journal.record(numbered(3))
    assert [line["run_id"] for line in lines(path)] == ["1", "3"]


@settings(deadline=None)  # a busy machine is no failure
@given(whole=st.binary().map(lambda data: data + b"\n"), torn=st.binary().map(lambda data: data.replace(b"\n", b"")))
def test_only_the_torn_line_is_cut(whole: bytes, torn: bytes) -> None:
    file = MemoryFile(data=whole + torn)
    assert cut_torn_line(file, block=2) == len(whole)
    assert bytes(file.data) == whole


def test_a_file_without_a_whole_line_becomes_empty() -> None:
    file = MemoryFile(data=b"torn")
    assert cut_torn_line(file, block=2) == 0
    assert not file.data


async def test_a_full_disk_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    size = len(encode(numbered(1)))
    file = MemoryFile(room=4 * size - 10)
    journal = Journal(tmp_path / "w", opener=lambda _: file)
    await journal.__aenter__()
    journal.record(numbered(1))
    await journal.commit()
    for number in (2, 3, 4, 5):
        journal.record(numbered(number))
    for _ in range(2):  # and every later commit says so again
        with pytest.raises(JournalFailed, match=r"No space left on device.*free some space"):
            await journal.commit()
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)
    assert [orjson.loads(line)["run_id"] for line in bytes(file.data).splitlines()] == ["1", "2", "3"]
    assert file.data.endswith(b"\n")


class SlowFile(MemoryFile):
    """Takes few bytes at a time, and notes what it is given."""

    def __init__(self, most: int = 1 << 40, room: int = 1 << 40) -> None:
        super().__init__(room)
        self.most = most
        self.given: list[int] = []
        self.syncs: list[int] = []

    def append(self, data: bytes) -> int:
        self.given.append(len(data))
        return super().append(data[: self.most])

    def sync(self) -> None:
        self.syncs.append(len(self.data))


@pytest.mark.parametrize("most", [1, 7, 100])
async def test_a_file_may_take_few_bytes_at_a_time(tmp_path: Path, most: int) -> None:
    file = SlowFile(most)
    async with Journal(tmp_path / "w", opener=lambda _: file) as journal:
        for number in range(3):
            journal.record(numbered(number))
        await journal.commit()
        assert file.syncs == []  # unless it is asked to be durable
    whole = bytes(file.data)
    assert [orjson.loads(line)["run_id"] for line in whole.splitlines()] == ["0", "1", "2"]
    assert file.given == list(range(len(whole), 0, -most))


@pytest.mark.parametrize("room", range(1, 400, 7))
async def test_a_full_disk_leaves_whole_lines_wherever_it_ends(tmp_path: Path, room: int) -> None:
    file = SlowFile(50, room)
    journal = Journal(tmp_path / "w", opener=lambda _: file)
    await journal.__aenter__()
    for number in range(5):
        journal.record(numbered(number))
    with pytest.raises(JournalFailed):
        await journal.commit()
    line = len(bytes(file.data).partition(b"\n")[0]) + 1 if file.data else room + 1
    assert len(file.data) == room // line * line
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(("lines", "writes"), [(1, 5), (1.5, 3), (2, 3), (4.5, 1)])
async def test_what_is_queued_is_written_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: float, writes: int, durable: bool
) -> None:
    path = tmp_path / "r1" / "w"
    line = len(encode(numbered(0))) + len(',"n":0,"c":"00000000"')
    monkeypatch.setattr("simkit.store.journal.SLICE", int(line * lines))
    file = SlowFile()
    async with Journal(path, opener=lambda _: file, durable=durable) as journal:
        for number in range(5):
            journal.record(numbered(number))
        await journal.commit()
        assert len(file.given) == writes
        assert file.syncs == ([min(number, 5) * line for number in _steps(5, writes)] if durable else [])
        await journal.commit()  # nothing is outstanding
        assert len(file.given) == writes
    assert file.syncs[-1] == 5 * line == file.size()


def _steps(count: int, writes: int) -> list[int]:
    return [(count + writes - 1) // writes * number for number in range(1, writes + 1)]


async def test_lines_are_numbered_on_when_a_journal_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "r1" / "w.jsonl"
    for number in range(3):
        async with Journal(path) as journal:
            journal.record(numbered(number))
            journal.record(numbered(number))
    assert [(line["run_id"], line["n"]) for line in lines(path)] == [(str(number // 2), number) for number in range(6)]


async def test_events_that_were_encoded_elsewhere_are_numbered_here(tmp_path: Path) -> None:
    path = tmp_path / "r1" / "w.jsonl"
    async with Journal(path) as journal:
        journal.record(numbered(1))
        journal.record_lines([encode(numbered(2)), encode(numbered(3))])
        await journal.commit()
        assert [(line["run_id"], line["n"]) for line in lines(path)] == [("1", 0), ("2", 1), ("3", 2)]
        journal.record_lines([encode(numbered(4))])
    assert [line["run_id"] for line in lines(path)] == ["1", "2", "3", "4"]


def test_a_journal_that_goes_while_it_is_opened_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r1" / "w.jsonl"
    before = set(os.listdir("/proc/self/fd"))

    def lock(file: int) -> None:
        path.unlink()

    monkeypatch.setattr("simkit.store.journal.lock_for_writing", lock)
    with pytest.raises(BlockingIOError, match="it was compressed or deleted at this moment"):
        DiskFile(path)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_a_compressed_journal_is_gone_on_with_as_a_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "r1" / "w.jsonl"
    async with Journal(path) as journal:
        journal.record(numbered(1))
    compress(path)
    async with Journal(path) as journal:
        journal.record(numbered(2))
    assert [(line["run_id"], line["n"]) for line in lines(path)] == [("1", 0), ("2", 1)]
    assert [each.name for each in path.parent.iterdir()] == ["w.jsonl"]


async def test_what_is_recorded_is_written_at_once_by_a_process_that_is_left(tmp_path: Path) -> None:
    file = MemoryFile()
    journal = Journal(tmp_path / "w", opener=lambda _: file)
    with pytest.raises(JournalFailed, match="is not open: use `async with`"):
        journal.write_now()
    async with journal:
        journal.record(numbered(1))
        journal.record(numbered(2))
        threading.Thread(target=journal.write_now).start()
        await journal.commit()
        assert [orjson.loads(line)["run_id"] for line in bytes(file.data).splitlines()] == ["1", "2"]
        journal.record(numbered(3))
        journal.write_now()
        assert [orjson.loads(line)["n"] for line in bytes(file.data).splitlines()] == [0, 1, 2]
    with pytest.raises(JournalFailed, match="is not open"):
        journal.write_now()
    with pytest.raises(JournalFailed, match="is not open"):
        await journal.sync()
    journal.record(numbered(4))
    with pytest.raises(JournalFailed, match="is not open"):
        await journal.commit()


class Refusing(MemoryFile):
    """Fails as it is told to."""

    def __init__(self, error: OSError, *operations: str) -> None:
        super().__init__()
        self.error = error
        self.operations = operations
        self.closed = 0

    def append(self, data: bytes) -> int:
        if "append" in self.operations:
            super().append(data[:30])
            raise self.error
        return super().append(data)

    def truncate(self, size: int) -> None:
        if "truncate" in self.operations:
            raise OSError(errno.EIO, "no truncation")
        super().truncate(size)

    def sync(self) -> None:
        if "sync" in self.operations:
            raise self.error
        super().sync()

    def close(self) -> None:
        self.closed += 1


REMEDIES = {
    errno.ENOSPC: "free some space on that disk, or use another --store",
    errno.EDQUOT: "free some space on that disk, or use another --store",
    errno.EROFS: "make the store folder writable, or use another --store",
    errno.EACCES: "make the store folder writable, or use another --store",
    errno.EPERM: "make the store folder writable, or use another --store",
    errno.EIO: "check that disk, or use another --store",
}


@pytest.mark.parametrize("number", REMEDIES)
@pytest.mark.parametrize("operations", [("append",), ("append", "truncate"), ("sync",)], ids="+".join)
@pytest.mark.parametrize("durable", [False, True])
async def test_a_write_that_fails_says_why_and_what_to_do(
    tmp_path: Path, number: int, operations: tuple[str, ...], durable: bool
) -> None:
    file = Refusing(OSError(number, os.strerror(number)), *operations)
    path = tmp_path / "w"
    journal = Journal(path, opener=lambda _: file, durable=durable)
    await journal.__aenter__()
    journal.record(numbered(1))
    expected = (
        f"the journal {path} cannot be written: {os.strerror(number)}. Everything acknowledged before is stored; "
        f"{REMEDIES[number]}, then start the run again"
    )
    for ask in (journal.commit, journal.sync, journal.commit):
        if durable or ask == journal.sync or "append" in operations:
            with pytest.raises(JournalFailed) as found:
                await ask()
            assert str(found.value) == expected
        else:
            await ask()
            journal.record(numbered(2))
            durable = True  # from the first failure on, everything fails
    with pytest.raises(JournalFailed) as found:
        journal.write_now()
    assert str(found.value) == expected
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)
    assert file.closed == 1
    assert len(file.data) == (30 if "truncate" in operations else 0) or operations == ("sync",)


async def test_what_a_cancelled_run_recorded_last_is_written_and_synced(tmp_path: Path) -> None:
    file = MemoryFile()
    with anyio.CancelScope() as scope:
        async with Journal(tmp_path / "w", opener=lambda _: file) as journal:
            journal.record(numbered(1))
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert [orjson.loads(line)["run_id"] for line in bytes(file.data).splitlines()] == ["1"]
    assert file.synced == file.size()


async def test_a_commit_after_a_failed_sync_fails_although_nothing_is_outstanding(tmp_path: Path) -> None:
    file = Refusing(OSError(errno.EIO, os.strerror(errno.EIO)), "sync")
    journal = Journal(tmp_path / "w", opener=lambda _: file)
    await journal.__aenter__()
    journal.record(numbered(1))
    await journal.commit()
    for ask in (journal.sync, journal.commit):
        with pytest.raises(JournalFailed, match="cannot be written: Input/output error"):
            await ask()
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)


async def test_an_event_of_no_known_kind_ends_the_journal_with_its_name(tmp_path: Path) -> None:
    class OwnEvent(RunStarted):
        """An event that a plugin made up."""

    journal = Journal(tmp_path / "w", opener=lambda _: MemoryFile())
    await journal.__aenter__()
    journal.record(OwnEvent("r", "n", "josh", 1, {}, "0", 1.0))
    for _ in range(2):
        with pytest.raises(JournalFailed, match=r"an event of kind OwnEvent cannot be written as JSON to .*/w"):
            await journal.commit()
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)


async def test_a_failure_without_words_of_the_system_has_its_own(tmp_path: Path) -> None:
    file = Refusing(OSError("the cable is out"), "append")
    journal = Journal(tmp_path / "w", opener=lambda _: file)
    await journal.__aenter__()
    journal.record(numbered(1))
    with pytest.raises(JournalFailed, match=r"cannot be written: the cable is out\. Everything"):
        await journal.commit()
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)


@pytest.mark.parametrize("number", REMEDIES)
async def test_a_journal_that_cannot_be_opened_says_why_and_what_to_do(tmp_path: Path, number: int) -> None:
    def refuse(path: Path) -> JournalFile:
        raise OSError(number, os.strerror(number), str(path))

    path = tmp_path / "w.jsonl"
    with pytest.raises(JournalFailed) as found:
        await Journal(path, opener=refuse).__aenter__()
    remedy = REMEDIES[number].capitalize()
    assert str(found.value) == f"the journal {path} cannot be opened for writing: {os.strerror(number)}. {remedy}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_journal_that_is_there_and_not_locked_has_no_other_writer(tmp_path: Path, number: int) -> None:
    def refuse(path: Path) -> JournalFile:
        raise OSError(number, os.strerror(number))

    (tmp_path / "w.jsonl").touch()
    with pytest.raises(JournalFailed, match="cannot be opened for writing: "):
        await Journal(tmp_path / "w.jsonl", opener=refuse).__aenter__()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
async def test_a_journal_that_is_there_and_locked_is_written_by_another(tmp_path: Path, number: int) -> None:
    def refuse(path: Path) -> JournalFile:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "w.jsonl"
    path.touch()
    with pytest.raises(JournalFailed) as found:
        await Journal(path, opener=refuse).__aenter__()
    assert str(found.value) == (
        f"another process is writing to the journal {path}; wait for it, or use another worker or run name"
    )


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is brought to the disk, by its path."""
    found: list[str] = []

    def fsync(file: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{file}"))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_the_first_sync_brings_the_names_of_a_journal_to_the_disk(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "store" / "journals" / "r1" / "w.jsonl"
    (tmp_path / "store").mkdir()
    file = DiskFile(path)
    file.sync()
    assert synced == [str(each) for each in (path, *list(path.parents)[:4])]
    file.sync()
    assert synced[5:] == [str(path)]
    file.close()


@pytest.mark.parametrize("number", [*UNSYNCED, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_left_alone_but_a_broken_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fsync(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "store").mkdir()
    before = set(os.listdir("/proc/self/fd"))
    file = DiskFile(tmp_path / "store" / "journals" / "r1" / "w.jsonl")
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
    else:
        file.sync()
    file.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_folders_that_may_not_be_opened_are_left_alone(tmp_path: Path, synced: list[str]) -> None:
    sync_folders(tmp_path / "there" / "is" / "no" / "w.jsonl")
    assert synced == [str(tmp_path)]


def test_a_second_writer_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simkit.store.files.PAUSES", ())
    path = tmp_path / "w.jsonl"
    first = DiskFile(path)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        DiskFile(path)
    assert set(os.listdir("/proc/self/fd")) == before
    first.close()
    DiskFile(path).close()


class FullFile(MemoryFile):
    """Takes no bytes, and does not say why."""

    def append(self, data: bytes) -> int:
        self.writes += 1
        assert self.writes < 10, "asked for ever"
        return 0


async def test_a_file_that_takes_no_bytes_is_a_failure_and_not_asked_for_ever(tmp_path: Path) -> None:
    file = FullFile()
    journal = Journal(tmp_path / "w", opener=lambda _: file)
    await journal.__aenter__()
    journal.record(numbered(1))
    with pytest.raises(JournalFailed, match="takes no more bytes"):
        await journal.commit()
    with pytest.raises(JournalFailed):
        await journal.__aexit__(None, None, None)
    assert file.writes == 1


LIMITED = """
import resource, signal, sys, anyio
from pathlib import Path
from simkit.errors import JournalFailed
from simkit.core.events import RunStarted
from simkit.store import Journal

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    path, acknowledged = Path(sys.argv[1]), 0
    try:
        async with Journal(path) as journal:
            for number in range(1000):
                journal.record(RunStarted(str(number), "n" * 7_000, "josh", 1, {}, "0", 1.0))
                await journal.commit()
                acknowledged += 1
    except JournalFailed as error:
        print(acknowledged, error)

anyio.run(main)
"""


def test_a_real_file_that_may_not_grow(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    path = tmp_path / "w.jsonl"
    found = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    acknowledged, _, message = found.stdout.partition(" ")
    assert "File too large" in message
    assert [line["run_id"] for line in lines(path)] == [str(number) for number in range(int(acknowledged))]


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    async with Journal(path):
        with pytest.raises(JournalFailed, match="another process is writing"):
            await Journal(path).__aenter__()


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    def refuse(path: Path) -> JournalFile:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with pytest.raises(JournalFailed, match=r"w\.jsonl cannot be opened.*Make the store folder writable"):
        await Journal(tmp_path / "w.jsonl", opener=refuse).__aenter__()


async def test_a_journal_must_be_entered(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "w.jsonl")
    journal.record(numbered(1))
    with pytest.raises(JournalFailed, match="async with"):
        await journal.commit()


@dataclass
class Gate:
    """Holds a write until it is let go, and says when it has begun."""

    begun: anyio.Event
    go: threading.Event


class GatedFile(DiskFile):
    def __init__(self, path: Path, gate: Gate) -> None:
        super().__init__(path)
        self._gate = gate

    def append(self, data: bytes) -> int:
        from_thread.run_sync(self._gate.begun.set)
        self._gate.go.wait()
        return super().append(data)


async def test_a_cancelled_commit_loses_nothing(tmp_path: Path) -> None:
    gate = Gate(anyio.Event(), threading.Event())
    path = tmp_path / "w.jsonl"
    async with Journal(path, opener=lambda path: GatedFile(path, gate)) as journal:
        journal.record(numbered(1))
        async with anyio.create_task_group() as group:
            group.start_soon(journal.commit)
            await gate.begun.wait()
            journal.record(numbered(2))
            group.cancel_scope.cancel()
            gate.go.set()
    assert [line["run_id"] for line in lines(path)] == ["1", "2"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.dictionaries(st.integers(), inner),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is no failure
@given(value=json_like)
def test_any_value_becomes_one_line_that_can_be_read(value: object) -> None:
    line = encode(RunStarted("r", "n", "josh", 1, {"v": value}, "0", 1.0))
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["e"] == "RunStarted"


def test_what_json_lacks_is_replaced() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    config = {"nan": float("nan"), "lone": "a\ud800b", "big": 2**70, "odd": Odd(), "set": {"b", "a"}, "t": (1, "é\0")}
    line = orjson.loads(encode(RunStarted("r", "n", "josh", 1, config, "0", 1.0)))["config"]
    assert line == {"nan": None, "lone": "a�b", "big": float(2**70), "odd": "odd", "set": ["a", "b"], "t": [1, "é\0"]}


class Unreadable:
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no fields")


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["twice"] = [value, value]
    return value


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"v": [value]}
    return value


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (endless(), "a value that holds itself"),
        (nested(600), "more than 100 levels deep"),
        (nested(50_000), "more than 100 levels deep"),
        ([10**5_000], "an integer of"),
        ({"a": Unreadable()}, "an Unreadable, which cannot be read"),
        ({"a": "kept", "b": Unreadable()}, "kept"),
    ],
)
async def test_what_cannot_be_written_is_left_out_with_a_note(tmp_path: Path, value: Any, note: str) -> None:
    async with Journal(tmp_path / "w.jsonl") as journal:
        journal.record(RunStarted("r", "n", "josh", 1, {"v": value}, "0", 1.0))
        journal.record(numbered(1))
        await journal.commit()
    first, second = (tmp_path / "w.jsonl").read_bytes().splitlines()
    assert note in orjson.dumps(orjson.loads(first)["config"]).decode()
    assert orjson.loads(second)["e"] == type(numbered(1)).__name__


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\0b"])
def test_names_that_are_no_file_names(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a run or a worker"):
        store.journal("r1", name)
