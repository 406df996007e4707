"""The viewer's replica: follows a store that it neither locks nor writes, and drops copies that it cannot trust."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest

from simkit.errors import UsageError
from simkit.store import Store, live_replica
from simkit.store.live_replica import LiveReplica
from simkit.store.loader import Loader, LoadReport
from simkit.viewing.api import answer
from support.held_database import held


def counts(replica: LiveReplica) -> tuple[int, int]:
    """Runs and finished episodes that a reader sees."""
    with replica.reading() as reader:
        (row,) = reader.query("select (select count(*) from runs), (select count(finished_at) from episodes)").rows
    return row


def half(store: Path) -> dict[Path, bytes]:
    """Cut the journals in half, without a database; returns the rests."""
    rests: dict[Path, bytes] = {}
    for journal in store.rglob("*.jsonl"):
        lines = journal.read_bytes().splitlines(keepends=True)
        rests[journal] = b"".join(lines[len(lines) // 2 :])
        journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    (store / "simkit.duckdb").unlink()
    return rests


def files(store: Path) -> dict[str, tuple[int, int, int]]:
    """Everything in a store that a write would change."""
    found = {str(path): path.lstat() for path in (store, *store.rglob("*"))}
    return {name: (status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found.items()}


def test_it_sees_what_is_appended_and_leaves_the_store_alone(store: Path) -> None:
    rests = half(store)
    before = files(store)
    with LiveReplica(store) as replica:
        assert not replica.copied
        runs, few = counts(replica)
        assert files(store) == before
        assert not replica.refresh().lines
        for journal, rest in rests.items():
            with journal.open("ab") as file:
                file.write(rest)
        with replica.reading() as reader:
            replica.refresh()
            assert reader.query("select count(finished_at) from episodes").rows == [(few,)]  # as when it began
        assert counts(replica) == (runs, 30)
        assert few < 30
        assert not (store / "simkit.duckdb").exists()


def test_a_round_ends_while_a_run_goes_on_writing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rests = half(store)
    monkeypatch.setattr(live_replica, "ROUND", 0.0)
    with LiveReplica(store) as replica:
        for journal, rest in rests.items():
            with journal.open("ab") as file:
                file.write(rest)
        assert not replica.refresh().finished
        with replica.reading() as reader:
            assert answer(reader, "/api/version")["notes"] == []  # the next round loads the rest
        for _ in rests:
            replica.refresh()
        assert counts(replica) == (3, 30)
        assert replica.refresh().lines == 0


@pytest.mark.parametrize(("size", "copied", "seconds"), [(3_000_000, False, 5), (10**9, False, 60), (10**9, True, 2)])
def test_the_first_round_loads_what_there_is_and_not_what_is_written_meanwhile(
    store: Path, monkeypatch: pytest.MonkeyPatch, size: int, copied: bool, seconds: float
) -> None:
    bounds: list[float | None] = []
    load = Loader.load

    def noted(loader: Loader, bound: float | None = None) -> LoadReport:
        bounds.append(bound)
        return load(loader, bound)

    monkeypatch.setattr(Loader, "load", noted)

    def sizes(folder: Path) -> dict[str, int]:
        return {"a/main.jsonl": size}

    monkeypatch.setattr(live_replica, "journal_sizes", sizes)
    if not copied:
        (store / "simkit.duckdb").unlink()
    with LiveReplica(store) as replica:
        assert replica.copied == copied
        monkeypatch.undo()
        monkeypatch.setattr(Loader, "load", noted)
        replica.refresh()
    assert bounds == [seconds, live_replica.ROUND]


def test_the_database_is_copied_while_another_process_holds_it(store: Path) -> None:
    with held(store / "simkit.duckdb", read_only=False), LiveReplica(store) as replica:
        assert replica.copied
        assert counts(replica) == (3, 30)


def test_a_read_only_store_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(store)
    for path in (store, *store.rglob("*")):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        with LiveReplica(store) as replica:
            assert counts(replica) == (3, 30)
    finally:
        for path in (store, *store.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
    assert files(store) == before


def test_compressed_journals_and_packs_are_read(store: Path) -> None:
    whole = Store(store)
    whole.pack([run.run_id for run in whole.runs() if run.name == "before"])
    assert list(store.rglob("*.zst"))
    with LiveReplica(store) as replica, replica.reading() as reader:
        assert replica.copied
        packed = reader.query("select count(*) from messages m join episodes using (episode_id)").rows
    with whole.reading() as reader:
        assert reader.query("select count(*) from messages m join episodes using (episode_id)").rows == packed


def test_a_run_whose_pack_goes_away_is_read_from_its_journal(store: Path) -> None:
    whole = Store(store)
    whole.pack([run.run_id for run in whole.runs()])
    query = "select count(*) from messages"
    with LiveReplica(store) as replica:
        with replica.reading() as reader:
            messages = reader.query(query).rows
        shutil.rmtree(store / "packed")
        replica.refresh()
        with replica.reading() as reader:
            assert reader.query(query).rows == messages != [(0,)]


def test_a_database_of_another_version_is_not_copied(store: Path) -> None:
    with Store(store).loader.writing() as database:
        database.execute("update store_format set format = 'older'")
    with LiveReplica(store) as replica:
        assert not replica.copied
        assert counts(replica) == (3, 30)


@pytest.mark.parametrize("harm", ["torn", "ahead", "other journals", "no database"])
def test_a_copy_that_cannot_be_trusted_is_dropped(store: Path, harm: str) -> None:
    database = store / "simkit.duckdb"
    if harm == "torn":
        data = bytearray(database.read_bytes())
        data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
        database.write_bytes(data)
    elif harm == "ahead":
        with duckdb.connect(database) as connection:
            connection.execute("update journals set loaded = loaded + 1000")
    elif harm == "other journals":
        with duckdb.connect(database) as connection:
            connection.execute("update journals set ending = ending + 1")
    else:
        database.write_bytes(b"this is no database")
    with LiveReplica(store) as replica:
        assert not replica.copied
        assert counts(replica) == (3, 30)


def test_a_database_that_changes_while_it_is_copied_is_not_trusted(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []

    def written(source: Path, target: Path) -> None:
        copies.append(target)
        shutil.copyfile(source, target)
        (store / "simkit.duckdb").touch()

    monkeypatch.setattr(live_replica, "copy_file", written)
    with LiveReplica(store) as replica:
        assert not replica.copied
        assert counts(replica) == (3, 30)
    assert len(copies) == live_replica.ATTEMPTS


def test_a_deleted_run_goes(store: Path) -> None:
    whole = Store(store)
    gone = whole.resolve("before").run_id
    with LiveReplica(store) as replica:
        whole.prune([gone])
        replica.refresh()
        assert counts(replica) == (2, 18)
        assert not replica.state.damaged


def test_what_a_deleted_store_held_stays(store: Path) -> None:
    with LiveReplica(store) as replica:
        shutil.rmtree(store)
        assert replica.refresh().notes == (f"the store {store} is gone; this is what it held",)
        assert counts(replica) == (3, 30)


def test_a_store_without_runs_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with LiveReplica(tmp_path / "empty") as replica:
        assert counts(replica) == (0, 0)
        replica.refresh()


def test_a_damaged_private_database_is_made_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simkit.errors import StoreUnreadable

    rests = half(store)
    with LiveReplica(store) as replica:
        loader = replica._loader  # pyright: ignore[reportPrivateUsage]
        assert loader is not None
        real, failures = loader.load, iter([True])

        def load(seconds: float | None = None) -> object:
            if next(failures, False):
                raise StoreUnreadable("the disk has forgotten it")
            return real(seconds)

        monkeypatch.setattr(loader, "load", load)
        for journal, rest in rests.items():
            with journal.open("ab") as file:
                file.write(rest)
        replica.refresh()
        assert counts(replica) == (3, 30)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_kept_database_is_used_again_and_by_one_viewer_only(store: Path, cache: Path) -> None:
    rests = half(store)
    with LiveReplica(store, cache=cache) as replica:
        assert not replica.copied
        with pytest.raises(UsageError, match="another viewer of"), LiveReplica(store, cache=cache):
            pass
    (folder,) = cache.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "simkit.duckdb").stat().st_mode & 0o777 == 0o600
    for journal, rest in rests.items():
        with journal.open("ab") as file:
            file.write(rest)
    with LiveReplica(store, cache=cache) as replica:
        assert replica.copied
        assert counts(replica) == (3, 30)


def test_the_private_folder_is_removed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with LiveReplica(store):
        assert list((tmp_path / "tmp").iterdir())
    assert not list((tmp_path / "tmp").iterdir())
