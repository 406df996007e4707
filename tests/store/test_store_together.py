"""Many journals load in one transaction, with the result that each of them alone has."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_journal, write_lines

from simkit.core.events import Event, ItemScored, Measured, RunFinished
from simkit.store import Loader, Store
from simkit.store.rounds import MOST_JOURNALS
from simkit.store.source import JournalSource, open_journal
from simkit.store.tables import OWNERS
from simkit.store.transactions import LoadingRound, stage_and_load

Parts = Sequence[tuple[str, int, bytes]]


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of journals in each transaction."""
    found: list[int] = []

    def noted(work: LoadingRound, parts: Parts) -> list[int]:
        found.append(len(parts))
        return stage_and_load(work, parts)

    monkeypatch.setattr("simkit.store.transactions.stage_and_load", noted)
    return found


def tables(store: Store) -> dict[str, list[tuple[object, ...]]]:
    return {table: store.query(f"FROM {table} ORDER BY ALL").rows for table in (*OWNERS, "toolsets")}


def run(name: str) -> list[Event]:
    return [run_started(name), *josh_episode(name).events, *josh_episode(name, "MUL2").events, run_finished(name)]


def test_journals_of_many_runs_load_at_once_as_each_alone(
    store: Store, tmp_path: Path, transactions: list[int]
) -> None:
    one_by_one = Store(tmp_path / "other")
    for number in range(5):
        for each in (store, one_by_one):
            write_lines(each.path, numbered(run(f"r{number}"), run=f"r{number}"), f"r{number}")
        one_by_one.load()
    transactions.clear()
    report = store.load()
    assert transactions == [5]
    assert report.lines == 5 * len(run("r"))
    assert report.bytes == sum(path.stat().st_size for path in store.path.glob("journals/*/*.jsonl"))
    assert tables(store) == tables(one_by_one)
    assert store.load().lines == 0


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_no_more_journals_are_open_than_agreed(store: Store, transactions: list[int], more: int) -> None:
    for number in range(MOST_JOURNALS + more):
        write_journal(store.path, [run_started(f"r{number}")], f"r{number}")
    store.load()
    assert transactions == ([MOST_JOURNALS + more] if more <= 0 else [MOST_JOURNALS, 1])


@pytest.mark.parametrize(("more", "together"), [(0, [3, 3, 2]), (1, [4, 4])])
def test_no_more_bytes_wait_than_agreed(store: Store, transactions: list[int], more: int, together: list[int]) -> None:
    for number in range(8):
        write_lines(store.path, numbered(run(f"r{number}"), run=f"r{number}"), f"r{number}")
    size = len(b"".join(numbered(run("r0"), run="r0")))
    assert Loader(store.path, piece=3 * size + more).load().lines == 8 * len(run("r"))
    assert transactions == together


@pytest.mark.parametrize(("share", "together"), [(2.0, [2]), (2.5, [2]), (1.9, [1, 1]), (1.34, [1, 1])])
def test_journals_of_more_than_half_of_what_is_loaded_at_once_do_not_wait(
    store: Store, transactions: list[int], share: float, together: list[int]
) -> None:
    for name in ("a", "b"):
        write_lines(store.path, numbered(run(name), run=name), name)
    size = len(b"".join(numbered(run("a"), run="a")))
    assert Loader(store.path, piece=int(share * size)).load().lines == 2 * len(run("a"))
    assert transactions == together


def test_lines_that_wait_are_forgotten_when_their_run_is_read_again_and_those_of_others_are_not(
    store: Store, transactions: list[int]
) -> None:
    """The second journal of `b` gets a line that had been missing."""
    for name in ("a", "b"):
        write_lines(store.path, numbered(run(name)[:3], run=name), name)
    late = numbered(josh_episode("b", "MUL3").events, run="b", worker="w1")
    write_lines(store.path, [late[0], *late[2:]], "b", worker="w1")
    store.load()
    transactions.clear()
    for name in ("a", "b"):
        write_lines(store.path, numbered(run(name), run=name)[3:], name)
    write_lines(store.path, late[1:2], "b", worker="w1")
    report = Loader(store.path, piece=2 * len(b"".join(numbered(run("b"), run="b")))).load()
    assert store.query("SELECT count(*) FROM episodes GROUP BY run_id ORDER BY run_id").rows == [(2,), (3,)]
    assert transactions == [1, 1, 2]
    assert report.lines == len(run("a")) - 3 + len(run("b")) + len(late)
    assert [bad.kind for bad in report.damaged] == ["late"]
    messages = "SELECT count(*), count(DISTINCT (episode_id, branch_id, seq)) FROM messages"
    ((count, distinct),) = store.query(messages).rows
    assert count == distinct


def test_what_is_large_or_out_of_order_loads_alone(store: Store, transactions: list[int]) -> None:
    for name in ("a", "b", "c", "d"):
        lines = numbered(run(name), run=name)
        write_lines(store.path, [*lines[:3], b"junk\n", *lines[3:]] if name == "b" else lines, name)
    size = len(b"".join(numbered(run("a"), run="a")))
    Loader(store.path, piece=2 * size).load()
    assert len(transactions) > 2
    assert store.query("SELECT count(*) FROM episodes").rows == [(8,)]
    assert [line.run_id for line in store.damage()] == ["b"]


