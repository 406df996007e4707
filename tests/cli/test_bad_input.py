"""What a user can get wrong or what can go wrong around them: what is said, and what the store holds afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app
from simkit.store import Store

COMPONENTS = '''
from simkit import Agent, AssistantMessage, Decision, ToolCall, ToolServer, User
from simkit.tools.builtin import BuiltinWorld

class Mute(Agent):
    """Calls a tool forever and never speaks."""
    async def act(self, request):
        call = ToolCall.of(f"call{request.step}", "search_hotel", {})
        return Decision(AssistantMessage.of(None, (call,)), calls=(call,))

class Garbled(Agent):
    """Writes arguments that are no JSON, then speaks."""
    async def act(self, request):
        if request.step:
            return Decision(AssistantMessage.of("hm"), say="hm")
        call = ToolCall.of("call", "search_hotel", "{not json")
        return Decision(AssistantMessage.of(None, (call,)), calls=(call,))

class Angry(Agent):
    async def act(self, request):
        raise RuntimeError("not with me")

class Silent(User):
    name = "silent"
    async def speak(self, request):
        raise ValueError("no words")

class Fallen(ToolServer):
    name = "fallen"
    def __init__(self, world):
        self.inner = world.tools()
    def start(self, request):
        return self.inner.start(request)
    async def call(self, request):
        raise RuntimeError("the tool fell over")

class Broken(BuiltinWorld):
    def tools(self):
        return Fallen(BuiltinWorld())
'''


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    path = tmp_path / "parts.py"
    path.write_text(COMPONENTS)
    return path


def run(recipe: str, store: Path, *flags: str) -> Result:
    args = ["run", recipe, "--split", "test", "--tasks", "2", "--max-turns", "3", "--store", str(store), *flags]
    return CliRunner().invoke(app, args)


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    return Store(store).query(query).rows


@pytest.mark.parametrize("recipe", ["rollout", "josh"])
@pytest.mark.parametrize(
    ("flags", "outcome", "cause"),
    [
        (("--agent", "{}:Angry"), "agent_fault", "agent `agent`, turn 1 of test-0000"),
        (("--user", "{}:Silent"), "user_fault", "user `silent`, turn 0 of test-0000"),
        (("--world", "{}:Broken"), "tool_fault", "tools `fallen`, turn"),
    ],
)
def test_a_component_that_raises_is_named_and_recorded(
    recipe: str, flags: tuple[str, str], outcome: str, cause: str, parts: Path, tmp_path: Path
) -> None:
    done = run(recipe, tmp_path / "store", flags[0], flags[1].format(parts))
    assert done.exit_code == 1, done.output
    assert "2 of 2 episodes faulted" in done.stderr
    fault = next(line for line in done.stdout.splitlines() if "first fault" in line)
    assert cause in fault
    assert "Traceback" not in done.output
    found = rows(tmp_path / "store", "select distinct outcome from episodes where error is not null")
    assert found == [(outcome,)]
    assert rows(tmp_path / "store", "select status from runs") == [("failed",)]


@pytest.mark.parametrize("recipe", ["rollout", "josh"])
def test_an_agent_that_never_speaks_is_scored_and_harvests_nothing(recipe: str, parts: Path, tmp_path: Path) -> None:
    done = run(recipe, tmp_path / "store", "--agent", f"{parts}:Mute", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["scored"], found["faulted"], found["reward"]["value"]) == (2, 0, 0)
    assert rows(tmp_path / "store", "from sft_examples") == []


def test_arguments_that_are_no_json_are_answered_and_recorded(parts: Path, tmp_path: Path) -> None:
    done = run("rollout", tmp_path / "store", "--agent", f"{parts}:Garbled")
    assert done.exit_code == 0, done.output
    found = rows(tmp_path / "store", "select distinct arguments, error, result::varchar from tool_calls")
    assert [(arguments, error) for arguments, error, _ in found] == [("{not json", True)]
    assert "not valid JSON" in found[0][2]


SMALL_DISK = """
import resource, sys
from simkit.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
sys.argv = ["simkit", *sys.argv[1:]]
main()
"""


def test_a_full_disk_is_said_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    flags = ["run", "josh", "--tasks", "60", "--concurrency", "1", "--quiet", "--store", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "main.jsonl cannot be written: File too large. Everything acknowledged before is stored" in done.stderr
    assert "start the run again" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(tmp_path, "select count(*) > 3 from episodes where reward is not null") == [(True,)]
    assert rows(tmp_path, "select status, bool_or(finished_at is null) from runs group by all") == [("running", True)]


def test_a_database_cut_short_is_named_and_rebuilt(tmp_path: Path) -> None:
    assert run("rollout", tmp_path).exit_code == 0
    database = tmp_path / "simkit.duckdb"
    database.write_bytes(database.read_bytes()[:1000])
    done = CliRunner().invoke(app, ["ls", "--store", str(tmp_path)])
    assert done.exit_code == 0
    assert f"{database} was damaged" in done.stderr
    assert "made again from the journals" in done.stderr
    assert rows(tmp_path, "select count(*) from episodes") == [(2,)]


READ_ONLY = """
import os, sys
from typer.testing import CliRunner
from simkit.cli.app import app
store = sys.argv[1]
runner = CliRunner()
runner.invoke(app, ["show", "last", "--store", store])
warm = store + "/warm"  # everything is imported ...
runner.invoke(app, ["run", "rollout", "--tasks", "1", "--store", warm])
export = ["export", "sft", "--run", "last", "--source", "episodes", "--out"]
runner.invoke(app, [*export, warm + "/x.jsonl", "--store", warm])
os.setuid(65534)  # ... before the right to read it is given up
for args in (["ls"], ["run", "rollout", "--tasks", "1"], [*export, store + "/x.jsonl"]):
    done = runner.invoke(app, [*args, "--store", store])
    print(done.exit_code, " ".join(done.output.split()))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user to be without the right to write")
def test_a_read_only_store_is_read_and_refuses_to_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which other users may not enter
        Path(folder).chmod(0o755)
        assert run("rollout", Path(folder)).exit_code == 0
        for path in Path(folder).rglob("*"):  # a store is private; this one is for everybody to read
            path.chmod(0o755 if path.is_dir() else 0o644)
        done = subprocess.run([sys.executable, "-c", READ_ONLY, folder], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        listed, refused, exported = done.stdout.splitlines()
        assert listed.startswith("0 run name status")
        assert refused.startswith("1 error: the journal")
        assert "Make the store folder writable, or use another --store" in refused
        assert exported.startswith("1 error:")
        assert "cannot be written" in exported
        assert len(Store(folder).runs()) == 1


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    done = run("rollout", tmp_path / "store")
    assert done.exit_code == 1
    assert f"{tmp_path / 'store'} cannot be used as a store" in done.stderr
    assert "Name another folder" in done.stderr
