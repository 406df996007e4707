"""The values behind the viewer's URLs: what they hold, and that they are those of the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simkit.comparison import Arm, compare
from simkit.errors import ViewRefused
from simkit.store import Reader, Store
from simkit.viewing.api import answer, to_bytes
from simkit.viewing.values import LONGEST


@pytest.fixture(scope="module")
def reader(played: Path) -> Iterator[Reader]:
    with Store(played).reading() as found:
        yield found


def ask(reader: Reader, path: str, **query: str) -> Any:
    """The answer as a page gets it."""
    return json.loads(to_bytes(answer(reader, path, query)))


def test_the_list_has_every_run_with_the_scores_of_its_summary(reader: Reader) -> None:
    rows = ask(reader, "/api/runs")
    assert [row["name"] for row in rows] == ["after", "before", "trees"]
    for row in rows:
        (summary,) = reader.query("select summary from runs where run_id = ?", [row["run_id"]]).rows[0]
        told = json.loads(summary)
        assert (row["reward"], row["success"]) == (told["reward"], told["success_rate"])
        assert row["episodes"] == row["finished"] == row["expected"]
        assert row["started_at"].endswith("Z")
        assert row["last_line_at"] >= row["started_at"]
        assert (row["status"], row["world"], row["error"], row["alive"]) == ("done", "builtin", None, False)
    assert len(rows[0]["pass_k"]) == 2


def test_a_run_that_has_not_reported_its_scores_gets_the_same_numbers(store: Path) -> None:
    with Store(store).reading() as reader:
        told = ask(reader, "/api/runs")
    for journal in (store / "journals").glob("*/main.jsonl"):
        lines = journal.read_bytes().splitlines(keepends=True)
        assert b'"RunFinished"' in lines[-1]
        journal.write_bytes(b"".join(lines[:-1]))
    (store / "simkit.duckdb").unlink()
    with Store(store).reading() as reader:
        found = ask(reader, "/api/runs")
    for before, now in zip(told, found, strict=True):
        assert (now["status"], now["alive"]) == ("running", False)
        assert now["last_line_at"] is not None
        assert now["reward"] == pytest.approx(before["reward"])
        assert now["success"] == pytest.approx(before["success"])


def test_a_run_is_found_by_name_beginning_and_last(reader: Reader) -> None:
    trees = ask(reader, "/api/runs/trees")["run_id"]
    assert ask(reader, f"/api/runs/{trees[:-2]}")["run_id"] == trees
    assert ask(reader, "/api/runs/last")["name"] == "after"


def test_an_unknown_run_names_near_ones(reader: Reader) -> None:
    with pytest.raises(ViewRefused, match="there is no run 'befor_'") as caught:
        answer(reader, "/api/runs/befor_")
    assert caught.value.status == 404
    assert [each for each in caught.value.near if each == reader.resolve("before").run_id]


@pytest.mark.parametrize(
    "path",
    [
        "/api/nothing",
        "/api",
        "/",
        "/api/runs/last/nothing",
        "/api/episodes/last",
        "/api/episodes/last/test-00000",
        "/api/episodes/last/test-00000/99",
        "/api/episodes/last/nothing/0",
        "/api/episodes/last/test-00000/x",
        "/api/transcript/last/test-00000/0/LLL.9",
        "/api/transcript/last/test-00000/0",
        "/api/message/last/test-00000/0/.0/99",
        "/api/message/last/test-00000/0/.0/x",
        "/api/calls/last/test-00000/0/.1~agent~0~0~0",
        "/api/calls/last/test-00000/0/x",
        "/api/runs/%2e%2e%2f%2e%2e%2fetc/trees",
    ],
)
def test_what_is_not_there_is_not_found(reader: Reader, path: str) -> None:
    with pytest.raises(ViewRefused) as caught:
        answer(reader, path)
    assert caught.value.status == 404


def test_a_run_has_its_episodes_by_column(reader: Reader) -> None:
    page = ask(reader, "/api/runs/before")
    episodes = page["episodes"]
    assert {len(column) for column in episodes.values()} == {12}
    scores = reader.rows("from episode_scores where run_id = ?", [page["run_id"]])
    for name in ("task_id", "trial", "reward", "success", "outcome", "achieved", "goals", "turns", "faults"):
        assert episodes[name] == [row[name] for row in scores], name
    assert episodes["running"] == [False] * 12
    assert sum(page["outcomes"].values()) == 12
    assert page["units"] == {"done": 12, "kept": 0, "not_played": {}}
    assert page["harvest"] is None
    assert page["summary"][0] == ["average reward", *page["reward"].values()]
    assert page["config"]["target"] == "rollout"
    assert ask(reader, "/api/runs/trees")["harvest"]["golden_branches"] > 0


def test_the_trees_are_those_of_the_episodes(reader: Reader) -> None:
    found = ask(reader, "/api/runs/trees/trees")
    assert found["next"] is None
    for name, tree in found["trees"].items():
        nodes = ask(reader, f"/api/episodes/trees/{name}")["nodes"]
        assert {column: nodes[column] for column in ("parent", "turn", "mark")} == {
            column: tree[column] for column in ("parent", "turn", "mark")
        }
        assert all(parent < place for place, parent in enumerate(tree["parent"]))
        assert tree["parent"].count(-1) == 1
    rewards = [ask(reader, f"/api/episodes/trees/{name}")["reward"] for name in found["trees"]]
    assert rewards == sorted(rewards)


def test_an_episode_says_why_a_goal_was_missed(reader: Reader) -> None:
    run = reader.resolve("before").run_id
    seen = 0
    for task, trial in reader.query("select task_id, trial from episodes where run_id = ?", [run]).rows:
        page = ask(reader, f"/api/episodes/{run}/{task}/{trial}")
        reports = reader.goals(reader.tree(run, f"{task}/{trial}"))
        assert [(why["goal"], why["earned"]) for why in page["why"]] == [(each.goal, each.reached) for each in reports]
        for why, report in zip(page["why"], reports, strict=True):
            assert why["wanted"] == report.wanted
            if why["differences"]:
                seen += 1
                assert not why["earned"]
                made = json.loads(why["nearest"]["arguments"])
                for each in why["differences"]:
                    assert each["got"] == made.get(each["argument"]) != each["wanted"]
                    assert f"wanted {each['wanted']}" in why["text"]
                lines = ask(reader, f"/api/transcript/{run}/{task}/{trial}/{page['final']}")["lines"]
                answered = next(line for line in lines if line["seq"] == why["nearest"]["seq"])
                assert answered["tool"]["name"] == why["nearest"]["name"]
            if why["earned"]:
                assert why["turn"] is not None
    assert seen


def test_episodes_know_their_neighbours_and_trials(reader: Reader) -> None:
    names = [f"test-0000{task}/{trial}" for task in range(6) for trial in range(2)]
    for place, name in enumerate(names):
        page = ask(reader, f"/api/episodes/before/{name}")
        assert page["prev"] == (names[place - 1] if place else None)
        assert page["next"] == (names[place + 1] if place + 1 < len(names) else None)
        assert page["trials"]["trial"] == [0, 1]


def test_a_transcript_is_the_conversation_of_the_store(reader: Reader) -> None:
    page = ask(reader, "/api/episodes/trees/train-00000/0")
    found = ask(reader, f"/api/transcript/trees/train-00000/0/{page['final']}")
    told = reader.transcript(found["branch_id"])
    assert [line["seq"] for line in found["lines"]] == [line.seq for line in told.lines]
    for line, known in zip(found["lines"], told.lines, strict=True):
        assert (line["content"], line["heard"]) == (known.message.get("content"), known.heard)
        calls = known.message.get("tool_calls") or ()
        assert [call["arguments"] for call in line["tool_calls"]] == [call["function"]["arguments"] for call in calls]
        assert line["cut"] is None
        assert len(line["digest"]) == 16
    assert any(line["tool"] and line["tool"]["seconds"] is not None for line in found["lines"])


def test_a_search_finds_words_whatever_their_case(reader: Reader) -> None:
    found = ask(reader, "/api/runs/before/search", q="HOTEL", limit="3")
    assert len(found["hits"]) == 3
    assert found["more"]
    for hit in found["hits"]:
        assert hit["snippet"][1].lower() == "hotel"
    assert ask(reader, "/api/runs/before/search", q="%") == {"hits": [], "more": False}
    assert ask(reader, "/api/runs/before/search", q=" ") == {"hits": [], "more": False}


def test_a_comparison_is_that_of_the_command_and_has_every_task(reader: Reader) -> None:
    found = ask(reader, "/api/compare", a="before", b="after")
    arms = [Arm(name, (reader.resolve(name).run_id,)) for name in ("before", "after")]
    told = json.loads(to_bytes(compare(reader, arms).to_json()))
    assert found["claims"] == told["claims"]
    assert found["differences"] == told["differences"]
    assert [row["run_id"] for row in found["runs"]["a"]] == [reader.resolve("before").run_id]
    for task in found["tasks"]:
        scores = [ask(reader, f"/api/episodes/before/{task['task_id']}/{trial}")["reward"] for trial in (0, 1)]
        assert task["trials_a"] == scores
        assert task["difference"] == pytest.approx(task["b"] - task["a"])
    changes = [task["difference"] for task in found["tasks"]]
    assert changes == sorted(changes)


@pytest.mark.parametrize("query", [{}, {"a": "before"}, {"a": "before", "b": "before"}, {"a": "trees", "b": "after"}])
def test_a_comparison_that_cannot_be_made_says_why(reader: Reader, query: dict[str, str]) -> None:
    with pytest.raises(ViewRefused) as caught:
        answer(reader, "/api/compare", query)
    assert caught.value.status == 400
    assert str(caught.value)


def test_long_texts_are_cut_and_can_be_had_whole(store: Path) -> None:
    with Store(store).loader.writing() as database:
        database.execute("update messages set content = repeat('ä', 30000), heard = content where author = 'user'")
    with Store(store).reading() as reader:
        final = ask(reader, "/api/episodes/before/test-00000/0")["final"]
        lines = ask(reader, f"/api/transcript/before/test-00000/0/{final}")["lines"]
        line = next(line for line in lines if line["author"] == "user")
        assert (len(line["content"]), line["cut"]) == (LONGEST, 60000)
        whole = ask(reader, f"/api/message/before/test-00000/0/{final}/{line['seq']}")
        assert whole["content"] == "ä" * 30000


def test_what_json_does_not_have_is_sent_all_the_same() -> None:
    value = {"a": "x\ud800", "n": 1 << 70, "i": float("inf"), "t": (1, None, True), "\udfff": ["\n\x1b"]}
    found = json.loads(to_bytes(value))
    assert found == {"a": "x?", "n": float(1 << 70), "i": None, "t": [1, None, True], "?": ["\n\x1b"]}
