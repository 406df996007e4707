from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import duckdb
import pytest
from anyio import from_thread, to_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_events import Script, josh_episode, run_finished, run_started, write_journal

from simkit.core.events import Event
from simkit.errors import StoreBusy, StoreError, StoreUnreadable, UsageError
from simkit.store import Loader, LoadReport, Store, keep_loaded
from simkit.store.encoding import encode
from simkit.store.lines import whole_lines
from support.held_database import held

TABLES = (
    *("runs", "tasks", "toolsets", "episodes", "branches", "messages"),
    *("tool_calls", "rewards", "harvests", "model_calls", "unreadable_lines"),
)
MEASURES = "SELECT count(*), count(DISTINCT content), max(length(message)), count(DISTINCT prompt) FROM messages"


def everything(folder: Path) -> dict[str, list[str]]:
    """All rows of all tables, without order."""
    with duckdb.connect(folder / "simkit.duckdb", read_only=True) as connection:
        return {name: sorted(map(str, connection.execute(f"FROM {name}").fetchall())) for name in TABLES}


def whole_run() -> list[Event]:
    return [run_started(), *josh_episode().events, *josh_episode(task="MUL2", trial=1).events, run_finished()]


def test_an_episode_becomes_rows(store: Store) -> None:
    write_journal(store.path, [run_started(), *josh_episode().events, run_finished()])
    assert store.load().lines == 16
    assert store.query("SELECT count(*) FROM messages").rows == [(12,)]
    assert store.query("SELECT name, status, average_reward FROM run_summary").rows == [("demo", "done", 1.0)]
    marks = store.query("SELECT path, successful, golden, winner, outcome FROM branches ORDER BY turn, path").rows
    assert marks == [
        ("", True, True, False, None),
        ("L", True, True, False, None),
        ("R", False, False, False, "user_ended"),
        ("LL", False, False, False, "dropped"),
        ("LR", True, True, True, None),
    ]


def test_every_message_keeps_its_form_and_its_text(store: Store) -> None:
    script = Script()
    root = script.open("caf\u00e9 \u0000 \U0001f600 '\"\\")
    write_journal(store.path, script.events)
    lines = store.transcript(root.id).lines
    assert [line.message for line in lines] == [entry.message.to_openai() for entry in root.conversation]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 5_000), max_size=2), piece=st.sampled_from([1, 1_500, 1 << 20]))
