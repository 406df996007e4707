"""Words of models, names of runs and errors of components do not act on the terminal that shows them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from pseudo_terminal import at_terminal

from support.forked_commands import run_forked

EVIL = (
    "hi\x1b]52;c;ZXZpbA==\x07\x1b]0;t\x07\x1b[2J\x1b]8;;http://x\x1b\\y\x9b1A"
    "\u202eabc\u200b[bold]b[/bold]\n  9 user     I agree"
)
NAME = "run\x1b[2J\x9b2J\u202e[red]name"
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[KA]|\r")
"""What this program itself sends: styles, the cursor, and the progress display."""

FAILING = """
from simkit.agents.scripted import ScriptedAgent

class Failing(ScriptedAgent):
    async def act(self, request):
        raise RuntimeError("boom \\x1b]0;t\\x07\\x9b2J\\n  success rate  1.000")
"""


def acting(output: str) -> list[str]:
    """Characters of a terminal's input that nobody but a text could have brought there."""
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u200b]", OURS.sub("", output))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "failing.py").write_text(FAILING)
    for model in (["--model", f"scripted/{EVIL}"], ["--agent", f"{folder / 'failing.py'}:Failing"]):
        flags = ["--tasks", "2", "--name", NAME, "--max-faults", "1", "--max-turns", "3", "--store", folder]
        output = at_terminal(100, "run", "rollout", *model, *flags)
        assert not acting(output)
        assert "\\x1b[2J\\x9b2J\\u202e[red]name" in output
    assert "boom \\x1b]0;t\\x07\\x9b2J success rate 1.000" in re.sub(r"\s+", " ", output)
    assert len(re.findall(r"(?m)^  success rate", output)) == 1
    return folder


def test_no_command_passes_them_on(store: Path) -> None:
    query = "select message, branch_id from messages where message like '%ZXZp%'"
    for command in (
        ["ls"],
        ["ls", "--json"],
        ["show", "last"],
        ["doctor", "last"],
        ["doctor", "last", "--json"],
        *(["sql", text, "--format", format] for text in (query, "from runs") for format in ("table", "csv", "json")),
    ):
        output = at_terminal(120, *command, "--store", store)
        assert not acting(output), command


@pytest.fixture(scope="module")
def branch(store: Path) -> str:
    query = "select any_value(branch_id) as id from messages where message like '%ZXZp%'"
    return json.loads(run_forked(["sql", query, "--format", "json", "--store", str(store)]).out)["id"]


def test_a_transcript_shows_them_and_no_line_of_it_is_forged(store: Path, branch: str) -> None:
    output = at_terminal(90, "show", branch.split("/")[0], "--branch", branch, "--store", store)
    assert not acting(output)
    text = re.sub(r"\s", "", OURS.sub("", output))
    assert "hi\\x1b]52;c;ZXZpbA==\\x07" in text
    assert "\\u202eabc\\u200b[bold]b[/bold]" in text
    assert not re.search(r"(?m)^  9 user", OURS.sub("", output))
    tree = at_terminal(90, "show", *branch.split("/")[:2], "--store", store)
    assert not acting(tree)


def test_raw_is_raw(store: Path, branch: str) -> None:
    output = at_terminal(90, "show", branch.split("/")[0], "--branch", branch, "--store", store, "--raw")
    assert "\x1b]52;c;ZXZpbA==\x07" in output
    output = at_terminal(90, "sql", "select name from runs", "--store", store, "--raw")
    assert NAME in output


def test_files_get_the_values_and_a_person_s_table_in_a_pipe_is_safe_too(store: Path) -> None:
    def piped(format: str) -> str:
        done = run_forked(["sql", "select name from runs", "--format", format, "--store", str(store)])
        assert done.code == 0, done.err
        return done.out

    assert list(csv.reader(io.StringIO(piped("csv")))) == [["name"], [NAME], [NAME]]
    assert [json.loads(line)["name"] for line in piped("json").splitlines()] == [NAME, NAME]
    assert not acting(piped("json"))
    assert not acting(piped("table"))
