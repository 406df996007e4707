"""The loader around its rounds: turns between loaders, databases that do not fit, pauses, and what is said."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import anyio
import duckdb
import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.errors import StoreBusy, StoreError, StoreUnreadable
from simkit.store import Loader, LoadReport, keep_loaded
from simkit.store.damage import FILE, BadLine, DamageFile, describe
from simkit.store.database import loading_error, stored_format
from simkit.store.source import DiskSource, JournalSource

LINES = numbered([run_started(), *josh_episode().events, run_finished()])
COUNT = len(LINES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loaded database, because one is copied faster than made."""
    folder = tmp_path_factory.mktemp("made")
    write_lines(folder, LINES)
    Loader(folder).load()
    return folder


@pytest.fixture
def folder(tmp_path: Path, made: Path) -> Path:
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def path(folder: Path) -> Path:
    return folder / "journals" / "r1" / "w0.jsonl"


def asked(database: Path, question: str) -> list[tuple[object, ...]]:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.execute(question).fetchall()


def spoiled(folder: Path, *statements: str) -> None:
    with duckdb.connect(folder / "simkit.duckdb") as connection:
        for statement in statements:
            connection.execute(statement)


def test_files_have_their_places_unless_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    loader = Loader(tmp_path / "store")
    assert loader.load() == LoadReport()
    assert {each.name for each in (tmp_path / "store").iterdir()} == {"simkit.duckdb", ".loading"}
    assert loader.database.stat().st_mode & 0o777 == loader.lock.stat().st_mode & 0o777 == 0o600
    other = Loader(tmp_path / "store", database=tmp_path / "other.duckdb", lock=tmp_path / "lock")
    assert other.load() == LoadReport()
    assert (tmp_path / "other.duckdb").exists()
    assert (tmp_path / "lock").exists()


def test_the_log_of_a_new_database_is_private(tmp_path: Path) -> None:
    write_lines(tmp_path, LINES)
    seen: list[int] = []

    def source(journal: Path) -> JournalSource:
        seen.append((tmp_path / "simkit.duckdb.wal").stat().st_mode & 0o777)
        return DiskSource(journal)

    before = os.umask(0o022)
    try:
        Loader(tmp_path, source=source).load()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_a_report_says_what_is_damaged_until_it_is_acknowledged(folder: Path) -> None:
    assert Loader(folder).load().warnings == ()
    write_lines(folder, [b"junk\n"])
    first = Loader(folder).load()
    assert first.damaged == first.unreadable != ()
    again = Loader(folder).load()
    assert (again.damaged, again.unreadable) == (first.damaged, ())
    assert again.warnings == (describe(first.damaged),)
    assert LoadReport(notes=("note",), damaged=first.damaged).warnings == ("note", describe(first.damaged))
    Loader(folder).acknowledge(first.damaged)
    assert Loader(folder).load() == LoadReport()


def test_a_deletion_that_was_begun_is_finished_and_its_files_go_with_the_store_s_own_database(
    folder: Path, tmp_path: Path
) -> None:
    (folder / ".pruned").mkdir()
    path(folder).parent.rename(folder / ".pruned" / "r1")
    other = Loader(folder, database=tmp_path / "other.duckdb", lock=tmp_path / "lock")
    shutil.copy(folder / "simkit.duckdb", other.database)
    assert other.load() == LoadReport()
    assert asked(other.database, "SELECT count(*) FROM episodes") == [(0,)]
    assert (folder / ".pruned" / "r1").exists()
    assert Loader(folder).load() == LoadReport()
    assert asked(folder / "simkit.duckdb", "SELECT count(*) FROM episodes") == [(0,)]
    assert not (folder / ".pruned").exists()


def test_a_new_database_alone_is_filled_from_packs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted: list[tuple[object, ...]] = []

    def adopt(connection: object, *given: object) -> None:
        adopted.append(given)

    monkeypatch.setattr("simkit.store.packs.adopt_packs", adopt)
    other = Loader(folder, database=tmp_path / "other.duckdb", lock=tmp_path / "lock", runs=["r1"], source=DiskSource)
    other.load()
    other.database.unlink()
    (folder / "packed").mkdir()
    Loader(folder).load()
    assert adopted == []
    other.load()
    assert adopted == [(folder, ["r1"], DiskSource)]
    other.load()
    assert len(adopted) == 1


def test_what_changes_the_store_begins_with_everything_loaded_and_is_alone(folder: Path) -> None:
    write_lines(folder, numbered([run_started(attempt=1)], first=COUNT))
    with Loader(folder).writing() as connection:
        assert connection.execute("SELECT lines FROM journals").fetchall() == [(COUNT + 1,)]
        with pytest.raises(StoreBusy, match="another process is loading"):
            Loader(folder).load()
    for error, words in ((OSError("no space"), "cannot be changed: no space"), (duckdb.Error("odd"), "odd")):
        with pytest.raises(StoreError, match=words), Loader(folder).writing():
            raise error


