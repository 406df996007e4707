"""Paths that the operating system refuses: one sentence and exit code 2, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app

LONG = "a" * 300
COMMANDS = {
    "a file to check": ["check", LONG],
    "a file to check in a file": ["check", "{file}/more.jsonl"],
    "a store in a file": ["ls", "--store", "{file}/store"],
    "a store of a long name": ["ls", "--store", LONG],
    "a file in a circle": ["check", "{circle}"],
    "a recipe of a long name": ["run", f"{LONG}.py"],
    "a world of a long name": ["run", "rollout", "--world", f"{LONG}.py:World"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_path_that_cannot_be_used_is_named_with_the_reason(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("{}\n")
    (tmp_path / "circle.jsonl").symlink_to(tmp_path / "circle.jsonl")
    places = {"file": "file", "circle": "circle.jsonl"}
    command = [word.format(**places) if "{" in word else word for word in COMMANDS[name]]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 1500


@pytest.mark.parametrize("command", [["run", "rollout", "--tasks", "1"], ["run", "./my.py"], ["resume", "last"]])
def test_what_needs_the_current_folder_says_that_it_was_removed(command: list[str], tmp_path: Path) -> None:
    folder, store = tmp_path / "removed", tmp_path / "store"
    folder.mkdir()
    played = CliRunner().invoke(app, ["run", "rollout", "--tasks", "1", "--store", str(store)])
    assert played.exit_code == 0, played.output
    line = ["sh", "-c", 'rmdir "$PWD" && exec "$0" -m simkit "$@"', sys.executable, *command]
    environment = {**os.environ, "SIMKIT_STORE": str(store)}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: the current folder was removed; go to one that exists\n")
