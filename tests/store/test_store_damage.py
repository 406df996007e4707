"""Journals that somebody, or a disk, has damaged: every damage is named, and costs what it damaged and nothing else."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_events import josh_episode, numbered, run_finished, run_started, write_journal, write_lines

from simkit.core.events import Event
from simkit.store import Journal, Loader, Store
from simkit.store.encoding import encode
from simkit.store.lines import JournalLines, journal_seed, number_of
from simkit.store.transactions import LoadingRound, stage_and_load

TABLES = (
    *("runs", "tasks", "(SELECT * EXCLUDE (journal) FROM episodes)", "branches", "messages"),
    *("tool_calls", "rewards", "harvests", "model_calls"),
)


def everything(database: Path, run: str = "r1") -> dict[str, list[str]]:
    """All rows of a run in all tables, without order and without the names of the run and of its journal."""
    with duckdb.connect(database, read_only=True) as connection:
        found: dict[str, list[str]] = {}
        for name in TABLES:
            rows = connection.execute(f"FROM {name} t WHERE contains(to_json(t), ?)", [f'"{run}']).fetchall()
            found[name] = sorted(str(row).replace(run, "RUN") for row in rows)
        return found


def whole_run(run: str = "r1") -> list[Event]:
    episodes = [*josh_episode(run).events, *josh_episode(run, "MUL2", 1).events]
    return [run_started(run), *episodes, run_finished(run)]


Lines = list[bytes]
LINES = numbered(whole_run())
OTHER = numbered(whole_run("other"), run="other")
COUNT = len(LINES)


def shuffled(lines: Lines) -> Lines:
    return random.Random(5).sample(lines, len(lines))


def changed(line: bytes, before: bytes, after: bytes) -> bytes:
    assert before in line
    return line.replace(before, after, 1)


HARMLESS: dict[str, tuple[Callable[[Lines], Lines], set[str], int]] = {
    "a copied line": (lambda at: [*at[:8], at[7], *at[8:]], {"duplicate"}, 1),
    "a copied block at its end": (lambda at: [*at, *at[3:20]], {"duplicate"}, 17),
    "a copied block in the middle": (lambda at: [*at[:20], *at[3:20], *at[20:]], {"duplicate"}, 17),
    "the whole file twice": (lambda at: [*at, *at], {"duplicate"}, COUNT),
    "two lines swapped": (lambda at: [*at[:4], at[5], at[4], *at[6:]], {"late"}, 1),
    "a block moved to the end": (lambda at: [*at[:4], *at[9:], *at[4:9]], {"late"}, 5),
    "the first line moved to the end": (lambda at: [*at[1:], at[0]], {"late"}, 1),
    "the lines in reverse": (lambda at: at[::-1], {"late"}, COUNT - 1),
    "a line of garbage": (lambda at: [*at[:8], b"garbage\n", *at[8:]], {"garbage"}, 1),
    "a line of garbage at the start": (lambda at: [b"garbage\n", *at], {"garbage"}, 1),
    "an empty line": (lambda at: [*at[:8], b"\n", *at[8:]], {"garbage"}, 1),
    "NUL bytes": (lambda at: [*at[:8], bytes(4096) + b"\n", *at[8:]], {"garbage"}, 1),
    "an event without a number": (lambda at: [*at[:8], encode(run_finished()), *at[8:]], {"garbage"}, 1),
    "a line of another journal": (lambda at: [*at[:8], OTHER[8], *at[8:]], {"altered"}, 1),
    "another journal behind it": (lambda at: [*at, *OTHER], {"altered"}, COUNT),
    "everything at once": (
        lambda at: [*shuffled([*at, *at[4:7]]), b"x\n", OTHER[3]],
        {"late", "duplicate", "garbage", "altered"},
        -1,
    ),
}


COSTLY: dict[str, tuple[Callable[[Lines], Lines], str, set[int]]] = {
    "a lost line": (lambda at: [*at[:8], *at[9:]], "lost", {8}),
    "a lost first line": (lambda at: at[1:], "lost", {0}),
    "lost lines": (lambda at: [*at[:8], *at[12:]], "lost", {8, 9, 10, 11}),
    "an altered value": (
        lambda at: [*at[:14], changed(at[14], b'"reward":1.0', b'"reward":0.5'), *at[15:]],
        "altered",
        {14},
    ),
    "an altered number": (lambda at: [*at[:8], changed(at[8], b',"n":8,', b',"n":9,'), *at[9:]], "altered", {8}),
    "an altered checksum": (lambda at: [*at[:8], at[8][:-4] + b'g"}\n', *at[9:]], "altered", {8}),
    "a byte-order mark": (lambda at: [b"\xef\xbb\xbf" + at[0], *at[1:]], "altered", {0}),
    "a line cut and glued to the next": (lambda at: [*at[:8], at[8][:30] + at[9], *at[10:]], "altered", {8, 9}),
    "two lines in one": (lambda at: [*at[:8], at[8][:-1] + at[9], *at[10:]], "altered", {8, 9}),
    "a line in two": (lambda at: [*at[:8], at[8][:30] + b"\n", at[8][30:], *at[9:]], "altered", {8}),
    "NUL bytes in a line": (lambda at: [*at[:8], at[8][:20] + bytes(9) + at[8][29:], *at[9:]], "altered", {8}),
    "a line without its seal": (lambda at: [*at[:8], at[8].rpartition(b',"n":')[0] + b"}\n", *at[9:]], "garbage", {8}),
}


ALL = {**{name: damage for name, (damage, _, _) in HARMLESS.items()}, **{n: d for n, (d, _, _) in COSTLY.items()}}
IDS = {name: f"run{number:02}" for number, name in enumerate(ALL)}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a run for each damage, and one for what must be left of each, all of those in one journal."""
    store = Store(tmp_path_factory.mktemp("damaged"))
    for name, damage in ALL.items():
        lines = numbered(whole_run(IDS[name]), run=IDS[name])
        write_lines(store.path, damage(lines), run=IDS[name])
        gone = COSTLY[name][2] if name in COSTLY else set[int]()
        left = [event for number, event in enumerate(whole_run("left" + IDS[name])) if number not in gone]
        write_journal(store.path, left, run="left")
    store.load()
    return store


