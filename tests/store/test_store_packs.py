"""Packed runs answer as before, and are deleted as others are; a power cut at any step loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.core.events import Event
from simkit.errors import StoreBusy, StoreIncomplete, UsageError
from simkit.store import Store
from simkit.store.archive import archive_of
from simkit.store.journal import DiskFile
from simkit.store.source import file_of
from simkit.store.tables import OWNERS, PACKED, RECORDED
from support.held_database import held

RUNS = ("a", "b'c", "d")
ANSWERS = (
    *RECORDED,
    "toolsets",
    "journals",
    "unreadable_lines",
    "run_summary",
    "harvest_counts",
    "kto_examples",
    "units",
)


def run(name: str, *, tasks: int = 2) -> list[Event]:
    episodes = [event for task in range(tasks) for event in josh_episode(name, f"MUL{task}").events]
    return [run_started(name, name=f"name of {name}"), *episodes, run_finished(name)]


def fill(folder: Path) -> Store:
    store = Store(folder, patience=0.0)
    for name in RUNS:
        write_lines(store.path, numbered(run(name), run=name), name)
    store.load()
    return store


def unwritable(_store: Store) -> bool:
    return False


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("made")).path


@pytest.fixture
def several(made: Path, tmp_path: Path) -> Store:
    shutil.copytree(made, tmp_path / "several")
    return Store(tmp_path / "several", patience=0.0)


def answers(
    store: Store, runs: Sequence[str] = RUNS, names: Sequence[str] = ANSWERS
) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the store says about some runs."""
    keys = {**OWNERS, "toolsets": "toolset_id"}
    found: dict[str, list[tuple[Any, ...]]] = {}
    with store.reading() as reader:
        for name in names:
            of = f"list_contains($runs, split_part({keys.get(name, 'run_id')}, '/', 1))"
            chosen = f"FROM {name}" if name == "toolsets" else f"FROM {name} WHERE {of}"
            given = None if name == "toolsets" else {"runs": list(runs)}
            found[name] = reader.query(f"{chosen} ORDER BY ALL", given).rows
    return found


def journal(store: Store, name: str) -> Path:
    return store.path / "journals" / name / "w0.jsonl"


# --- pack -------------------------------------------------------------------------------------------------------------


def test_a_packed_store_answers_as_before(several: Store) -> None:
    before = answers(several)
    done = several.pack()
    assert [each.run_id for each in done] == list(RUNS)
    assert all(each.after.journals < each.before.journals for each in done)
    assert answers(several) == before
    assert several.load().lines == 0
    with duckdb.connect(several.database, read_only=True) as own:
        assert [own.execute(f"SELECT count(*) FROM {table}").fetchone() for table in PACKED] == [(0,)] * len(PACKED)
    assert several.pack() == ()


def test_answers_about_one_packed_run_come_from_its_files_alone(several: Store) -> None:
    several.pack()
    with several.reading() as reader, reader.scoped(["a"]) as own:
        shutil.rmtree(several.path / "packed" / "d")
        assert own.query("SELECT count(*) FROM messages JOIN episodes USING (episode_id)").rows == [(24,)]
        assert (
            own.query("SELECT sft_examples FROM harvest_counts").rows == [(2,)] or own.query("FROM kto_examples").rows
        )


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_the_database_is_made_again_if_a_pack_cannot_be_read(several: Store, harm: str) -> None:
    question = "select count(*) from messages"
    before = several.query(question).rows
    several.pack()
    file = next((several.path / "packed").rglob("messages.parquet"))
    file.unlink() if harm == "missing" else file.write_bytes(b"PAR1 no more")
    assert Store(several.path).query(question).rows == before
    assert several.database.with_name(f"{several.database.name}.damaged-1").exists()


def test_a_transcript_and_a_tree_of_a_packed_run(several: Store) -> None:
    branch = "b'c/MUL0/0/LR.2"
    before = several.transcript(branch), several.tree("b'c", "MUL0")
    several.pack(["b'c"])
    assert (several.transcript(branch), several.tree("b'c", "MUL0")) == before


