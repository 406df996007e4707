"""Every command is right while another process holds the database, and says on stderr what it read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app
from simkit.store import Store
from support.held_database import held


def simkit(*args: str | Path, store: Path) -> Result:
    return CliRunner().invoke(app, [*map(str, args), "--store", str(store)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a harvest of six trees and two evaluations, all loaded."""
    path = tmp_path_factory.mktemp("whole") / "store"
    agent = ("--agent", "scripted,error_rate=0.4")
    for name, *args in (("josh", "josh", "--beam", "4", *agent), ("rollout", "rollout"), ("again", "rollout", *agent)):
        done = simkit("run", *args, "--tasks", "6", "--name", name, "--seed", "3", "--quiet", store=path)
        assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def half(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store, with a database that was loaded from the first half of each journal only."""
    path = tmp_path_factory.mktemp("half") / "store"
    path.mkdir(mode=0o700)
    shutil.copytree(whole / "journals", path / "journals")
    rest: dict[Path, bytes] = {}
    for journal in path.rglob("*.jsonl"):
        lines = journal.read_bytes().splitlines(keepends=True)
        rest[journal] = b"".join(lines[len(lines) // 2 :])
        journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    Store(path).load()
    for journal, data in rest.items():
        with journal.open("ab") as file:
            file.write(data)
    return path


@pytest.fixture
def store(half: Path, tmp_path: Path) -> Path:
    """A copy of the half-loaded store, to change."""
    return Path(shutil.copytree(half, tmp_path / "store"))


@pytest.fixture(scope="module", params=[True, False], ids=["reader", "writer"])
def held_store(half: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy that another process has open, to ask."""
    path = Path(shutil.copytree(half, tmp_path_factory.mktemp("held") / "store"))
    with held(path / "simkit.duckdb", read_only=request.param):
        yield path


@pytest.fixture(scope="module")
def answers(whole: Path) -> Callable[[tuple[str, ...]], Result]:
    """What a command says of the store that is loaded and free."""

    @cache
    def answer(command: tuple[str, ...]) -> Result:
        return simkit(*command, store=whole)

    return answer


def journal_of(store: Path, name: str) -> Path:
    """The journal of the run of this name, found without the database."""
    journals = (store / "journals").glob("*/main.jsonl")
    return next(path for path in journals if f'"name":"{name}"' in path.read_text().partition("\n")[0])


def killed(store: Path, name: str) -> None:
    """Take the last line of a run's journal, its end, as if its process had been killed just before."""
    journal = journal_of(store, name)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    (store / "simkit.duckdb").unlink()


COMMANDS = (
    ("ls", "--json"),
    ("show", "josh", "--json"),
    ("show", "rollout", "--json"),
    ("sql", "select run_id, status, episodes, average_reward from run_summary", "--format", "csv"),
    ("sql", "select count(*) from messages", "--format", "json"),
    ("sql", "from harvest_counts"),
    ("doctor", "josh"),
    ("compare", "rollout", "again", "--json"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]).partition(" ")[0])
def test_a_held_database_changes_no_answer(
    answers: Callable[[tuple[str, ...]], Result], held_store: Path, command: tuple[str, ...]
) -> None:
    expected = answers(command)
    assert expected.exit_code == 0, expected.output
    assert expected.stderr == ""
    found = simkit(*command, store=held_store)
    assert found.exit_code == 0, found.output
    assert told(found.stdout) == told(expected.stdout)
    assert "note: another process, " in found.stderr


def told(text: str) -> list[object]:
    """Lines of output; JSON without what tells where it was read."""
    lines: list[object] = []
    for line in text.splitlines():
        if line.startswith(("{", "[")):
            value = json.loads(line)
            lines.append({**value, "state": None} if line.startswith("{") else value)
        elif "last line" not in line and not line.startswith("---"):
            lines.append(line)
    return lines