def test_pieces_and_rounds_do_not_matter(cuts: list[int], piece: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Loaded at any moments, cut anywhere, in pieces of any size: the same rows, each once."""
    events = [run_started(), *josh_episode().events, run_finished()]
    data = b"".join(encode(event) for event in events)
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    write_journal(whole, events)
    Loader(whole).load()
    path = write_journal(parts, [])
    loader = Loader(parts, piece=piece)
    for cut in [*sorted(cuts), len(data)]:
        path.write_bytes(data[:cut])
        loader.load()
    assert everything(parts) == everything(whole)


def test_a_torn_line_waits_for_its_end(store: Store) -> None:
    path = write_journal(store.path, [run_started()])
    line = encode(run_finished())
    with path.open("ab") as file:
        file.write(line[:-9])
    assert store.load().lines == 1
    assert store.query("SELECT status FROM runs").rows == [("running",)]
    with path.open("ab") as file:
        file.write(line[-9:])
    assert store.query("SELECT status FROM runs").rows == [("done",)]


def test_a_line_longer_than_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 30 + b"\n" + b"short\n" * 9 + b"torn")

    def read(start: int, size: int) -> bytes:
        return path.read_bytes()[start : start + size]

    assert whole_lines(read, 0, 8).startswith(b"x" * 30 + b"\n")
    assert whole_lines(read, 31, 8) == b"short\n"
    assert whole_lines(read, 31 + 54, 2) == b""


@pytest.mark.parametrize(
    "bad", [b"garbage\n", b'{"e":"Unheard"}\n', b'{"e":"TaskSeen"}\n', b"[1]\n", b"\xff\xfe\n", b"{}\n"]
)
def test_a_bad_line_is_named_and_the_others_are_loaded(store: Store, bad: bytes) -> None:
    good = [encode(event) for event in whole_run()]
    path = write_journal(store.path, [])
    path.write_bytes(b"".join(good[:7]) + bad + b"".join(good[7:]))
    (found,) = store.load().unreadable
    assert (found.journal, found.byte, found.line, found.kind) == (path, len(b"".join(good[:7])), 8, "unreadable")
    assert store.load() == LoadReport(damaged=(found,))
    assert store.damage() == (found,)
    rows = everything(store.path)
    assert len(rows.pop("unreadable_lines")) == 1
    other = Store(store.path.parent / "other")
    write_journal(other.path, whole_run())
    other.load()
    expected = everything(other.path)
    expected.pop("unreadable_lines")
    assert rows == expected


def test_a_query_tells_of_a_bad_line(store: Store) -> None:
    path = write_journal(store.path, [run_started()])
    path.write_bytes(path.read_bytes() + b"bad\n")
    found = store.query("SELECT count(*) FROM runs")
    assert found.rows == [(1,)]
    assert "line 2" in found.notes[0]


def test_marks_find_rows_of_earlier_rounds(store: Store) -> None:
    for event in josh_episode().events:
        write_journal(store.path, [event])
        store.load()
    assert store.query("SELECT count(*) FILTER (golden), count(*) FILTER (winner) FROM branches").rows == [(3, 1)]
    assert store.query("SELECT reward, outcome FROM episodes").rows == [(1.0, "goals_done")]


@pytest.mark.parametrize("workers", [("w0", "w0"), ("w0", "w1"), ("w1", "w0")])
@pytest.mark.parametrize("rounds", [1, 2])
def test_an_episode_that_starts_again_replaces_the_old_one(store: Store, workers: tuple[str, str], rounds: int) -> None:
    """The latest start wins, whichever journal is loaded first."""
    first = josh_episode(at=1500.0, opening="old").events[:7]
    second = josh_episode(at=1000.0, opening="new", attempt=1).events
    write_journal(store.path, first, worker=workers[0])
    if rounds == 2:
        store.load()
    write_journal(store.path, second, worker=workers[1])
    store.load()
    assert store.query("SELECT count(*) FROM episodes").rows == [(1,)]
    assert store.query("SELECT count(*), count(DISTINCT branch_id) FROM branches").rows == [(5, 5)]
    assert store.query("SELECT DISTINCT content FROM messages WHERE seq = 1").rows == [("new",)]
    assert store.query("SELECT count(*) FROM messages").rows == [(12,)]


def test_a_run_that_goes_on_is_running_again(store: Store) -> None:
    write_journal(store.path, [run_started(at=1.0), run_finished(at=2.0), run_started(at=3.0, attempt=1)])
    assert store.query("SELECT status, finished_at FROM runs").rows == [("running", None)]
    write_journal(store.path, [run_finished(at=4.0)])
    assert store.query("SELECT status, epoch(started_at), epoch(finished_at) FROM runs").rows == [("done", 1.0, 4.0)]


def test_a_held_database_is_left_alone(store: Store) -> None:
    """Another process has it open: rounds are skipped, and afterwards everything is there."""
    write_journal(store.path, [run_started()])
    store.load()
    with held(store.database, read_only=False):
        write_journal(store.path, [run_finished()])
        with pytest.raises(StoreBusy, match=r"another process, .* holds"):
            Store(store.path, patience=0.02).load()
    store.load()
    with duckdb.connect(store.database, read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("done",)]


def test_a_reader_of_another_process_sees_what_is_loaded(store: Store) -> None:
    write_journal(store.path, whole_run())
    store.load()
    code = "import duckdb, sys; print(duckdb.connect(sys.argv[1]).sql('SELECT name FROM run_summary').fetchall())"
    found = subprocess.run(
        [sys.executable, "-c", code, str(store.database)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[('demo',)]\n"


@pytest.mark.anyio
async def test_loaders_that_run_at_once_take_turns(store: Store) -> None:
    def load_patiently() -> None:
        Store(store.path, patience=20.0).load()

    for number in range(8):
        write_journal(store.path, josh_episode(task=f"T{number}").events, worker=f"w{number}")
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(to_thread.run_sync, load_patiently)
    assert store.query("SELECT count(*), count(DISTINCT branch_id) FROM branches").rows == [(40, 40)]


class Watched(Loader):
    """Says when a round is over."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rounds = 0
        self.done = anyio.Event()

    def load(self, seconds: float | None = None) -> LoadReport:
        try:
            return super().load(seconds)
        finally:
            self.rounds += 1
            if self.rounds == 2:
                from_thread.run_sync(self.done.set)


@pytest.mark.anyio
@pytest.mark.parametrize("broken", [False, True])
async def test_loading_in_the_background(store: Store, broken: bool) -> None:
    """Rows appear while a run is going; a broken database does not stop it."""
    loader = Watched(store.path)
    write_journal(store.path, [run_started()])
    if broken:
        store.database.write_bytes(b"no database" * 1000)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_loaded, loader, 0.001)
            await loader.done.wait()
            group.cancel_scope.cancel()
    with duckdb.connect(store.database, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]
    assert [path.name for path in store.path.glob("*.damaged-*")] == ["simkit.duckdb.damaged-1"] * broken