def test_only_the_named_runs_are_packed_and_others_go_on(several: Store) -> None:
    several.pack(["name of d"])
    assert several.query("SELECT run_id FROM packed_runs").rows == [("d",)]
    assert journal(several, "a").exists()
    write_lines(several.path, numbered(run("new"), run="new"), "new")
    assert several.query("SELECT count(DISTINCT run_id) FROM episodes").rows == [(4,)]


def test_a_new_database_takes_the_rows_of_packs(several: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(several)
    several.pack()
    several.database.unlink()
    assert several.load().lines == 0
    assert answers(several) == before
    assert several.query("SELECT count(*) FROM packed_runs").rows == [(3,)]


@pytest.mark.parametrize("harm", ["column", "manifest", "file", "journal", "longer"])
def test_a_pack_that_does_not_fit_is_made_from_the_journal_instead(several: Store, harm: str) -> None:
    before = answers(several)
    several.pack()
    place = several.path / "packed" / "a"
    match harm:
        case "column":
            text = (place / "pack.json").read_text()
            (place / "pack.json").write_text(text.replace("VARCHAR", "INTEGER", 1))
        case "manifest":
            (place / "pack.json").write_text("{")
        case "file":
            (place / "messages.parquet").write_bytes(b"PAR1")
        case "journal":
            archive_of(journal(several, "a")).unlink()
            write_lines(several.path, numbered(run("a", tasks=3), run="a"), "a")
        case _:
            DiskFile(journal(several, "a")).close()
            write_lines(several.path, [b"torn"], "a")
    several.database.unlink()
    several.load()
    tasks = 3 if harm == "journal" else 2
    assert several.query("SELECT count(*) FROM episodes WHERE run_id = 'a'").rows == [(tasks,)]
    if harm in ("column", "manifest", "file"):
        assert answers(several) == before
        assert several.query("SELECT run_id FROM packed_runs ORDER BY ALL").rows == [("b'c",), ("d",)]


def test_a_packed_run_that_goes_on_is_unpacked(several: Store) -> None:
    several.pack()
    file = DiskFile(journal(several, "a"))
    more = numbered([run_started("a", attempt=1), *josh_episode("a", "MUL7").events], run="a", first=len(run("a")))
    file.append(b"".join(more))
    file.close()
    assert several.query("SELECT status FROM runs WHERE run_id = 'a'").rows == [("running",)]
    assert several.query("SELECT count(*) FROM episodes WHERE run_id = 'a'").rows == [(3,)]
    assert several.query("SELECT run_id FROM packed_runs ORDER BY ALL").rows == [("b'c",), ("d",)]
    assert several.query("SELECT count(*) FROM messages WHERE episode_id LIKE 'a/%'").rows == [(36,)]


def test_a_run_that_has_not_ended_is_not_packed(store: Store) -> None:
    lines = numbered(run("a"), run="a")
    write_lines(store.path, lines[:-1], "a")
    assert store.pack() == ()
    with pytest.raises(UsageError, match=r"has not come to its end.*simkit resume a"):
        store.pack(["a"])
    file = DiskFile(journal(store, "a"))
    with pytest.raises(UsageError, match=r"is still running.*wait for it"):
        store.pack(["a"])
    file.append(lines[-1])
    with pytest.raises(StoreBusy, match="a process is playing the run a"):
        Store(store.path, patience=0.0).pack(["a"])
    file.close()
    assert len(store.pack(["a"])) == 1


def test_a_run_without_its_journal_is_not_packed(several: Store) -> None:
    shutil.rmtree(several.path / "journals" / "a")
    with pytest.raises(UsageError, match="its rows are in the database alone"):
        several.pack(["a"])
    assert several.query("SELECT count(*) FROM episodes WHERE run_id = 'a'").rows == [(2,)]


def test_a_store_held_by_another_process_is_neither_packed_nor_pruned(several: Store) -> None:
    before = answers(several)
    with held(several.database, read_only=True):
        for change in (lambda: several.pack(["a"]), lambda: several.prune(["a"])):
            with pytest.raises(StoreBusy, match="holds"):
                change()
        assert answers(several) == before
    assert answers(several) == before


def test_a_packed_store_that_is_held_answers_from_a_replica(several: Store) -> None:
    before = answers(several)
    several.pack()
    with held(several.database, read_only=True):
        with several.reading() as reader:
            assert reader.state.source in ("database", "replica")
        assert answers(several) == before


def test_a_read_only_store_is_not_changed(several: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    several.pack(["a"])
    monkeypatch.setattr(Store, "writable", unwritable)
    assert several.query("SELECT count(*) FROM messages").rows == [(72,)]
    for change in (several.pack, lambda: several.prune(["a"])):
        with pytest.raises(UsageError, match="read-only"):
            change()


@pytest.mark.parametrize("option", ["", ", USE_TMP_FILE false"])
def test_no_query_writes_the_files_of_packs(several: Store, option: str) -> None:
    several.pack()
    file = several.path / "packed" / "a" / "messages.parquet"
    data = file.read_bytes()
    for sql in (
        f"COPY (SELECT 1) TO '{file}' (FORMAT parquet{option})",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}' (FORMAT parquet{option})",
        f"SELECT 1; copy\n(SELECT 1)\nto '{file}' (FORMAT parquet{option})",
        f"PREPARE x AS COPY (SELECT 1) TO '{file}' (FORMAT parquet{option})",
        f"FROM read_csv('{several.path}/.starts')",
        f"FROM read_parquet('{several.path}/packed/*/messages.parquet')",
    ):
        with pytest.raises(UsageError):
            several.query(sql)
    assert file.read_bytes() == data
    assert several.query("SELECT min(copy) FROM sft_candidates -- copy to nothing").rows == [(1,)]


def test_names_of_runs_that_leave_the_store_are_not_followed(several: Store, tmp_path: Path) -> None:
    several.pack(["a"])
    with duckdb.connect(several.database) as connection:
        connection.execute("INSERT INTO packed_runs VALUES ('../x', ['messages']), ('d', ['../messages'])")
    assert several.query("SELECT count(*) FROM messages").rows == [(72,)]


# --- prune ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_pruned_run_is_gone_with_everything_of_it(several: Store, packed: bool) -> None:
    with journal(several, "a").open("ab") as file:
        file.write(b"junk\n")
    several.load()
    journal(several, "a").write_bytes(journal(several, "a").read_bytes()[:-400])
    several.load()
    assert {bad.kind for bad in several.damage("a")} >= {"shortened"}
    if packed:
        several.pack(["d"])
    results, models = several.path / "a", several.path / "models" / "a"
    for folder in (results, models):
        folder.mkdir(parents=True)
        (folder / "file").write_text("text")
    others = answers(several, RUNS[1:])
    found = several.prune(["a"])
    assert [(each.run_id, each.results, each.models) for each in found] == [("a", 4, 4)]
    assert answers(several, RUNS[1:]) == others
    for table, key in OWNERS.items():
        rows = several.query(f"SELECT count(*) FROM {table} WHERE split_part({key}, '/', 1) = 'a'").rows
        assert rows == [(0,)], table
    paths = [path.relative_to(several.path) for path in several.path.rglob("*")]
    left = {str(path) for path in paths if "a" in path.parts}
    assert left == {"models/a", "models/a/file"}
    report = several.load()
    assert (report.lines, report.damaged, several.damage()) == (0, (), ())
    several.database.unlink()
    assert answers(several, RUNS[1:])["episodes"] == others["episodes"]
    with pytest.raises(UsageError, match="there is no run 'a'"):
        several.prune(["a"])


def test_models_go_when_that_is_wanted(several: Store) -> None:
    (several.path / "models" / "a").mkdir(parents=True)
    (several.path / "models" / "b").mkdir()
    several.prune(["a"], models=True)
    assert os.listdir(several.path / "models") == ["b"]


def test_the_stages_of_a_run_go_with_it(several: Store) -> None:
    stage = run("a~round1")
    start = run_started("a~round1")
    object.__setattr__(start, "config", {"part_of": "a", "stage": "round1"})
    write_lines(several.path, numbered([start, *stage[1:]], run="a~round1"), "a~round1")
    assert [each.run_id for each in several.prune(["a"])] == ["a", "a~round1"]
    assert several.query("SELECT run_id FROM runs ORDER BY ALL").rows == [("b'c",), ("d",)]


def test_tools_stay_as_long_as_a_run_has_them(several: Store) -> None:
    several.prune(["a", "d"])
    assert several.query("SELECT count(*) FROM toolsets").rows == [(1,)]
    several.prune(["b'c"])
    assert several.query("SELECT count(*) FROM toolsets").rows == [(0,)]
    assert several.query("SELECT count(*) FROM runs").rows == [(0,)]


def test_of_several_runs_of_a_name_the_newest_goes(several: Store) -> None:
    write_lines(several.path, numbered([run_started("e", name="name of a", at=9e5)], run="e"), "e")
    several.prune(["name of a"])
    assert several.query("SELECT run_id FROM runs ORDER BY ALL").rows == [("a",), ("b'c",), ("d",)]


def test_a_run_that_is_played_is_not_pruned(several: Store) -> None:
    lines = numbered(run("e"), run="e")
    write_lines(several.path, lines[:-1], "e")
    file = DiskFile(journal(several, "e"))
    with pytest.raises(UsageError, match="is still running; stop it first"):
        several.prune(["a", "e"])
    file.append(lines[-1])
    with pytest.raises(StoreBusy, match="a process is playing the run e"):
        several.prune(["e"])
    file.close()
    assert several.query("SELECT count(*) FROM runs").rows == [(4,)]
    assert len(several.prune(["e"])) == 1


def test_a_run_whose_journal_is_gone_can_be_pruned(several: Store) -> None:
    shutil.rmtree(several.path / "journals" / "a")
    assert [bad.kind for bad in several.load().damaged] == ["gone"]
    several.prune(["a"])
    assert several.damage() == ()
    assert several.query("SELECT count(*) FROM runs").rows == [(2,)]


def test_a_run_of_the_same_name_can_begin_while_the_old_one_is_being_deleted(several: Store) -> None:
    (several.path / ".pruned").mkdir()
    (several.path / "journals" / "a").rename(several.path / ".pruned" / "a")
    write_lines(several.path, numbered(run("a", tasks=1), run="a"), "a")
    assert several.query("SELECT count(*) FROM episodes WHERE run_id = 'a'").rows == [(1,)]
    assert not (several.path / ".pruned").exists()


# --- the command line -------------------------------------------------------------------------------------------------


def simkit(store: Store, *given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simkit", *given, "--store", str(store.path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_the_commands_say_what_they_do(several: Store) -> None:
    packed = simkit(several, "store", "pack", "a")
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout.startswith("a: ")
    assert "1 run packed" in packed.stdout
    asked = simkit(several, "store", "prune", "a")
    assert asked.returncode == 2
    assert "nothing was deleted" in asked.stderr
    assert "store prune a --yes" in asked.stderr
    assert several.query("SELECT count(*) FROM runs").rows == [(3,)]
    deleted = simkit(several, "store", "prune", "a", "--yes", "--json")
    assert '"run_id":"a"' in deleted.stdout.replace(" ", "")
    assert several.query("SELECT count(*) FROM runs").rows == [(2,)]
    scoped = simkit(several, "sql", "select distinct run_id from episodes", "--run", "d", "--format", "csv")
    assert scoped.stdout == "run_id\nd\n"


def test_incomplete_data_are_refused_in_packed_stores_too(several: Store) -> None:
    several.pack()
    data = bytearray(file_of(journal(several, "a")).read_bytes())
    data[40] ^= 0xFF
    file_of(journal(several, "a")).write_bytes(data)
    assert simkit(several, "doctor", "--verify").returncode == 1
    with several.reading() as reader, pytest.raises(StoreIncomplete, match="run a is damaged"):
        reader.require_complete(["a"], "a test")