def test_space_is_given_back_while_nobody_else_holds_the_store_and_nothing_depends_on_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[Path] = []
    loader = Loader(folder)
    monkeypatch.setattr("simkit.store.loader.compact", asked_for.append)
    loader.compact()
    assert asked_for == [loader.database]
    with loader.writing():
        loader.compact()
    assert len(asked_for) == 1
    for error in (StoreBusy("held"), OSError("full"), duckdb.Error("odd")):

        def fails(database: Path, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("simkit.store.loader.compact", fails)
        loader.compact()


def test_one_loader_at_a_time(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    inside: list[str] = []

    def source(journal: Path) -> object:
        with pytest.raises(StoreBusy) as found:
            Loader(folder).load()
        inside.append(str(found.value))
        raise FileNotFoundError

    write_lines(folder, LINES[:1])
    Loader(folder, source=source).load()  # pyright: ignore[reportArgumentType]
    assert inside == [f"another process is loading {folder} right now"]
    assert len(os.listdir("/proc/self/fd")) == before
    assert Loader(folder).load().unreadable[0].kind == "duplicate"


def test_a_store_that_cannot_be_used_is_named_with_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the store .*nowhere cannot be loaded: .*No such file.*\. Check"):
        Loader(tmp_path / "nowhere").load()


def test_an_acknowledgement_that_cannot_be_kept_is_an_error(folder: Path) -> None:
    (folder / FILE).mkdir()
    bad = BadLine(path(folder), 9, 2, "reason", "lost", None, 1, 7)
    with pytest.raises(StoreError) as found:
        Loader(folder).acknowledge([bad])
    assert str(found.value) == f"{folder / FILE} cannot be written: {os.strerror(errno.EISDIR)}"


def test_a_database_is_moved_aside_and_made_again_when_it_turned_out_to_be_damaged(folder: Path) -> None:
    database = folder / "simkit.duckdb"
    spoiled(folder, "DELETE FROM branches")
    report = Loader(folder).renew()
    assert report.lines == COUNT
    assert report.notes == (
        f"{database} was damaged (a question met damage in it): it was made again from the journals; "
        "the old file is simkit.duckdb.damaged-1",
    )
    assert asked(database, "SELECT count(*) FROM branches") == [(5,)]
    assert asked(folder / "simkit.duckdb.damaged-1", "SELECT count(*) FROM branches") == [(0,)]
    database.unlink()
    assert Loader(folder).renew().notes == ()


def test_a_file_that_is_no_database_is_moved_aside(folder: Path) -> None:
    database = folder / "simkit.duckdb"
    database.write_bytes(b"no database" * 1_000)
    report = Loader(folder).load()
    assert report.lines == COUNT
    (note,) = report.notes
    assert "The file" in note
    assert "not a valid DuckDB database file" in note
    assert "\n" not in note
    assert "the old file is simkit.duckdb.damaged-1" in note
    assert asked(database, "SELECT count(*) FROM branches") == [(5,)]
    assert database.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("times", [1, 2])
def test_damage_that_is_met_while_loading_leads_to_one_new_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    write_lines(folder, numbered([run_started(attempt=1)], first=COUNT))
    left = [duckdb.SerializationException("Serialization Error: here\nand more")] * times

    def met(work: object, runs: Sequence[str] | None = None) -> bool:
        if left:
            raise left.pop()
        return True

    monkeypatch.setattr("simkit.store.loader.load_all", met)
    if times == 2:
        with pytest.raises(StoreUnreadable, match=r"is damaged: Serialization Error: here\. Delete it"):
            Loader(folder).load()
        return
    (note,) = Loader(folder).load().notes
    assert "was damaged (Serialization Error: here): it was made again" in note


def test_an_error_that_is_no_damage_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(work: object, runs: Sequence[str] | None = None) -> bool:
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    monkeypatch.setattr("simkit.store.loader.load_all", full)
    with pytest.raises(StoreError, match=r"No space left on device\. The journals hold everything; free some space"):
        Loader(folder).load()
    assert not list(folder.glob("*.damaged-*"))


OLDER = "UPDATE store_format SET format = 'older'"


@pytest.mark.parametrize("more", [0, 1])
def test_a_database_of_another_version_is_replaced_when_its_journals_are_all_there(folder: Path, more: int) -> None:
    spoiled(folder, OLDER, "DELETE FROM branches")
    write_lines(folder, numbered([run_started(attempt=1)] * more, first=COUNT))
    report = Loader(folder).load()
    assert (report.lines, report.notes, report.unreadable) == (COUNT + more, (), ())
    assert not list(folder.glob("*.damaged-*"))
    assert asked(folder / "simkit.duckdb", "SELECT count(*) FROM branches") == [(5,)]


@pytest.mark.parametrize("left", [0, 4, None])
def test_a_database_of_another_version_is_kept_when_a_journal_is_not_all_there(folder: Path, left: int | None) -> None:
    size = sum(map(len, LINES))
    there = sum(map(len, LINES[:left])) if left is not None else 0
    spoiled(folder, OLDER)
    if left is None:
        path(folder).unlink()
    else:
        path(folder).write_bytes(b"".join(LINES[:left]))
    report = Loader(folder).load()
    (note,) = report.notes
    assert note == (
        f"{folder / 'simkit.duckdb'} was made by another version of simkit and 1 journals that it was made from are "
        "gone or shorter than they were: it was kept as simkit.duckdb.damaged-1, and a new one made from what is there"
    )
    (one,) = DamageFile(folder).found()
    assert (one.kind, one.byte, one.line, one.lines) == ("gone" if left is None else "shortened", there, 1, COUNT)
    assert (one.checksum, one.sequence) == (size, None)
    assert one.reason == f"{size - there} bytes of it that an earlier database had are missing"
    assert report.unreadable == (one,)
    assert asked(folder / "simkit.duckdb.damaged-1", "SELECT count(*) FROM branches") == [(5,)]
    path(folder).write_bytes(b"".join(LINES))  # put back
    assert Loader(folder).load().damaged == (() if left is None else (one,))


def test_damage_that_is_met_while_a_database_is_recognised_leads_to_a_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [duckdb.SerializationException("Serialization Error: here\nand more")]

    def met(connection: duckdb.DuckDBPyConnection) -> str | None:
        if left:
            raise StoreUnreadable("words") from left.pop()
        return stored_format(connection)

    monkeypatch.setattr("simkit.store.loader.stored_format", met)
    report = Loader(folder).load()
    assert report.lines == COUNT
    (note,) = report.notes
    assert "was damaged (Serialization Error: here): it was made again" in note


def test_a_database_that_is_not_ours_is_left_alone(folder: Path) -> None:
    spoiled(folder, OLDER, "DROP TABLE journals CASCADE")
    with pytest.raises(StoreUnreadable) as found:
        Loader(folder).load()
    assert str(found.value) == (
        f"{folder / 'simkit.duckdb'} was not made by simkit; move it away, the store makes its own"
    )
    assert asked(folder / "simkit.duckdb", "SELECT count(*) FROM branches") == [(5,)]


class Clock:
    """Time that passes only while a round is loaded and while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []


class Timed(Loader):
    """Takes so many seconds for each round."""

    def __init__(self, folder: Path, clock: Clock, *seconds: float) -> None:
        super().__init__(folder)
        self.clock = clock
        self.left = list(seconds)
        self.asked: list[float | None] = []

    def load(self, seconds: float | None = None) -> LoadReport:
        self.asked.append(seconds)
        self.clock.now += self.left.pop(0)
        if len(self.left) == 1:
            raise StoreBusy("held")
        return LoadReport()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_round_that_took_long_is_followed_by_a_longer_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    clock = Clock()
    done = anyio.Event()

    async def sleep(seconds: float) -> None:
        clock.sleeps.append(seconds)
        if len(clock.sleeps) == 5:
            done.set()
            await anyio.Event().wait()

    loader = Timed(tmp_path, clock, 0.0, 1.0, 0.1, 0.5)
    monkeypatch.setattr("simkit.store.loader.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("simkit.store.loader.anyio.sleep", sleep)
    async with anyio.create_task_group() as group:
        group.start_soon(keep_loaded, loader)
        await done.wait()
        group.cancel_scope.cancel()
    assert clock.sleeps == pytest.approx([2.0, 2.0, 9.0, 2.0, 4.5])
    assert loader.asked == [2.0] * 4


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_there_is_no_round_while_the_loader_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    clock = Clock()
    done = anyio.Event()

    async def sleep(seconds: float) -> None:
        clock.sleeps.append(seconds)
        if len(clock.sleeps) == 6:
            done.set()
            await anyio.Event().wait()

    loader = Timed(tmp_path, clock, 0.0, 1.0, 0.1, 0.5)
    monkeypatch.setattr("simkit.store.loader.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("simkit.store.loader.anyio.sleep", sleep)
    rests = [False, True, True, False, False]
    async with anyio.create_task_group() as group:
        group.start_soon(keep_loaded, loader, 2.0, lambda: rests.pop(0))
        await done.wait()
        group.cancel_scope.cancel()
    assert len(loader.asked) == 3
    assert clock.sleeps == pytest.approx([2.0, 2.0, 2.0, 2.0, 9.0, 2.0])


def test_a_missing_column_is_not_reported_as_a_full_disk() -> None:
    for kind in (duckdb.BinderException, duckdb.CatalogException):
        said = str(loading_error(Path("simkit.duckdb"), kind("no such column")))
        assert "needs a column of its name in simkit/store/schema.sql" in said
        assert "free some space" not in said


def test_each_round_reads_the_notes_of_the_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def load_notes(connection: object, store: Path) -> None:
        read.append(store)

    monkeypatch.setattr("simkit.store.loader.load_notes", load_notes)
    Loader(folder).load()
    Loader(folder).load()
    assert read == [folder, folder]
