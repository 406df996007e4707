"""The key is in nothing that a run leaves behind: journals, database, logs, output, tracebacks, spans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.from_thread
import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.testing.behaviour import Behaviour, Faults
from simkit.testing.server import LoadServer, serve

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"
KEY = "sk-Proj-0123456789ABCdefSecret"

CRASHING = """
from simkit.agents.scripted import ScriptedAgent

class Crashing(ScriptedAgent):
    def __init__(self, world, model):
        super().__init__(world)
        self.model = model

    async def act(self, request):
        raise RuntimeError(f"no idea what {self.model!r} {vars(self.model)!r} is")
"""


@pytest.fixture
def refusing() -> Iterator[LoadServer]:
    """A server that wants another key, and repeats the one it was sent in its refusal."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(key="another"))) as server,
    ):
        yield server


@pytest.fixture
def failing() -> Iterator[LoadServer]:
    """A server on which many things go wrong."""
    faults = Faults(failed=0.1, dropped=0.1, malformed=0.1, wrong_type=0.1, rate_limited=0.1)
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(faults=faults))) as server,
    ):
        yield server


def leavings(folder: Path) -> str:
    """Every byte of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in files)
    assert any(path.name == "simkit.duckdb" for path in files)
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


def run(store: Path, server: LoadServer, agent: str, *more: str) -> tuple[int, str]:
    """Play with the key in the environment; the exit code, and everything that was printed."""
    flags = ["--agent", agent, "--model", "openai/load", "--base-url", server.base_url, "--tasks", "3"]
    command = ["run", "josh", "--beam", "2", *flags, "--store", str(store), "--log", str(store / "log.jsonl"), *more]
    store.mkdir()
    environment = {"OPENAI_API_KEY": KEY, "SIMKIT_DEBUG": "1"}
    done = CliRunner().invoke(app, command, env=environment)
    return done.exit_code, done.output


def test_a_run_with_failures_leaves_the_key_nowhere(tmp_path: Path, failing: LoadServer) -> None:
    code, printed = run(tmp_path / "store", failing, AGENT, "--json", "--max-retries", "20")
    assert code == 0, printed
    assert "model_attempt_failed" in (tmp_path / "store" / "log.jsonl").read_text()
    assert KEY.lower() not in (printed + leavings(tmp_path / "store")).lower()


def test_a_refused_key_is_not_repeated(tmp_path: Path, refusing: LoadServer) -> None:
    code, printed = run(tmp_path / "store", refusing, AGENT)
    assert code == 1
    assert "Traceback" in printed
    assert "Incorrect API key provided" in printed
    log = [json.loads(line) for line in (tmp_path / "store" / "log.jsonl").read_text().splitlines()]
    assert (log[-1]["event"], log[-1]["status"]) == ("run_finished", "stopped")
    assert KEY.lower() not in (printed + leavings(tmp_path / "store")).lower()


def test_a_crash_that_prints_its_model_does_not_print_the_key(tmp_path: Path, failing: LoadServer) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    code, printed = run(tmp_path / "store", failing, str(tmp_path / "crashing.py"))
    assert code == 1
    left = leavings(tmp_path / "store")
    assert "no idea what" in left
    assert KEY.lower() not in (printed + left).lower()
