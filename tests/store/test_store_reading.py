"""Answers are fresh, or say that they are not, whoever holds the database."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from store_events import Script, josh_episode, run_finished, run_started, write_journal

from simkit.core.events import UnitsNotPlayed, UnitsPlanned
from simkit.core.records import PlannedUnit, UnplayedUnit
from simkit.core.tasks import Task
from simkit.data.held_out import assert_clean_of
from simkit.data.origins import UNKNOWN
from simkit.data.selection import Selection, select, select_with_state
from simkit.errors import StoreBusy, StoreError, StoreIncomplete, UsageError
from simkit.store import LoadReport, Replica, Store
from simkit.store.journal import DiskFile
from support.held_database import held

HELD_OUT = (Task(id="T9", world="builtin", split="test", instructions="Another one.", goals=()),)
COUNT = "SELECT count(*) FROM episodes"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary folders of this test alone."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@contextmanager
def playing(journal: Path) -> Generator[None]:
    """The journal is open for writing, as that of a run that goes on."""
    file = os.open(journal, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def unwritable(_store: Store) -> bool:
    return False


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two episodes, of which the database knows one."""
    store = Store(tmp_path_factory.mktemp("half"))
    write_journal(store.path, [run_started(), *josh_episode().events])
    store.load()
    write_journal(store.path, [*josh_episode(task="MUL2", opening="Hi").events, run_finished()])
    return store.path


@pytest.fixture
def half_loaded(store: Store, half: Path) -> None:
    """Makes the store such a one."""
    shutil.copytree(half, store.path, dirs_exist_ok=True)


# --- whoever holds it -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("half_loaded")
@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_held_by_another_process_makes_no_answer_stale(
    store: Store, temporary: Path, read_only: bool
) -> None:
    before = store.database.read_bytes()
    with held(store.database, read_only=read_only):
        found = store.query("SELECT status, episodes FROM run_summary")
        assert found.rows == [("done", 2)]
        assert found.state.source == "replica"
        assert "another process, " in found.notes[0]
        assert len(select(store, "sft", Selection(runs=("r1",)))) == 2
        assert store.tree("last", "MUL2").reward == 1.0
        assert store.database.read_bytes() == before
    assert list(temporary.iterdir()) == []
    found = store.query("SELECT status, episodes FROM run_summary")
    assert (found.rows, found.state.source, found.notes) == ([("done", 2)], "database", ())


@pytest.mark.usefixtures("half_loaded")
def test_this_process_may_hold_the_database_too(store: Store) -> None:
    with duckdb.connect(store.database, read_only=True) as own:
        assert store.query(COUNT).rows == [(2,)]
        assert own.execute(COUNT).fetchall() == [(1,)]  # and is not disturbed
        with pytest.raises(StoreBusy):
            Store(store.path, patience=0).load()
    with duckdb.connect(store.database):
        assert store.query(COUNT).rows == [(2,)]


@pytest.mark.usefixtures("half_loaded")
def test_a_holder_in_this_process_keeps_its_lock_while_the_database_is_copied(store: Store) -> None:
    """POSIX drops a process's locks on a file when it closes any descriptor of it."""
    with duckdb.connect(store.database, read_only=True):
        assert store.query(COUNT).state.source == "replica"
        code = "import duckdb, sys; duckdb.connect(sys.argv[1])"
        intruder = subprocess.run(
            [sys.executable, "-c", code, str(store.database)], capture_output=True, text=True, check=False
        )
    assert "Conflicting lock" in intruder.stderr


@pytest.mark.usefixtures("half_loaded")
def test_a_holder_that_comes_between_loading_and_asking_changes_nothing(store: Store) -> None:
    with held_after_loading(store):
        found = store.query(COUNT)
    assert (found.rows, found.state.source) == ([(2,)], "replica")


@contextmanager
def held_after_loading(store: Store) -> Generator[None]:
    """As soon as the store has been loaded, another process holds its database, for writing."""
    load = store.loader.load
    with ExitStack() as holders:

        def load_and_be_held(seconds: float | None = None) -> LoadReport:
            report = load(seconds)
            holders.enter_context(held(store.database, read_only=False))
            return report

        store.loader.load = load_and_be_held
        yield