@pytest.fixture(scope="module")
def gone_on(damaged: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same, after each run has been gone on with."""
    folder = tmp_path_factory.mktemp("gone-on") / "store"
    shutil.copytree(damaged.path, folder)
    store = Store(folder)
    for run in IDS.values():
        write_with_journal(journal(store, run), [run_started(run, at=1.0, attempt=1), run_finished(run, at=2.0)])
    store.load()
    return store


def journal(store: Store, run: str) -> Path:
    return store.path / "journals" / run / "w0.jsonl"


@pytest.mark.parametrize("name", HARMLESS)
def test_damage_that_loses_no_line_is_named_and_changes_no_row(damaged: Store, name: str) -> None:
    _, kinds, lines = HARMLESS[name]
    found = damaged.damage(IDS[name])
    assert {one.kind for one in found} == kinds
    assert lines < 0 or sum(one.lines for one in found) == lines
    assert all(one.journal == journal(damaged, IDS[name]) and one.run_id == IDS[name] for one in found)
    assert everything(damaged.database, IDS[name]) == everything(damaged.database, "left" + IDS[name])


@pytest.mark.parametrize("name", COSTLY)
def test_damage_that_loses_lines_is_named_and_all_others_are_loaded(damaged: Store, name: str) -> None:
    found = damaged.damage(IDS[name])
    assert COSTLY[name][1] in {one.kind for one in found}
    assert all(one.line <= COUNT and one.byte < journal(damaged, IDS[name]).stat().st_size for one in found)
    assert everything(damaged.database, IDS[name]) == everything(damaged.database, "left" + IDS[name])


@pytest.mark.parametrize("name", ALL)
def test_resume_reads_what_the_loader_reads(damaged: Store, name: str) -> None:
    lines = JournalLines(journal(damaged, IDS[name]))
    read = [line.data for line in lines]
    written = numbered(whole_run(IDS[name]), run=IDS[name])
    assert [line for line in written if line in read] == read
    assert [one.key for one in lines.bad] == [one.key for one in damaged.damage(IDS[name])]


@pytest.mark.parametrize("name", ALL)
def test_a_journal_goes_on_behind_its_damage(damaged: Store, gone_on: Store, name: str) -> None:
    """Numbers go on so that no line is taken for another, and what is written then counts."""
    path = journal(gone_on, IDS[name])
    numbers = [number_of(line, journal_seed(path)) for line in path.read_bytes().splitlines(keepends=True)]
    for number in numbers[-2:]:
        assert number is not None
        assert numbers.count(number) == 1
    known = [one.key for one in damaged.damage(IDS[name])]
    assert [one.key for one in gone_on.damage(IDS[name])] == known
    assert [one.key for one in JournalLines(path).bad] == []
    status = gone_on.query("SELECT attempt, status FROM runs WHERE run_id = ?", [IDS[name]]).rows
    assert status == [(1, "done")]


def test_the_rows_of_damaged_journals_are_those_of_a_database_made_again(gone_on: Store) -> None:
    journals = gone_on.query("SELECT DISTINCT run_id, journal FROM episodes WHERE run_id LIKE 'run%' ORDER BY ALL").rows
    assert journals == [(run, f"{run}/w0.jsonl") for run in IDS.values()]
    again = rebuilt(gone_on, IDS.values())
    assert again == {run: everything(gone_on.database, run) for run in IDS.values()}


def test_line_ends_of_windows_are_no_damage(store: Store) -> None:
    write_lines(store.path, [line[:-1] + b"\r\n" for line in LINES])
    assert store.load().lines == COUNT
    assert store.damage() == ()
    assert everything(store.database) == undamaged(store)


def test_lines_without_numbers_are_the_beginning_of_an_older_journal(store: Store) -> None:
    events = whole_run()
    path = write_journal(store.path, events[:9])
    store.load()
    write_with_journal(path, events[9:])
    store.load()
    assert store.damage() == ()
    assert everything(store.database) == undamaged(store)
    assert rebuilt(store) == {"r1": everything(store.database)}


@pytest.mark.parametrize(("prefix", "kind"), [(8, "lost"), (10, "duplicate")])
def test_the_first_number_counts_the_lines_of_an_older_journal(store: Store, prefix: int, kind: str) -> None:
    lines = [encode(event) for event in whole_run()]
    write_lines(store.path, [*lines[:prefix], *numbered(whole_run()[9:], first=9)])
    store.load()
    assert [one.kind for one in store.damage()] == [kind]


def test_a_torn_last_line_is_no_damage(store: Store) -> None:
    path = write_lines(store.path, [*LINES[:8], LINES[8][:-9]])
    store.load()
    assert store.damage() == ()
    write_with_journal(path, whole_run()[8:])
    store.load()
    assert store.damage() == ()
    assert everything(store.database) == undamaged(store)


def test_what_was_missing_may_come_back(store: Store) -> None:
    write_lines(store.path, [*LINES[:8], *LINES[12:]])
    store.load()
    assert [one.kind for one in store.damage()] == ["lost"]
    write_lines(store.path, LINES[8:12])
    store.load()
    assert {one.kind for one in store.damage()} == {"late"}
    assert everything(store.database) == undamaged(store)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_in_any_order_and_number_lead_to_one_state(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However a damaged journal came to be, and whenever it was loaded: rows and damage are those of the file."""
    whole = numbered([run_started(), *josh_episode().events, run_finished()])
    pool = [*whole, b"garbage\n", OTHER[4], whole[9][:40] + whole[10], whole[12][:40] + b"\n"]
    drawn = data.draw(st.lists(st.sampled_from(pool), max_size=16))
    lines = [*whole[: data.draw(st.integers(0, len(whole)))], *drawn]
    often, once = tmp_path_factory.mktemp("often"), tmp_path_factory.mktemp("once")
    piece = data.draw(st.sampled_from([1, 2_000, 1 << 20]))
    for cut in sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=3))):
        path = write_lines(often, ())
        path.write_bytes(b"".join(lines[:cut]))
        Loader(often, piece=piece).load()
    for folder in (often, once):
        write_lines(folder, ()).write_bytes(b"".join(lines))
    Loader(often, piece=piece).load()
    Loader(once).load()
    assert everything(often / "simkit.duckdb") == everything(once / "simkit.duckdb")
    known = [[one.key for one in Store(folder).damage()] for folder in (often, once)]
    assert known[0] == known[1]
    numbers = {number_of(line, journal_seed(Path("r1", "w0.jsonl"))) for line in lines} - {None}
    assert read_numbers(once) == sorted(numbers, key=lambda number: number or 0)


