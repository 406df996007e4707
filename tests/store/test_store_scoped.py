"""Answers about some runs read their rows alone, and are those of the whole store."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_events import josh_episode, run_finished, run_started, write_journal

from simkit.core.events import Event
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.store import Store
from simkit.store.database import connected
from simkit.store.tables import MANY, OWNERS, rows_of

RUNS = ("a", "a/", "a0", "b'c", "b")
"""Names that are beginnings of each other, and one that SQL has to quote; a slash cannot be in one."""

NAMES = tuple(name for name in RUNS if "/" not in name)

VIEWS = (
    *("run_summary", "episode_scores", "episode_goals", "pass_hat_k", "units", "user_flags", "harvest_counts"),
    *("sft_examples", "kto_examples", "dpo_pairs", "episode_facts"),
)


def run(name: str, tasks: int) -> list[Event]:
    events = [event for task in range(tasks) for event in josh_episode(name, f"MUL{task}", opening=f"Hi {name}").events]
    return [run_started(name, name=f"name {name}"), *events, run_finished(name)]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("several"))
    for tasks, name in enumerate(NAMES, 1):
        write_journal(store.path, run(name, tasks), name)
    store.load()
    return store


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("runs", [["a"], ["b'c"], ["a0", "b"], ["none"], [*NAMES]], ids=str)
def test_a_scoped_answer_is_that_of_the_whole_store(several: Store, view: str, runs: list[str], copy: bool) -> None:
    with several.reading() as reader, reader.scoped(runs, copy=copy) as own:
        expected = reader.query(f"FROM {view} WHERE list_contains(?, run_id)", [runs]).rows
        assert sorted(own.query(f"FROM {view}").rows, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("table", OWNERS)
@pytest.mark.parametrize("many", [False, True])
def test_the_rows_of_runs_are_those_whose_keys_begin_with_them(several: Store, table: str, many: bool) -> None:
    runs = ["a", "b'c", *(f"none{number}" for number in range(MANY if many else 0))]
    key = OWNERS[table]
    expected = f"SELECT count(*) FROM {table} WHERE list_contains($runs, split_part({key}, '/', 1))"
    with several.reading() as reader:
        (whole,) = reader.query(expected, {"runs": runs}).rows
        assert reader.query(f"SELECT count(*) FROM {table} WHERE {rows_of(table, runs)}").rows == [whole]
        assert reader.query(f"SELECT count(*) FROM {table} WHERE {rows_of(table, ())}").rows == [(0,)]


def test_every_table_says_which_run_a_row_belongs_to(several: Store) -> None:
    with several.reading() as reader:
        tables = {name for (name,) in reader.query("SELECT table_name FROM duckdb_tables()").rows}
    assert tables == {*OWNERS, "toolsets", "store_format", "notes", "loaded_notes"}


def test_tables_hold_the_rows_of_the_runs_alone(several: Store) -> None:
    with several.reading() as reader, reader.scoped(["a"]) as own:
        assert own.query("SELECT DISTINCT run_id FROM episodes").rows == [("a",)]
        assert own.query("SELECT count(*) FROM toolsets").rows == [(1,)]
        assert [run.run_id for run in own.state.runs] == ["a"]
        assert reader.query("SELECT count(DISTINCT run_id) FROM episodes").rows == [(len(NAMES),)]


def test_a_query_with_scope_costs_what_its_runs_cost(several: Store) -> None:
    found = several.query("SELECT DISTINCT run_id FROM episodes", runs=["a0"], scoped=True)
    assert found.rows == [("a0",)]
    assert several.query("SELECT count(DISTINCT run_id) FROM episodes", runs=["a0"]).rows == [(len(NAMES),)]
    assert several.query("SELECT count(DISTINCT run_id) FROM episodes", scoped=True).rows == [(len(NAMES),)]


def test_what_is_done_in_a_scope_changes_nothing_else(several: Store) -> None:
    with several.reading() as reader, reader.scoped(["a"]) as own:
        own.query("DELETE FROM runs")  # of the copy in memory
        for sql in ("COPY runs TO 'x.csv'", "DELETE FROM store_format"):
            with pytest.raises(UsageError):
                own.query(sql)
        assert reader.query("SELECT count(*) FROM runs").rows == [(len(NAMES),)]


def test_a_condition_with_a_subquery_sees_the_whole_store(several: Store) -> None:
    condition = "(SELECT count(DISTINCT run_id) FROM episodes) = 4"
    assert len(select(several, "sft", Selection(runs=("a",), where=condition))) == 1


@pytest.mark.parametrize("kind", ["sft", "kto", "dpo"])
def test_the_selection_of_one_run_is_that_of_a_store_of_its_own(several: Store, tmp_path: Path, kind: str) -> None:
    alone = Store(tmp_path)
    write_journal(alone.path, run("a0", 2), "a0")
    found, expected = (select(each, kind, Selection(runs=("a0",))) for each in (several, alone))  # pyright: ignore[reportArgumentType]
    assert found.examples == expected.examples
    assert found.removed == expected.removed


def test_a_conversation_is_read_from_its_tree_alone(several: Store) -> None:
    branch = "a/MUL0/0/LR.2"
    expected = [
        *(("S",), ("Hi a",), (None,), ("[]",), ("Which area?",), ("North",)),
        *((None,), ("[]",), ("Booked.",)),
    ]
    assert several.query("SELECT content FROM conversation(?)", [branch]).rows == expected
    assert several.query("SELECT content FROM conversation('nothing')").rows == []


def test_no_row_of_a_run_is_left_behind_when_it_is_loaded_again(several: Store) -> None:
    query = " UNION ALL BY NAME ".join(f"SELECT '{table}' AS name, count(*) AS rows FROM {table}" for table in OWNERS)
    before = several.query(query).rows
    several.loader.reload(["a", "b"])
    assert several.query(query).rows == before
    with connected(several.database, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM journals").fetchone() == (len(NAMES),)