@pytest.mark.parametrize("where", [0, 0.02, 0.2, 0.4, 0.6, 0.8, 0.98])
def test_damage_anywhere_in_the_database_is_named_or_harmless(store: Store, where: float) -> None:
    write_journal(store.path, whole_run())
    expected = store.query(MEASURES).rows
    data = bytearray(store.database.read_bytes())
    start = int(len(data) * where)
    data[start : start + 16_384] = b"\xa5" * len(data[start : start + 16_384])
    store.database.write_bytes(data)
    found = measured(store)
    if found is None:
        store.database.unlink()
        found = measured(store)
    assert found == expected


def measured(store: Store) -> list[tuple[object, ...]] | None:
    """What a query gives; None when the damage is named, with what to do about it."""
    try:
        return store.query(MEASURES).rows
    except StoreUnreadable as error:
        if "it is rebuilt from the journals" not in str(error):
            raise
        return None


def test_a_database_of_another_version_is_rebuilt(store: Store) -> None:
    write_journal(store.path, whole_run())
    store.load()
    before = everything(store.path)
    with duckdb.connect(store.database) as connection:
        connection.execute("UPDATE store_format SET format = 'older'")
        connection.execute("DELETE FROM messages")
    assert store.query("SELECT count(*) FROM messages").rows == [(24,)]
    assert everything(store.path) == before


