"""A model call in the viewer: its answer, and its request, which is stored, built again, or said to be missing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.store import Reader, Store
from simkit.viewing.api import answer

MODEL = ("--model", "scripted/Which day?|And at what time?|Good.", "--temperature", "0.5")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs of a model: as agent and user, as one that reads a file, and in trees."""
    path = tmp_path_factory.mktemp("asked")
    shown = path / "shown.jsonl"
    shown.write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}) + "\n"
    )
    runs = (
        ("both", "rollout", "--user", "goal"),
        ("shown", "rollout", "--agent", f"react,examples={shown}"),
        ("trees", "josh", "--beam", "2"),
        ("whole", "rollout", "--split", "train", "--record-requests"),
    )
    for name, *args in runs:
        flags = ("--tasks", "1", "--max-turns", "3", "--name", name, "--quiet", "--store", str(path / "store"))
        CliRunner().invoke(app, ["run", *args, *MODEL, *flags])
    return path / "store"


@pytest.fixture
def changed(asked: Path, tmp_path: Path) -> Path:
    """A copy of the store, to change."""
    return Path(shutil.copytree(asked, tmp_path / "store"))


def calls(reader: Reader, run: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every model call of a run with its path, as a page finds and asks for it."""
    (row,) = reader.rows("select run_id, task_id, trial from episodes where run_id = ?", [reader.resolve(run).run_id])
    episode = f"{row['run_id']}/{row['task_id']}/{row['trial']}"
    nodes = answer(reader, f"/api/episodes/{episode}")["nodes"]
    for path, turn in zip(nodes["path"], nodes["turn"], strict=True):
        for call in answer(reader, f"/api/transcript/{episode}/{path}.{turn}")["model_calls"]:
            if (call["path"], call["turn"]) == (path, turn):
                yield f"/api/calls/{episode}/{call['call_id']}", call


@pytest.mark.parametrize("run", ["both", "shown", "trees"])
def test_every_request_is_built_again_with_the_recorded_hash(asked: Path, run: str) -> None:
    with Store(asked).reading() as reader:
        found = [(call, answer(reader, path)) for path, call in calls(reader, run)]
        (count,) = reader.query("select count(*) from model_calls where episode_id like ?", [f"%{run}%"]).rows[0]
    assert found
    assert len({call["call_id"] for call, _ in found}) == len(found) >= count
    for call, value in found:
        assert (value["state"], value["hash"]) == ("rebuilt", value["hash"])
        assert value["request"]["model"] == value["model"] == call["model"]
        assert value["request"]["messages"][0]["role"] == "system"
        assert value["params"]["seed"] == value["request"]["seed"]
        assert value["params"].get("temperature") == (0.5 if call["role"] == "agent" else None)  # not the user's
        assert value["error"] or value["response"]["message"]["role"] == "assistant"
    assert {call["role"] for call, _ in found} == ({"agent", "user"} if run == "both" else {"agent"})


def test_a_stored_request_is_shown_and_is_the_one_that_is_built_again(asked: Path) -> None:
    with Store(asked).reading() as reader:
        stored = [answer(reader, path) for path, _ in calls(reader, "whole")]
        built = [answer(reader, path) for path, _ in calls(reader, "trees")]
    assert {value["state"] for value in stored} == {"recorded"}
    first, same = stored[0], built[0]
    assert first["request"]["messages"] == same["request"]["messages"]
    assert first["request"]["tools"] == same["request"]["tools"]
    assert len({value["hash"] for value in stored}) == len(stored)


def change(store: Path, *statements: str) -> None:
    with Store(store).loader.writing() as database:
        for statement in statements:
            database.execute(statement)


def test_a_request_with_another_hash_says_what_differs(changed: Path) -> None:
    change(changed, "update messages set message = replace(message::varchar, 'Which day', 'What day')::json")
    with Store(changed).reading() as reader:
        found = [answer(reader, path) for path, _ in calls(reader, "both")]
    assert found[0]["state"] == "rebuilt"  # nothing that it was made from has changed
    later = [value for value in found if value["role"] == "agent"][1:]
    assert {value["state"] for value in later} == {"differs"}
    assert later[0]["reason"].startswith("message 1 (counted from 0) is different")
    assert later[0]["request"]["messages"][1]["content"] == "What day?"


def test_a_request_that_differs_does_not_show_files_that_the_store_names(changed: Path) -> None:
    change(changed, "update model_calls set request_hash = 'another'")
    with Store(changed).reading() as reader:
        (path, _), *_ = calls(reader, "shown")
        found = answer(reader, path)
    assert (found["state"], found["request"]) == ("differs", None)


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("{place}/evil.py:Evil", "is not installed here, and the viewer runs no code that a store names"),
        ("evil:Evil", "is not installed here"),
        ("react,examples={place}/gone.jsonl", "which is not here, or not a plain file"),
        ("react,examples={place}/pipe", "which is not here, or not a plain file"),
        ("react,nothing=1", "its component cannot be asked again"),
        ("scripted", "its component did not make this call again"),
    ],
)
def test_no_code_of_a_store_is_run_and_the_reason_is_told(changed: Path, agent: str, reason: str) -> None:
    os.mkfifo(changed / "pipe")
    (changed / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()\n")
    named = agent.format(place=changed)
    change(changed, f"""update runs set config = json_merge_patch(config, '{{"agent": "{named}"}}')""")
    with Store(changed).reading() as reader:
        found = next(answer(reader, path) for path, call in calls(reader, "trees") if call["role"] == "agent")
    assert (found["state"], found["request"]) == ("unavailable", None)
    assert reason in found["reason"]
    assert found["response"] is not None
    assert not (changed / "evil.ran").exists()


def test_judges_and_programs_are_told_apart(changed: Path) -> None:
    change(changed, "update model_calls set role = 'judge'")
    with Store(changed).reading() as reader:
        (path, _), *_ = calls(reader, "trees")
        assert "requests of judges" in answer(reader, path)["reason"]
    change(
        changed,
        "update model_calls set role = 'agent', request_hash = 'another'",
        """update runs set config = json_merge_patch(config, '{"target": null}')""",
    )
    with Store(changed).reading() as reader:
        (path, _), *_ = calls(reader, "trees")
        assert "started by a program" in answer(reader, path)["reason"]
