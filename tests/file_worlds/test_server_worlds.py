"""Worlds from files whose tools are those of a tool server, which `tools.py` makes."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from simkit import StartTools, Task, UsageError, load_world
from simkit.cli.app import app
from simkit.testing.worlds import check_world_folder

SERVER = f"{shlex.quote(sys.executable)} -S {shlex.quote(str(Path(__file__).parents[1] / 'support' / 'mcp_server.py'))}"
TOOLS = f"""
from simkit.tools.mcp import McpTools

def server(policy: str) -> McpTools:
    return McpTools({SERVER + " {state}"!r}, only=("write", "read"), policy=policy)
"""
SUMS = """
from typing import Any
from simkit import FunctionTools, ToolServer

def add(number: int) -> int:
    '''Add to a sum.'''
    return number
add.__module__ = "elsewhere"

def server(policy: str) -> ToolServer[Any]:
    return FunctionTools(add, policy=policy)
"""
TASKS = """
tasks:
  - id: milk
    split: train
    instructions: Have the note shopping written with the text milk, then have it read.
    agenda: [Please write the note shopping with the text milk., What does it say?]
    goals:
      - {call: write, with: {key: shopping, value: milk}}
      - {call: read, with: {key: shopping}}
"""
ADDING = """
tasks:
  - id: sum
    instructions: Add 3.
    agenda: [Add 3.]
    goals: [{call: add, with: {number: 3}}]
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world with an MCP server that keeps notes in a folder."""
    monkeypatch.chdir(tmp_path)
    return written(Path("notes"), TOOLS, TASKS)


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world with rules and a tool server in this process."""
    monkeypatch.chdir(tmp_path)
    folder = written(Path("sums"), SUMS, ADDING)
    (folder / "policy.md").write_text("Add only once.")
    return folder


def written(folder: Path, tools: str, tasks: str) -> Path:
    folder.mkdir()
    (folder / "tools.py").write_text(tools)
    (folder / "tasks.yaml").write_text(tasks)
    return folder


def simkit(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, args)])


def test_a_search_plays_the_tools_of_an_mcp_server(notes: Path) -> None:
    played = simkit("run", "josh", "--world", "./notes", "--beam", "4", "--json")
    assert played.exit_code == 0, played.output
    assert json.loads(played.stdout.splitlines()[-1])["reward"]["value"] == 1.0
    read = simkit("sql", "select distinct result from tool_calls where name = 'read'", "--format", "csv")
    assert read.stdout.split() == ["result", '"""milk"""']


def test_a_world_with_a_server_is_checked_by_playing_it(notes: Path) -> None:
    checked = simkit("world", "check", notes)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout == "notes: the tools of `mcp`, 1 task (1 in train)\nno problems found\n"
    (notes / "tasks.yaml").write_text(TASKS.replace("read, with: {key: shopping}", "read, with: {key: x}"))
    checked = simkit("world", "check", notes)
    assert checked.exit_code == 1
    assert "notes/tasks.yaml:6: task `milk`: a user who says the lines of the agenda" in checked.stdout
    assert "not reached: `read`" in checked.stdout


def test_a_server_that_does_not_start_is_told_in_one_message(notes: Path) -> None:
    (notes / "tools.py").write_text(TOOLS.replace("mcp_server.py", "no_server.py"))
    for command in (("run", "rollout", "--world", "./notes"), ("world", "check", notes)):
        failed = simkit(*command)
        assert failed.exit_code == 2, failed.output
        assert "cannot be started" in failed.output
        assert "no_server.py'" in failed.output
        assert "  File " not in failed.output


def test_a_world_with_a_server_keeps_its_promises_and_rules(sums: Path) -> None:
    check_world_folder(sums)
    world = load_world("./sums")
    task = world.tasks("test")[0]
    assert world.tools().start(StartTools(task)).policy == "Add only once."
    assert world.tools() is not world.tools()
    with pytest.raises(UsageError, match="which `final_state` cannot read"):
        world.expected(task)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("(policy: str)", "()", "would keep the rules of policy.md from agents; give it a parameter `policy`"),
        ("(policy: str)", "(policy: str, place: str)", "may have one parameter, `policy`"),
        ("return FunctionTools(add, policy=policy)", "return None", "returns a NoneType, which is no tool server"),
        (
            "return FunctionTools",
            "return 1 / 0 or FunctionTools",
            "`server` makes no tool server: ZeroDivisionError: division by zero",
        ),
        ('add.__module__ = "elsewhere"', "", "`server` makes the tool server, so `add` cannot be a tool beside it"),
    ],
)
def test_a_mistake_in_the_function_that_makes_the_server_is_named(sums: Path, old: str, new: str, said: str) -> None:
    (sums / "tools.py").write_text(SUMS.replace(old, new))
    checked = simkit("world", "check", sums)
    assert checked.exit_code == 1, checked.output
    assert checked.stdout.startswith("sums/tools.py: ")
    assert said in checked.stdout


def test_goals_about_tables_need_tables(sums: Path) -> None:
    (sums / "tasks.yaml").write_text(ADDING.replace("[{call: add, with: {number: 3}}]", "[{state: [sums]}]"))
    checked = simkit("world", "check", sums)
    assert "sums/tasks.yaml:6: task `sum`: the world `sums` has a tool server that keeps its own" in checked.stdout
    played = simkit("run", "rollout", "--world", "./sums")
    assert played.exit_code == 2
    assert "the goal `state` is about tables; use goals with `call`" in played.output


def test_tasks_of_other_worlds_are_refused(sums: Path) -> None:
    with pytest.raises(UsageError, match="belongs to the world `other`"):
        load_world("./sums").check_task(Task(id="t", world="other", split="test", instructions="", goals=()))
