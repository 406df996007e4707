"""Paths that the operating system refuses: one sentence and exit code 2, never a traceback."""

from __future__ import annotations

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
    assert result.exit_code in (1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 1500