def test_a_doubled_line_without_a_number_is_found_in_a_small_journal_among_others(store: Store) -> None:
    """Journals of old versions begin with lines without numbers; the first number says how many there should be."""
    events = run("b")
    plain = write_journal(store.path, events[:3], "b").read_bytes().splitlines(keepends=True)
    write_lines(store.path, [plain[-1], *numbered(events[3:], run="b", first=3)], "b")
    for name in ("a", "c"):
        write_lines(store.path, numbered(run(name), run=name), name)
    assert [(bad.run_id, bad.kind) for bad in store.load().damaged] == [("b", "duplicate")]
    assert store.query("SELECT count(*) FROM episodes").rows == [(6,)]


def test_a_refused_line_keeps_no_other_journal_out(store: Store) -> None:
    for name in ("a", "b", "c"):
        write_journal(store.path, run(name), name)
    with (store.path / "journals" / "b" / "w0.jsonl").open("ab") as file:
        file.write(b'{"e":"Unknown"}\n')
    report = store.load()
    assert store.query("SELECT count(*) FROM episodes").rows == [(6,)]
    assert [(bad.run_id, bad.kind) for bad in report.unreadable] == [("b", "unreadable")]


def test_a_journal_that_cannot_be_synced_keeps_no_other_out(store: Store) -> None:
    for name in ("a", "b", "c"):
        write_journal(store.path, run(name), name)

    class Unsyncable:
        def __init__(self, path: Path) -> None:
            self._source, self._path = open_journal(path), path

        def sync(self) -> None:
            if self._path.parent.name == "b":
                raise OSError(errno.EIO, "lost")

        def __getattr__(self, name: str) -> object:
            return getattr(self._source, name)

    def opened(path: Path) -> JournalSource:
        return Unsyncable(path)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    report = Loader(store.path, source=opened).load()
    assert [bad.run_id for bad in report.unreadable] == ["b"]
    assert store.query("SELECT DISTINCT run_id FROM episodes ORDER BY ALL").rows[:1] == [("a",)]


def attempts() -> Iterator[tuple[str, list[Event]]]:
    """Three starts of one run in journals of their own, whose names and clocks tell another order."""
    for attempt, worker, clock in ((0, "w2", 3000.0), (1, "w0", 1000.0), (2, "w1", 2000.0)):
        events: list[Event] = [
            run_started(at=clock, attempt=attempt),
            *josh_episode(at=clock, attempt=attempt, opening=f"Start {attempt}").events,
            Measured("r1", "train", 1, {"loss": float(attempt)}, clock),
            ItemScored("r1", "suite", "item", "answered", float(attempt), clock),
        ]
        yield worker, [*events, RunFinished("r1", "done" if attempt == 2 else "failed", {"attempt": attempt}, clock)]


@pytest.mark.parametrize("together", [True, False])
def test_the_latest_attempt_counts_whatever_clocks_and_names_say(tmp_path: Path, together: bool) -> None:
    """Loaded together, and one after the other in every order."""
    for place, order in enumerate(permutations(attempts())):
        store = Store(tmp_path / f"{place}")
        for worker, events in order:
            write_lines(store.path, numbered(events, worker=worker), worker=worker)
            if not together:
                store.load()
        assert store.query("SELECT status, attempt, summary FROM runs").rows == [("done", 2, '{"attempt":2}')]
        assert store.query("SELECT attempt, journal FROM episodes").rows == [(2, "r1/w1.jsonl")]
        assert store.query("SELECT content FROM messages WHERE seq = 1").rows == [("Start 2",)]
        for table in ("metrics", "item_scores"):
            assert store.query(f"SELECT value, attempt, journal FROM {table}").rows == [(2.0, 2, "r1/w1.jsonl")]


@pytest.mark.parametrize("together", [True, False])
def test_where_attempts_are_equal_the_name_of_the_journal_decides(tmp_path: Path, together: bool) -> None:
    for place, order in enumerate(permutations(["w0", "w1"])):
        store = Store(tmp_path / f"{place}")
        for worker in order:
            scored = ItemScored("r1", "suite", "item", "answered", float(worker == "w1"), 5.0)
            events = [run_started(), Measured("r1", "train", 1, {"loss": float(worker == "w1")}, 5.0), scored]
            write_lines(store.path, numbered(events, worker=worker), worker=worker)
            if not together:
                store.load()
        for table in ("metrics", "item_scores"):
            assert store.query(f"SELECT value, attempt, journal FROM {table}").rows == [(1.0, 0, "r1/w1.jsonl")]


def test_starts_without_numbers_are_counted_in_each_journal(store: Store) -> None:
    for worker, starts in (("w0", 2), ("w1", 3)):
        lines = numbered([run_started()] * starts, worker=worker)
        write_journal(store.path, [run_started()] * 0, worker=worker)
        plain = [line.replace(b'"attempt":0,', b"").partition(b',"n"')[0] + b"}\n" for line in lines]
        write_lines(store.path, plain, worker=worker)
    store.load()
    assert store.query("SELECT journal, attempt FROM journals ORDER BY ALL").rows == [
        ("r1/w0.jsonl", 1),
        ("r1/w1.jsonl", 2),
    ]
    assert store.query("SELECT attempt FROM runs").rows == [(2,)]