@pytest.mark.parametrize("spoil", ["folder", "dangling", "pipe"])
def test_a_journal_that_cannot_be_read_holds_up_no_other(store: Store, spoil: str) -> None:
    write_lines(store.path, LINES)
    bad = store.path / "journals" / "r0" / "main.jsonl"
    bad.parent.mkdir()
    match spoil:
        case "folder":
            bad.mkdir()
        case "dangling":
            bad.symlink_to("nowhere")
        case _:
            os.mkfifo(bad)
    store.load()
    assert store.query("SELECT run_id, status FROM runs", runs=["r1"]).rows == [("r1", "done")]
    if spoil != "dangling":  # a name of nothing holds nothing
        assert [(one.run_id, one.kind) for one in store.damage()] == [("r0", "file")]
    (bad.rmdir if spoil == "folder" else bad.unlink)()
    write_lines(store.path, numbered([run_started("r0")], run="r0", worker="main"), run="r0", worker="main")
    store.load()
    assert store.damage() == ()
    assert store.query("SELECT count(*) FROM runs").rows == [(2,)]


def test_a_journal_that_is_gone_leaves_its_rows_and_is_named(store: Store) -> None:
    path = write_lines(store.path, LINES)
    store.load()
    path.unlink()
    store.load()
    assert [(one.kind, one.lines) for one in store.damage()] == [("gone", COUNT)]
    assert everything(store.database) == undamaged(store)
    write_lines(store.path, LINES)
    store.load()
    assert store.damage() == ()


