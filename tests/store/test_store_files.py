"""A store is private, whatever the umask; a shared one is its group's; planted links are not followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_events import josh_episode, run_started, write_journal

from simkit.core.events import Event
from simkit.data.export import replacing
from simkit.errors import JournalFailed, StoreError, UsageError
from simkit.store import Store
from simkit.store.files import exposure, is_shared
from support.forked_commands import ProcessOptions, run_forked


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["000", "022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def events() -> list[Event]:
    return [run_started("r1", "one"), *josh_episode("r1").events]


async def played(store: Store, run: str = "r1") -> None:
    async with store.journal(run) as journal:
        for event in events():
            journal.record(event)
    store.load()


def modes(folder: Path) -> set[tuple[bool, int]]:
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


@pytest.mark.anyio
async def test_all_of_a_store_is_its_owner_s(umask: int, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    await played(store)
    assert modes(store.path) == {(True, 0o700), (False, 0o600)}
    assert exposure(store.path) is None


@pytest.mark.anyio
async def test_a_shared_store_is_its_group_s_also_for_who_opens_it_later(umask: int, tmp_path: Path) -> None:
    await played(Store(tmp_path / "store", shared=True))
    await played(Store(tmp_path / "store"), "r2")
    assert modes(tmp_path / "store") == {(True, 0o2770), (False, 0o660)}
    assert is_shared(tmp_path / "store")


@pytest.mark.anyio
async def test_a_folder_that_was_there_keeps_its_mode_and_gets_private_files(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o755)
    store = Store(tmp_path / "store")
    await played(store)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o755
    assert {mode for is_folder, mode in modes(store.path) if not is_folder} == {0o600}
    told = exposure(store.path)
    assert told is not None
    assert "chmod -R go-rwx" in told


@pytest.mark.anyio
@pytest.mark.parametrize("planted", ["journals", "journals/r1", "journals/r1/main.jsonl"])
async def test_a_link_in_place_of_a_journal_is_not_written_through(planted: str, tmp_path: Path) -> None:
    store, place = Store(tmp_path / "store"), tmp_path / "store" / planted
    place.parent.mkdir(parents=True, exist_ok=True)
    target = tmp_path / "target"
    if planted.endswith(".jsonl"):
        target.write_text("precious\n")
    else:
        target.mkdir()
    place.symlink_to(target)
    with pytest.raises(JournalFailed, match="it is a link"):
        await played(store)
    assert target.is_dir() or target.read_text() == "precious\n"
    assert target.is_file() or not list(target.iterdir())


@pytest.mark.parametrize("planted", [".loading", "simkit.duckdb", "simkit.duckdb.wal"])
def test_a_link_in_place_of_a_file_of_the_store_is_not_followed(planted: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    write_journal(store.path, events())
    target = tmp_path / "target"
    (store.path / planted).symlink_to(target)
    with pytest.raises(StoreError, match="it is a link"):
        store.load()
    assert not target.exists()


def test_a_linked_run_folder_is_not_read_and_holds_up_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    write_journal(store.path, events())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "main.jsonl").write_text("secret\n")
    (store.path / "journals" / "r2").symlink_to(tmp_path / "elsewhere")
    store.load()
    assert [run.run_id for run in store.runs()] == ["r1"]
    assert "secret" not in str(store.query("FROM unreadable_lines").rows)


def test_a_link_in_place_of_an_unfinished_export_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / f".out.jsonl.{os.getpid()}.unfinished").symlink_to(target)
    with replacing(tmp_path / "out.jsonl") as unfinished:
        unfinished.write_text("rows")
    assert (tmp_path / "out.jsonl").read_text() == "rows"
    assert not target.exists()


def test_exports_follow_the_umask(umask: int, tmp_path: Path) -> None:
    with replacing(tmp_path / "out.jsonl") as unfinished:
        unfinished.write_text("rows")
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", ["a?b", "a\\b", "caf\udce9"])
def test_a_path_that_the_database_would_misread_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a store"):
        Store(tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a#b", "a%20b", "a;b", "a*b", "[a]", "-a", "a\nb", ":memory:", "s3:b", "ä" * 90]
)
def test_odd_paths_work(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / name)
    write_journal(store.path, events())
    assert len(store.runs()) == 1


@pytest.mark.parametrize("name", [":memory:", "md:x", "s3:x", "~", "-a", "file:x"])
def test_odd_relative_paths_of_stores_work(name: str, tmp_path: Path) -> None:
    done = run_forked(["run", "rollout", "--tasks", "1", "--quiet", f"--store={name}"], ProcessOptions(tmp_path))
    assert done.code == 0, done.err
    assert (tmp_path / name / "simkit.duckdb").is_file()
