from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from store_events import Script, josh_episode, run_finished, run_started, write_journal

from simkit.core.conversation import Entry
from simkit.core.events import ModelCall
from simkit.core.ids import branch_id, child_path
from simkit.errors import UsageError
from simkit.store import Store
from simkit.store import reader as reader_module
from simkit.store.tree_view import TreeNode, path_key


def three_runs(store: Store) -> None:
    for number, name in enumerate(("first", "second", "second")):
        run = f"2026-{number}"
        write_journal(store.path, [run_started(run, name, at=1000.0 + number), *josh_episode(run).events], run=run)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("last", "2026-2"), ("2026-0", "2026-0"), ("first", "2026-0"), ("second", "2026-2"), ("fi", "2026-0")],
)
def test_a_run_by_id_name_or_beginning(store: Store, asked: str, found: str) -> None:
    three_runs(store)
    assert store.resolve(asked).run_id == found


@pytest.mark.parametrize("asked", ["last", "second"])
def test_a_run_that_failed_before_it_played_anything_hides_no_other(store: Store, asked: str) -> None:
    three_runs(store)
    failed = replace(run_finished("2026-3"), status="failed")
    write_journal(store.path, [run_started("2026-3", "second", at=1003.0), failed], run="2026-3")
    assert store.resolve(asked).run_id == "2026-2"
    assert store.resolve("2026-3").run_id == "2026-3"


@pytest.mark.parametrize(
    ("asked", "message"),
    [("2026", "3 runs begin with '2026'.*first"), ("third", "there is no run 'third'.*second")],
)
def test_a_run_that_cannot_be_told(store: Store, asked: str, message: str) -> None:
    three_runs(store)
    with pytest.raises(UsageError, match=message):
        store.resolve(asked)


def test_the_name_of_a_run_cannot_look_like_another_line(store: Store) -> None:
    write_journal(store.path, [run_started(name="a\nerror: b")])
    with pytest.raises(UsageError, match=r"take one of: a\\nerror: b \("):
        store.resolve("nobody")


def test_a_query_that_is_interrupted_ends_as_other_commands_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise RuntimeError("Query interrupted")

    three_runs(store)
    monkeypatch.setattr(reader_module, "_fetched", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.query("select 1")


def test_an_empty_store_says_how_to_begin(store: Store) -> None:
    assert store.runs() == ()
    with pytest.raises(UsageError, match="start one with `simkit run`"):
        store.resolve()


def test_runs_with_their_scores(store: Store) -> None:
    three_runs(store)
    write_journal(store.path, [run_finished("2026-1")], run="2026-1")
    runs = store.runs()
    assert [(run.name, run.status, run.episodes, run.average_reward) for run in runs] == [
        ("first", "running", 1, 1.0),
        ("second", "done", 1, 1.0),
        ("second", "running", 1, 1.0),
    ]
    assert runs[1].seconds == 999.0


def walk(node: TreeNode) -> Iterator[TreeNode]:
    """A branch and everything below it, left before right."""
    yield node
    for child in node.children:
        yield from walk(child)


@pytest.mark.parametrize("episode", ["r1/MUL1/0", "MUL1/0", "MUL1"])
def test_the_tree_of_an_episode(store: Store, episode: str) -> None:
    write_journal(store.path, [run_started(), *josh_episode().events])
    tree = store.tree("last", episode)
    assert (tree.reward, tree.goals, tree.instructions) == (1.0, ("book",), "Book MUL1.")
    assert tree.root is not None
    assert [(node.path, node.golden, node.winner, node.said) for node in walk(tree.root)] == [
        ("", True, False, None),
        ("L", True, False, "Which area?"),
        ("LL", False, False, "I give up."),
        ("LR", True, True, "Booked."),
        ("R", False, False, "No idea."),
    ]
    winner = next(node for node in walk(tree.root) if node.winner)
    assert winner.calls == ('book {"area": "north"}',)
    assert (winner.goals, winner.credited) == (("book",), ("book",))


def test_branches_stand_left_to_right(store: Store) -> None:
    script = Script()
    root = script.open()
    for arm in (10, 2, 0):
        script.says(root, child_path("", arm, 11), f"arm {arm}")
    write_journal(store.path, [run_started(), *script.events])
    tree = store.tree("last", "MUL1").root
    assert tree is not None
    assert [node.path for node in tree.children] == ["0", "2", "10"]
    assert sorted(["R", "", "LR", "L"], key=path_key) == ["", "L", "LR", "R"]


def test_an_episode_under_way_has_a_tree(store: Store) -> None:
    script = Script()
    script.open()
    write_journal(store.path, [run_started(), *script.events[:3]])
    assert store.tree("last", "MUL1").root is None


def test_an_episode_that_is_not_there(store: Store) -> None:
    three_runs(store)
    with pytest.raises(UsageError, match=r"run 2026-2 has no episode 'MUL9' .did you mean `MUL.*simkit show 2026-2"):
        store.tree("last", "MUL9")


def test_a_transcript_with_its_authors(store: Store) -> None:
    script = josh_episode()
    write_journal(store.path, [run_started(), *script.events])
    found = store.transcript(branch_id(script.id, "LR", 2))
    authors = ["system", "user", "agent", "tool", "agent", "user", "agent", "tool", "agent"]
    assert [line.author for line in found.lines] == authors
    assert [line.heard for line in found.lines if line.heard] == ["Hello", "Which area?", "North", "Booked."]
    with pytest.raises(UsageError, match="there is no branch 'nowhere'"):
        store.transcript("nowhere")


def test_model_calls_and_faults_are_rows(store: Store) -> None:
    script = Script()
    root = script.open()
    script.turn(root, "L", [Entry.agent("half", 1)], outcome="model_fault", error="ModelFault: 500")
    spent = ModelCall(script.id, root.id, "agent", 0, 1, "m", "h", None, {"a": 1}, "500", 10, 2, 0.25, 1.5, 1001.0)
    write_journal(store.path, [run_started(), *script.events, spent])
    found = store.query("SELECT role, attempt, model, request, response, error, cost FROM model_calls")
    assert found.rows == [("agent", 1, "m", None, '{"a":1}', "500", 0.25)]
    assert store.query("SELECT error FROM branches WHERE outcome = 'model_fault'").rows == [("ModelFault: 500",)]


def test_results_carry_names_and_types(store: Store) -> None:
    found = store.query("SELECT 1 AS a, 'x' AS b, [1.5] AS c WHERE 1 = $one", {"one": 1})
    assert (found.columns, found.types) == (("a", "b", "c"), ("INTEGER", "VARCHAR", "DECIMAL(2,1)[]"))
    assert found.dicts()[0]["b"] == "x"


def test_every_table_and_view_is_described(store: Store) -> None:
    found = store.query(
        "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL "
        "UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
    )
    assert found.rows == []


@pytest.mark.parametrize("query", ["", "  \n", ";", ";;", "-- which runs?", "/* none */"])
def test_a_query_without_a_statement_says_so(query: str, store: Store) -> None:
    write_journal(store.path, [run_started()])
    with pytest.raises(UsageError, match="the query is empty"):
        store.query(query)