def test_a_database_is_kept_when_its_journals_are_gone(store: Store) -> None:
    path = write_journal(store.path, whole_run())
    store.load()
    with duckdb.connect(store.database) as connection:
        connection.execute("UPDATE store_format SET format = 'older'")
    path.unlink()
    write_journal(store.path, [run_started("r2")], run="r2")
    report = store.load()
    assert "kept as simkit.duckdb.damaged-1" in report.notes[0]
    assert [(one.kind, one.journal) for one in store.damage()] == [("gone", path)]
    assert store.query("SELECT run_id FROM runs").rows == [("r2",)]
    with duckdb.connect(store.path / "simkit.duckdb.damaged-1", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchall() == [(24,)]


def test_somebody_elses_database_is_left_alone(store: Store) -> None:
    with duckdb.connect(store.database) as connection:
        connection.execute("CREATE TABLE mine (a INTEGER)")
    with pytest.raises(StoreUnreadable, match="was not made by simkit; move it away"):
        store.load()
    with duckdb.connect(store.database) as connection:
        assert connection.execute("FROM mine").fetchall() == []


def test_a_journal_that_shrank_is_loaded_as_it_is_and_named(store: Store) -> None:
    path = write_journal(store.path, whole_run())
    write_journal(store.path, josh_episode("r2").events, run="r2")
    store.load()
    size = path.stat().st_size
    path.write_bytes(encode(run_started()))
    (found,) = store.load().unreadable
    assert (found.kind, found.byte, found.line, found.lines) == ("shortened", path.stat().st_size, 2, 29)
    assert f"{size - path.stat().st_size} bytes and 29 lines that were loaded are missing" in found.reason
    assert store.query("SELECT run_id, status FROM runs").rows == [("r1", "running")]
    assert store.query("SELECT run_id, count(*) FROM episodes GROUP BY ALL").rows == [("r2", 1)]
    store.database.unlink()
    store.load()
    assert store.damage("r1") == (found,)  # what the journal cannot tell is kept beside it
    assert store.damage("r2") == ()


READ_ONLY = """
import os, sys, tempfile
from pathlib import Path
import anyio
from simkit.errors import JournalFailed
from simkit.store import Replica, Store
with tempfile.TemporaryDirectory() as other:
    Store(other).query("FROM runs")
    with Replica(Path(other)):
        pass
anyio.run(anyio.to_thread.run_sync, str)  # everything is imported before the right to read it is given up
os.setuid(65534)
store = Store(sys.argv[1])
found = store.query("SELECT status FROM runs")
print(found.rows, found.state.source, found.notes)
async def write():
    async with store.journal("r2"):
        raise AssertionError("entered")
try:
    anyio.run(write)
except JournalFailed as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user to be without the right to write")
def test_a_read_only_store_is_answered_from_its_journals() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which other users may not enter
        Path(folder).chmod(0o755)
        write_journal(Path(folder), [run_started()])
        Store(folder).load()
        write_journal(Path(folder), [run_finished()])
        for path in Path(folder).rglob("*"):  # a store is private; this one is for everybody to read
            path.chmod(0o755 if path.is_dir() else 0o644)
        found = subprocess.run([sys.executable, "-c", READ_ONLY, folder], capture_output=True, text=True, check=False)
    assert found.stderr == ""
    answer, refusal = found.stdout.splitlines()
    assert answer.startswith("[('done',)] replica")
    assert "is read-only; this was read from the journals into a private copy instead" in answer
    assert "cannot be opened for writing: Permission denied. Make the store folder writable" in refusal


def test_a_full_store_disk_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, start: int, piece: int) -> bytes:
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    write_journal(store.path, [run_started()])
    store.load()
    write_journal(store.path, [run_finished()])
    with monkeypatch.context() as patched:
        patched.setattr("simkit.store.rounds.whole_lines", full)
        with pytest.raises(StoreError, match=r"No space left on device.*The journals hold everything"):
            store.load()
    assert store.query("SELECT status FROM runs").rows == [("done",)]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used as a store"):
        Store(tmp_path / "file")


def test_wrong_sql_is_the_callers(store: Store) -> None:
    with pytest.raises(UsageError, match=r"the query failed: .*nothere"):
        store.query("FROM nothere")
    with pytest.raises(UsageError, match="read-only"):
        store.query("DELETE FROM runs")


def test_lines_in_any_order_of_journals_give_the_same_rows(store: Store, tmp_path: Path) -> None:
    scripts = [josh_episode(task=f"T{number}").events for number in range(6)]
    order = random.Random(3).sample(range(6), 6)
    other = Store(tmp_path / "other")
    for number in range(6):
        write_journal(store.path, scripts[number], worker=f"w{number % 2}")
        write_journal(other.path, scripts[order[number]], worker=f"w{order[number] % 2}")
    store.load()
    other.load()
    assert everything(store.path) == everything(other.path)