@pytest.mark.usefixtures("half_loaded")
def test_two_readers_at_once_answer_the_same(store: Store) -> None:
    with held(store.database, read_only=True), store.reading() as one, store.reading() as other:
        assert one.query(COUNT).rows == other.query(COUNT).rows == [(2,)]


@pytest.mark.usefixtures("half_loaded")
def test_all_answers_of_a_reader_are_from_one_state(store: Store) -> None:
    with store.reading() as reader:
        write_journal(store.path, josh_episode(task="MUL3").events)
        assert reader.query(COUNT).rows == [(2,)]
        with reader.reading() as same:
            assert same.query(COUNT).rows == [(2,)]
        assert [run.episodes for run in reader.runs()] == [2]
        assert store.query(COUNT).rows == [(3,)]
    assert store.query(COUNT).rows == [(3,)]


@pytest.mark.usefixtures("half_loaded")
def test_nobody_can_write_through_a_reader(store: Store) -> None:
    for read_only in (True, False):
        with held(store.database, read_only=read_only), pytest.raises(UsageError, match="read-only"):
            store.query("DELETE FROM runs")
    with pytest.raises(UsageError, match="read-only"):
        store.query("DELETE FROM runs")


# --- stores that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("half_loaded")
def test_a_store_that_cannot_be_written_is_answered_from_its_journals(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "writable", unwritable)
    found = store.query(COUNT)
    assert (found.rows, found.state.source) == ([(2,)], "replica")
    assert "is read-only" in found.notes[0]


