"""Notes: kept in a file of their own, in SQL at once, and gone with their run."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.errors import StoreError
from simkit.store import Store
from simkit.store.notes import FILE, Note, NoteFile, new_id
from simkit.store.replica import Replica
from support.held_database import held

NOTE = Note(
    id="1",
    run_id="a",
    task_id="MUL1",
    trial=0,
    path="L",
    turn=1,
    seq=2,
    label="wrong",
    text="asks twice",
    author="ann",
    digest="d1",
    at=1_800_000_000.25,
)


def note(number: int, **changes: object) -> Note:
    return replace(NOTE, id=str(number), **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two runs, loaded."""
    found = Store(tmp_path / "store", patience=0.0)
    for run in ("a", "b"):
        events = [run_started(run), *josh_episode(run, "MUL1").events, run_finished(run)]
        write_lines(found.path, numbered(events, run=run), run)
    found.load()
    return found


def texts(store: Store) -> list[str]:
    return [text for (text,) in store.query("select text from notes order by noted_at, note_id").rows]


def test_a_note_is_in_sql_at_once_with_everything_that_it_says(store: Store) -> None:
    NoteFile(store.path).append(NOTE)
    (row,) = store.query("from notes").dicts()
    moment = row.pop("noted_at")
    assert row == {
        "note_id": "1",
        "run_id": "a",
        "episode_id": "a/MUL1/0",
        "branch_id": "a/MUL1/0/L.1",
        "task_id": "MUL1",
        "trial": 0,
        "path": "L",
        "turn": 1,
        "seq": 2,
        "label": "wrong",
        "text": "asks twice",
        "author": "ann",
        "digest": "d1",
    }
    assert moment.isoformat() == "2027-01-15T08:00:00.250000"
    assert NoteFile(store.path).read() == (NOTE,)
    joined = store.query("select label, reward from notes join episodes using (episode_id)").rows
    assert joined == store.query("select 'wrong', reward from episodes where run_id = 'a'").rows


@pytest.mark.parametrize("text", ["\x1b[31m", "a\x00b", "\u202eevil", "\"'\\\n\r\t", "😀", "x" * 60_000])
def test_texts_are_kept_as_they_are(store: Store, text: str) -> None:
    NoteFile(store.path).append(note(1, text=text, seq=None))
    assert texts(store) == [text]


def test_notes_are_private(store: Store) -> None:
    NoteFile(store.path).append(NOTE)
    assert stat.S_IMODE((store.path / FILE).stat().st_mode) == 0o600


def test_notes_survive_a_new_database_and_another_version(store: Store) -> None:
    NoteFile(store.path).append(NOTE)
    assert texts(store) == ["asks twice"]
    store.database.unlink()
    assert texts(store) == ["asks twice"]
    with store.loader.writing() as database:
        database.execute("update store_format set format = 'older'")
    assert texts(store) == ["asks twice"]


def test_notes_stay_when_a_run_is_loaded_again_or_packed(store: Store) -> None:
    NoteFile(store.path).append(NOTE)
    store.loader.reload(["a"])
    assert texts(store) == ["asks twice"]
    store.pack(["a"])
    assert texts(store) == ["asks twice"]
    store.database.unlink()
    assert texts(store) == ["asks twice"]


def test_answers_about_one_run_have_its_notes_alone(store: Store) -> None:
    for number, run in enumerate("ab"):
        NoteFile(store.path).append(note(number, run_id=run, text=run))
    assert store.query("select text from notes", runs=("b",), scoped=True).rows == [("b",)]
    with store.reading() as reader, reader.scoped(["a"], copy=False) as own:
        assert own.query("select text from notes").rows == [("a",)]


def test_the_notes_of_a_pruned_run_go_for_good(store: Store) -> None:
    for number, run in enumerate("aba"):
        NoteFile(store.path).append(note(number, run_id=run, text=f"{run}{number}"))
    store.prune(["a"])
    assert texts(store) == ["b1"]
    assert b"a0" not in (store.path / FILE).read_bytes()
    NoteFile(store.path).append(note(9, run_id="b", text="later"))
    assert texts(store) == ["b1", "later"]


def test_a_replica_has_the_notes_and_sees_new_ones(store: Store) -> None:
    NoteFile(store.path).append(note(1, text="first"))
    with Replica(store.path) as replica:
        assert replica.connection.execute("select text from notes").fetchall() == [("first",)]
        NoteFile(store.path).append(note(2, text="second"))
        replica.refresh()
        assert replica.connection.execute("select text from notes order by 1").fetchall() == [("first",), ("second",)]


def test_notes_are_read_while_another_process_holds_the_database(store: Store) -> None:
    with held(store.database, read_only=False):
        NoteFile(store.path).append(NOTE)
        assert texts(store) == ["asks twice"]


def test_damaged_lines_are_left_out_and_the_others_count(store: Store) -> None:
    file = NoteFile(store.path)
    for number in range(3):
        file.append(note(number, text=f"note {number}"))
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(lines[0] + lines[1].replace(b"note 1", b"note 8") + b'{"e":"Other"}\n' + lines[2][:-20])
    file.append(note(4, text="after a torn line"))
    assert texts(store) == ["after a torn line", "note 0"] or texts(store) == ["note 0", "after a torn line"]


def test_many_writers_lose_nothing(store: Store) -> None:
    def write(number: int) -> None:
        NoteFile(store.path).append(note(number, text=str(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert sorted(map(int, texts(store))) == list(range(24))


def test_a_writer_that_waited_for_a_deletion_writes_to_the_new_file(store: Store) -> None:
    file = NoteFile(store.path)
    file.append(note(1, run_id="a"))
    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            done = [pool.submit(file.append, note(number, run_id="b")), pool.submit(file.forget, "a")]
            for each in done:
                each.result()
            file.append(note(100 + number, run_id="a"))
    assert len([each for each in file.read() if each.run_id == "b"]) == 20


def test_links_and_unreadable_files_are_no_notes(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text("secret\n")
    (store.path / FILE).symlink_to(outside)
    assert texts(store) == []
    with pytest.raises(StoreError, match="cannot be written"):
        NoteFile(store.path).append(NOTE)
    with pytest.raises(StoreError, match="cannot be read"):
        NoteFile(store.path).read()
    assert outside.read_text() == "secret\n"
    (store.path / FILE).unlink()
    os.mkfifo(store.path / FILE)
    assert texts(store) == []
    with pytest.raises(StoreError, match="not a regular file"):
        NoteFile(store.path).append(NOTE)


def test_ids_are_new() -> None:
    assert len({new_id() for _ in range(100)}) == 100