@pytest.mark.parametrize("more", [0, 3])
def test_a_journal_that_was_changed_behind_our_back_is_read_again(store: Store, more: int) -> None:
    """Restored from an older copy, and perhaps gone on with since: what it holds now is what counts."""
    path = write_lines(store.path, LINES)
    store.load()
    path.write_bytes(b"".join(LINES[:20]))
    write_with_journal(path, [run_started(at=float(number), attempt=number + 1) for number in range(more)])
    while more and path.stat().st_size <= sum(map(len, LINES)):
        write_with_journal(path, josh_episode(task=f"T{path.stat().st_size}").events)
    (found,) = store.load().unreadable
    assert found.kind == ("changed" if more else "shortened")
    assert rebuilt(store) == {"r1": everything(store.database)}
    assert [one.kind for one in store.damage()] == [found.kind]


def test_each_damaged_run_is_named_and_many_are_counted(store: Store) -> None:
    for number in range(5):
        path = store.path / "journals" / f"r{number}" / "main.jsonl"
        write_with_journal(path, [replace(event, run_id=f"r{number}") for event in [run_started()]])
        path.write_bytes(path.read_bytes() + b"garbage\n")
    for warnings in (store.load().warnings, store.load().warnings, store.query("FROM runs").notes):
        said = [each for each in warnings if "damaged" in each]
        assert [f"r{number}" in each for number, each in enumerate(said[:3])] == [True] * 3
        assert said[3:] == ["2 more runs of this store are damaged: `FROM unreadable_lines`"]