def test_an_export_of_a_held_store_has_every_example(whole: Path, held_store: Path, tmp_path: Path) -> None:
    assert simkit("export", "kto", "--run", "josh", "--out", tmp_path / "a.jsonl", store=whole).exit_code == 0
    wanted = ("--run", "josh", "--out", tmp_path / "b.jsonl", "--clean-of", "builtin:test")
    done = simkit("export", "kto", *wanted, store=held_store)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    assert "note: another process, " in done.stderr


@pytest.mark.parametrize("read_only", [True, False])
def test_a_run_played_while_the_database_is_held_is_found_at_once(store: Path, read_only: bool) -> None:
    with held(store / "simkit.duckdb", read_only=read_only):
        done = simkit("run", "josh", "--tasks", "2", "--name", "meanwhile", "--json", store=store)
        assert done.exit_code == 0, done.output
        assert "note: the run is recorded in its journal, but not loaded" in done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["kto_desirable"] > 0
        shown = simkit("show", "meanwhile", "--json", store=store)
        assert shown.exit_code == 0, shown.output
        (run,) = [
            each for each in json.loads(simkit("ls", "--json", store=store).stdout) if each["name"] == "meanwhile"
        ]
    assert (json.loads(shown.stdout)["status"], run["status"], run["episodes"]) == ("done", "done", 2)


REFUSED = (
    ("export", "kto", "--run", "josh", "--out", "OUT"),
    ("export", "sft", "--run", "rollout", "--run", "josh", "--source", "episodes", "--out", "OUT"),
    ("compare", "rollout", "again"),
)


@pytest.mark.parametrize("command", REFUSED, ids=lambda command: "-".join(command[:2]))
@pytest.mark.parametrize("read_only", [None, True])
def test_data_with_an_unreadable_line_are_refused(
    store: Path, tmp_path: Path, command: tuple[str, ...], read_only: bool | None
) -> None:
    journal = journal_of(store, "again" if "again" in command else "josh")
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[-3] = lines[-3][: len(lines[-3]) // 2] + b"\n"
    journal.write_bytes(b"".join(lines))
    args = [str(tmp_path / "out.jsonl") if arg == "OUT" else arg for arg in command]
    if read_only is None:
        refused = simkit(*args, store=store)
    else:
        with held(store / "simkit.duckdb", read_only=read_only):
            refused = simkit(*args, store=store)
    assert refused.exit_code == 1
    assert f"{journal}, line {len(lines) - 2} (byte {sum(map(len, lines[:-3]))})" in refused.stderr
    assert "--allow-incomplete" in refused.stderr
    assert not (tmp_path / "out.jsonl").exists()
    taken = simkit(*args, "--allow-incomplete", store=store)
    assert taken.exit_code == 0, taken.output
    assert f"line {len(lines) - 2}" in taken.stderr


def test_a_killed_run_is_compared_only_when_that_is_asked_for(store: Path) -> None:
    killed(store, "rollout")
    refused = simkit("compare", "rollout", "again", store=store)
    assert refused.exit_code == 1
    assert "has not come to its end and no process plays it" in refused.stderr
    assert "simkit resume rollout-" in refused.stderr
    taken = simkit("compare", "rollout", "again", "--allow-incomplete", store=store)
    assert taken.exit_code == 0, taken.output
    assert "note: run rollout-" in taken.stderr
    exported = simkit(
        "export", "sft", "--source", "episodes", "--run", "rollout", "--out", store / "a.jsonl", store=store
    )
    assert exported.exit_code == 0, exported.output
    assert "6 of 6 episodes finished" in exported.stderr


def test_a_training_refuses_a_run_that_has_not_come_to_its_end(store: Path) -> None:
    killed(store, "josh")
    done = simkit("train", "kto", "--model", "nowhere", "--data", "josh", "--held-out", "none", store=store)
    assert done.exit_code == 1
    assert "has not come to its end" in done.stderr
