"""`simkit export` and `simkit check` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_examples import demonstrations, judged
from typer.testing import CliRunner, Result

from simkit import __version__ as version
from simkit.cli.app import app
from simkit.core.messages import AssistantMessage, ToolCall
from simkit.data.examples import ExampleSet, KtoExample
from simkit.data.export import write
from simkit.data.reading import read_examples
from simkit.store import Store


def simkit(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a harvest and a rollout."""
    place = tmp_path_factory.mktemp("export") / "store"
    for words in (("josh", "--beam", "4", "--name", "first"), ("rollout", "--trials", "2", "--name", "second")):
        done = simkit("run", *words, "--tasks", "5", "--quiet", "--store", place)
        assert done.exit_code == 0, done.output
    return place


def test_the_command_of_before_is_as_it_was(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "kto.jsonl"
    done = simkit("export", "kto", "--run", "first", "--out", out, "--store", store)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert f"{out}: {len(rows)} KTO examples" in done.stdout
    assert {tuple(row) for row in rows} == {("prompt", "completion", "label", "tools", "origin")}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("examples.csv", "has the extension '.csv'"),
        ("examples", "has the extension ''"),
        ("missing/examples.jsonl", "does not exist; create it"),
        (f"{'x' * 300}.jsonl", "File name too long"),
        (f"{'x' * 300}.parquet", "File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    store: Path, tmp_path: Path, name: str, said: str
) -> None:
    done = simkit("export", "kto", "--run", "no such run", "--out", tmp_path / name, "--store", store)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_several_runs_conditions_and_bounds(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "sft.parquet"
    flags = ["--source", "episodes", "--where", "turns < 100", "--max-per-task", "1", "--limit", "3"]
    words = ["export", "sft", "--run", "first", "--run", "second", *flags, "--out", out, "--store", store]
    done = simkit(*words, "--clean-of", "builtin:val", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["written"], told["kind"]) == (3, "sft")
    assert told["removed"]["over_limit"] > 0
    assert len(read_examples(out).task_ids) == 3


def test_test_tasks_are_refused_or_dropped(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "sft.jsonl"
    words = ["export", "sft", "--run", "second", "--source", "episodes", "--out", out, "--store", store]
    words += ["--clean-of", "builtin:test"]
    refused = simkit(*words)
    assert refused.exit_code == 2
    assert "are of builtin:test: test-00000 in" in refused.stderr
    assert not out.exists()
    dropped = simkit(*words, "--drop-held-out")
    assert dropped.exit_code == 0
    assert "examples of held-out tasks" in dropped.stdout


def test_a_file_is_checked_and_written_again(tmp_path: Path) -> None:
    system = tmp_path / "system.txt"
    system.write_text("You help.\n")
    file, out = write(judged(4), tmp_path / "a.jsonl"), tmp_path / "b.parquet"
    done = simkit("check", file, "--out", out, "--system", system)
    assert done.exit_code == 0, done.output
    assert "labels: 2 desirable, 2 undesirable" in done.stdout
    assert len(read_examples(out)) == 4
    assert json.loads(simkit("check", file, "--json").stdout)["ok"] is True


def test_data_that_is_not_fit_is_refused_with_reasons(tmp_path: Path) -> None:
    null = AssistantMessage.of(None, (ToolCall.of("c", "find_hotel", {"area": None}),))
    first = judged(2).judged[0]
    examples = ExampleSet("kto", (*judged(2).judged, KtoExample(prompt=first.prompt, completion=(null,), label=True)))
    done = simkit("check", write(examples, tmp_path / "a.jsonl"), "--out", tmp_path / "b.jsonl")
    assert done.exit_code == 2
    assert "error: nulls: an argument is null" in done.stdout
    assert "not fit to train on (nulls" in done.stderr
    assert not (tmp_path / "b.jsonl").exists()


def test_a_file_that_does_not_say_its_tasks_cannot_be_called_clean(tmp_path: Path) -> None:
    done = simkit("check", write(demonstrations(2), tmp_path / "a.jsonl"), "--clean-of", "builtin:test")
    assert done.exit_code == 2
    assert "examples are unknown, so they cannot be checked" in done.stderr


def test_a_run_without_a_harvest_names_the_source_that_has_conversations(store: Path, tmp_path: Path) -> None:
    """Before, an empty file was written without a word."""
    out = tmp_path / "sft.jsonl"
    done = simkit("export", "sft", "--run", "second", "--out", out, "--store", store)
    assert done.exit_code == 2
    assert "second has no harvest" in " ".join(done.output.split())
    assert "--source episodes" in done.output
    assert not out.exists()


def test_no_examples_are_an_error_that_says_what_was_left_out(store: Path, tmp_path: Path) -> None:
    words = (
        "export",
        "sft",
        "--run",
        "second",
        "--source",
        "episodes",
        "--store",
        store,
        "--out",
        tmp_path / "a.jsonl",
    )
    done = simkit(*words, "--where", "turns > 1000")
    assert done.exit_code == 2
    assert "second has no sft examples to write" in " ".join(done.output.split())


@pytest.mark.parametrize("flags", [(), ("--no-origin",)])
def test_rows_say_where_they_come_from_unless_that_is_left_out(
    store: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    out = tmp_path / "a.jsonl"
    done = simkit("export", "kto", "--run", "first", "--out", out, "--store", store, *flags)
    assert ("cannot be checked for held-out tasks later" in done.stderr) is bool(flags)
    row = json.loads(out.read_text().splitlines()[0])
    assert ("origin" in row) is not bool(flags)
    if not flags:
        origin = row["origin"]
        (known,) = Store(store).query("from episode_facts where episode_id = ?", [origin["episode_id"]]).dicts()
        told = ("run_id", "task_id", "trial", "world", "split", "reward")
        assert {name: origin[name] for name in told} == {name: known[name] for name in told}
        assert (origin["agent"], origin["simkit"]) == (known["agent"] or "", version)
        assert origin["branch_id"].startswith(origin["episode_id"])