def test_damage_is_told_of_until_it_is_acknowledged(store: Store) -> None:
    write_lines(store.path, [*LINES[:8], *LINES[9:]])
    store.load()
    for _ in range(2):
        (note,) = store.query("FROM runs").notes
        assert "the journal of run r1 is damaged: " in note
        assert "line 9 (byte" in note
        assert "simkit doctor --acknowledge r1" in note
    assert len(store.acknowledge("r1")) == 1
    assert store.query("FROM runs").notes == ()
    assert store.query("SELECT kind, acknowledged FROM unreadable_lines").rows == [("lost", True)]
    store.database.unlink()
    assert store.query("FROM runs").notes == ()
    write_lines(store.path, [b"garbage\n"])  # other damage is told of again
    (note,) = store.query("FROM runs").notes
    assert [one.kind for one in store.damage()] == ["garbage"]


def test_a_shortened_journal_stays_acknowledged_at_every_load(store: Store) -> None:
    path = write_lines(store.path, LINES)
    store.load()
    path.write_bytes(b"".join(LINES[:20]))
    assert [one.kind for one in store.acknowledge("r1")] == ["shortened"]
    for _ in range(3):
        store.load()
        assert store.query("SELECT kind, acknowledged FROM unreadable_lines").rows == [("shortened", True)]


def test_a_torn_acknowledgement_is_none(store: Store) -> None:
    write_lines(store.path, [*LINES[:8], *LINES[9:], b"garbage\n"])
    found = store.damage()
    store.loader.acknowledge(found[:1])
    store.loader.damage.path.write_bytes(store.loader.damage.path.read_bytes()[:-20])
    assert store.damage() == found
    store.acknowledge("r1")
    assert store.damage() == ()


def test_many_bad_lines_are_found_in_one_pass(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines without checksums of which one in ten is bad, each in its own way."""
    events = [encode(event) for event in josh_episode().events]
    bad = [
        b"garbage\n",
        b'{"e":"New"}\n',
        b'{"e":"TaskSeen"}\n',
        b"\xff\n",
        b'{"e":"BranchAdded","turn":"x"}\n',
        b"[\n",
    ]
    lines: Lines = []
    for number in range(60):
        lines += [*events[:9], bad[number % len(bad)]]
    write_lines(store.path, lines)
    tries: list[int] = []

    def counted(work: LoadingRound, parts: Sequence[tuple[str, int, bytes]]) -> list[int]:
        tries.append(sum(len(data) for _, _, data in parts))
        return stage_and_load(work, parts)

    monkeypatch.setattr("simkit.store.transactions.stage_and_load", counted)
    store.load()
    assert sum(one.lines for one in store.damage()) == 60
    assert len(tries) == 3  # all lines, those that may be events, and once more for good


def read_numbers(folder: Path) -> list[int | None]:
    path = folder / "journals" / "r1" / "w0.jsonl"
    return [number_of(line.data, journal_seed(path)) for line in JournalLines(path)]


def undamaged(store: Store) -> dict[str, list[str]]:
    """The rows of a journal that is as it was written."""
    folder = store.path.parent / "undamaged"
    write_journal(folder, whole_run())
    Loader(folder).load()
    return everything(folder / "simkit.duckdb")


def rebuilt(store: Store, runs: Iterable[str] = ("r1",)) -> dict[str, dict[str, list[str]]]:
    """The rows of a database that is made from the journals as they are."""
    database = store.path.parent / "rebuilt.duckdb"
    database.unlink(missing_ok=True)
    Loader(store.path, database=database, lock=store.path.parent / "lock").load()
    return {run: everything(database, run) for run in runs}


def write_with_journal(path: Path, events: Sequence[Event]) -> None:
    async def write() -> None:
        async with Journal(path) as journal:
            for event in events:
                journal.record(event)

    anyio.run(write)