@pytest.mark.usefixtures("half_loaded")
def test_a_store_copied_without_its_database_is_answered_from_its_journals(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(store.path / "journals", tmp_path / "copy" / "journals")
    monkeypatch.setattr(Store, "writable", unwritable)
    copied = Store(tmp_path / "copy")
    assert copied.query(COUNT).rows == [(2,)]
    assert not copied.database.exists()


@pytest.mark.usefixtures("half_loaded")
def test_a_store_copied_without_its_journals_answers_from_its_database(store: Store, tmp_path: Path) -> None:
    store.load()
    (tmp_path / "copy").mkdir()
    shutil.copy(store.database, tmp_path / "copy")
    found = Store(tmp_path / "copy").query(COUNT)
    assert (found.rows, found.notes) == ([(2,)], ())


@pytest.mark.usefixtures("half_loaded")
def test_an_older_version_s_database_is_rebuilt_from_the_journals(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with duckdb.connect(store.database) as connection:
        connection.execute("UPDATE store_format SET format = 'older'")
    monkeypatch.setattr(Store, "writable", unwritable)
    assert store.query(COUNT).rows == [(2,)]


@pytest.mark.usefixtures("half_loaded")
def test_where_no_replica_can_be_made_an_answer_says_that_it_is_stale(store: Store, temporary: Path) -> None:
    end = store.path / "journals" / "r1" / "w0.jsonl"
    with held(store.database, read_only=True):
        temporary.rmdir()
        found = store.query(COUNT, runs=("r1",))
        assert found.rows == [(1,)]
        (run,) = found.state.stale
        (journal,) = run.journals
        assert (journal.path, journal.end, journal.missing) == (
            end,
            end.stat().st_size,
            end.stat().st_size - journal.read,
        )
        assert f"the answer about run r1 is stale: {end} holds {journal.missing:,} bytes from line 16" in found.notes[0]
        with pytest.raises(StoreIncomplete, match=r"sft examples needs all .* is stale: .*--allow-incomplete"):
            select(store, "sft", Selection(runs=("r1",)))
        assert len(select(store, "sft", Selection(runs=("r1",)), allow_incomplete=True)) == 1
        with pytest.raises(StoreIncomplete, match=r"there is no run 'r2'.*is stale"):
            store.resolve("r2")
        temporary.mkdir()


@pytest.mark.usefixtures("half_loaded")
def test_another_run_makes_no_answer_stale(store: Store, temporary: Path) -> None:
    store.load()
    write_journal(store.path, [run_started("r2", "other"), *josh_episode("r2").events], run="r2")
    with held(store.database, read_only=True):
        temporary.rmdir()
        found = store.query(COUNT, runs=("r1",))
        assert (found.rows, found.notes, found.state.source) == ([(2,)], (), "database")
        assert len(select(store, "sft", Selection(runs=("r1",)))) == 2
        assert [run.run_id for run in store.query(COUNT).state.stale] == ["r2"]
        temporary.mkdir()


def test_where_there_is_neither_database_nor_replica_the_reason_is_told(
    store: Store, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(store.path, [run_started()])
    monkeypatch.setattr(Store, "writable", unwritable)
    temporary.rmdir()
    with pytest.raises(StoreError, match=r"no private copy of the store can be made.*TMPDIR"):
        store.query(COUNT)


# --- runs that go on --------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_is_answered_up_to_the_state_read(store: Store) -> None:
    script = Script(task="MUL2")
    script.open()
    journal = write_journal(store.path, [run_started(), *josh_episode().events, *script.events])
    with playing(journal):
        found = store.query(COUNT)
    (run,) = found.state.running
    assert run.lines == len(journal.read_bytes().splitlines())
    assert found.notes == (f"run r1 is still running: read up to line {run.lines}, 1 of 2 episodes finished",)


def test_progress_is_of_what_was_planned(store: Store) -> None:
    journal = write_journal(store.path, [run_started(), planned(), *josh_episode().events])
    with playing(journal):
        (note,) = store.query(COUNT).notes
    assert note.endswith("1 of 3 episodes finished")


def test_a_run_that_played_less_than_it_planned_is_told_of(store: Store) -> None:
    missed = (UnplayedUnit("MUL2", 0, "it was interrupted"), UnplayedUnit("MUL3", 0, "it was interrupted"))
    events = [run_started(), planned(), *josh_episode().events, UnitsNotPlayed("r1", 0, missed, 1500.0)]
    write_journal(store.path, [*events, replace(run_finished(), status="interrupted")])
    examples, state = select_with_state(store, "sft", Selection(runs=("r1",)), finished=True)
    assert len(examples) == 1
    assert state.complete
    assert state.notes == ()
    assert state.shortfalls == ("run r1 is interrupted: 2 of 3 planned episodes were not played",)
    assert state.to_json()["runs"][0]["not_played"] == 2


def planned() -> UnitsPlanned:
    return UnitsPlanned("r1", 0, tuple(PlannedUnit(f"MUL{number}", 0, False) for number in (1, 2, 3)), 1000.0)


def test_a_torn_last_line_is_not_missing(store: Store) -> None:
    journal = write_journal(store.path, [run_started(), *josh_episode().events])
    with journal.open("ab") as file:
        file.write(b'{"e":"RunFin')
    found = store.query(COUNT, runs=("r1",))
    assert found.state.complete
    assert found.notes == (
        "run r1 has not come to its end and no process plays it: read up to line 15, 1 of 1 episodes finished; go on "
        "with `simkit resume r1`",
    )
    assert store.query(COUNT).notes == ()  # nobody asked for it by name


def test_a_run_that_ends_while_it_is_read_was_running_and_is_not_abandoned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is gone when its lock is looked at, and its last lines came after the question."""
    write_journal(store.path, [run_started(), *josh_episode().events])

    def ended_now(journal: Path) -> bool:
        write_journal(store.path, [run_finished()])
        return False

    monkeypatch.setattr("simkit.store.reading.is_written_to", ended_now)
    (run,) = store.query(COUNT).state.unfinished
    assert run.alive


def test_a_reader_that_looks_for_a_writer_keeps_none_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is taken for a moment to look at it, which may be the one at which a run is started again."""
    journal = write_journal(store.path, [run_started()])
    looking = os.open(journal, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)

    def looked(_seconds: float) -> None:
        os.close(looking)

    with monkeypatch.context() as patched:
        patched.setattr("simkit.store.files.time.sleep", looked)
        DiskFile(journal).close()
    with playing(journal), pytest.raises(BlockingIOError):
        DiskFile(journal)


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(store: Store) -> Path:
    """Two episodes; a line of the second is no JSON."""
    write_journal(store.path, [run_started(), *josh_episode().events])
    journal = store.path / "journals" / "r1" / "w0.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"e":"BranchAdded","branch_id":oops}\n')
    write_journal(store.path, [*josh_episode(task="MUL2", opening="Hi").events, run_finished()])
    return journal


@pytest.mark.parametrize("read_only", [None, True, False])
def test_data_of_a_run_with_unreadable_lines_are_refused(store: Store, read_only: bool | None) -> None:
    journal = damaged(store)
    write_journal(store.path, [run_started("r2", "other"), *josh_episode("r2").events, run_finished("r2")], run="r2")
    store.query(COUNT)
    if read_only is None:
        check_refused(store, journal)
    else:
        with held(store.database, read_only=read_only):
            check_refused(store, journal)


def check_refused(store: Store, journal: Path) -> None:
    with pytest.raises(StoreIncomplete, match=r"w0\.jsonl, line 16 \(byte \d+\).*--allow-incomplete") as refused:
        select(store, "kto", Selection(runs=("r1",)))
    assert str(journal) in str(refused.value)
    examples = select(store, "kto", Selection(runs=("r1",)), allow_incomplete=True)
    assert len(examples) == len(select(store, "kto", Selection(runs=("r2",)))) * 2
    bare = [replace(each, origin=replace(each.origin, content=UNKNOWN)) for each in examples]  # as of a file
    looked_up = replace(examples, examples=tuple(bare))
    with pytest.raises(StoreIncomplete, match="a check for held-out tasks"):
        assert_clean_of(looked_up, HELD_OUT, store)
    with store.reading(allow_incomplete=True) as reader:
        assert_clean_of(looked_up, HELD_OUT, reader)
    assert "line 16" in store.query(COUNT, runs=("r1",)).notes[-1]
    assert not any("line 16" in note for note in store.query(COUNT, runs=("r2",)).notes)


@pytest.mark.usefixtures("half_loaded")
@pytest.mark.parametrize("mode", ["read", "write", "unwritable"])
def test_a_journal_that_is_shorter_than_it_was_is_refused_without_a_trace_in_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    store.load()
    journal = store.path / "journals" / "r1" / "w0.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:20]))
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    with ExitStack() as stack:
        if mode == "unwritable":
            monkeypatch.setattr(Store, "writable", unwritable)
        else:
            stack.enter_context(held(store.database, read_only=mode == "read"))
        found = store.query(COUNT, runs=("r1",))
        assert found.state.source == "replica"
        if mode != "write":  # where the database cannot be read, nobody knows how long the journal was
            assert "shorter" in "; ".join(found.notes) or "missing" in "; ".join(found.notes)
            with pytest.raises(StoreIncomplete, match=r"w0\.jsonl"):
                select(store, "sft", Selection(runs=("r1",)))
    assert {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("half_loaded")
def test_a_damaged_database_that_is_held_is_left_out_of_the_replica(store: Store) -> None:
    size = store.database.stat().st_size
    with held(store.database, read_only=True):
        with store.database.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"\xa5" * (size // 2))
        with Replica(store.path) as replica:
            assert replica.connection.execute(COUNT).fetchall() == [(2,)]


# --- the replica ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("half_loaded")
def test_a_replica_follows_the_journals_and_leaves_the_store_alone(store: Store, temporary: Path) -> None:
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    with Replica(store.path) as replica:
        (folder,) = temporary.glob("simkit-replica-*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert replica.copied
        assert replica.connection.execute(COUNT).fetchall() == [(2,)]
        assert {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()} == before
        connection = replica.connection
        assert replica.refresh().lines == 0
        assert replica.connection is connection
        write_journal(store.path, josh_episode(task="MUL3").events)
        assert replica.refresh().lines == 14
        assert replica.connection.execute(COUNT).fetchall() == [(3,)]
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("half_loaded")
def test_the_folder_of_a_replica_goes_whatever_happens(store: Store, temporary: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Replica(store.path):
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from simkit.store import Replica
Replica(Path(sys.argv[1])).__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("half_loaded")
def test_the_folder_of_a_killed_process_is_removed_by_the_next_replica(store: Store, temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", KILLED, str(store.path)], env=environment, check=False)
    (left,) = temporary.iterdir()
    with Replica(store.path), Replica(store.path):
        assert not left.exists()
        assert len(list(temporary.glob("simkit-replica-*"))) == 2


@pytest.mark.usefixtures("half_loaded")
def test_a_reader_of_some_runs_reads_no_other_journals_where_the_database_cannot_be_copied(store: Store) -> None:
    write_journal(store.path, [run_started("r2", "other"), *josh_episode("r2").events], run="r2")
    with held(store.database, read_only=False):
        assert store.query("SELECT DISTINCT run_id FROM episodes", runs=("r2",)).rows == [("r2",)]
        assert "what has no journal is not in the answer" in store.query(COUNT, runs=("r2",)).notes[0]
