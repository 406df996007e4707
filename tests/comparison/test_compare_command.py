"""`simkit compare` as its user calls it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app


def simkit(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words, "--store", str(store)])


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


def test_tables_and_claims(played: Path) -> None:
    done = simkit(played, "poor", "good")
    assert done.exit_code == 0, done.output
    for title in (
        "Scores (95% intervals over 24 tasks in parentheses)",
        "Differences",
        "Share of goals reached by domain and goal type",
        "Reward by turn",
    ):
        assert title in done.stdout
    assert "• It may be claimed: the average reward of `good` is higher than that of `poor`" in done.stdout
    assert simkit(played, "poor", "good").stdout == done.stdout


def test_arms_are_named_and_metrics_chosen(played: Path) -> None:
    done = simkit(played, "--arm", "before = poor", "--arm", "after=good", "--metric", "turns", "--level", "0.9")
    assert done.exit_code == 0, done.output
    assert "the agent turns per episode" in done.stdout
    assert "90% interval" in done.stdout
    assert "before → after" in done.stdout


def test_json_is_one_line(played: Path) -> None:
    done = simkit(played, "poor", "good", "--json")
    found = json.loads(done.stdout)
    assert [each["name"] for each in found["differences"]] == ["reward", "success"]
    assert all(each["claimed"] for each in found["differences"])
    assert found["claims"][0].startswith("It may be claimed")


def test_markdown_and_pictures_are_written(played: Path, tmp_path: Path) -> None:
    done = simkit(played, "poor", "good", "--out", str(tmp_path / "pictures"), "--markdown", str(tmp_path / "c.md"))
    assert done.exit_code == 0, done.output
    text = (tmp_path / "c.md").read_text()
    assert text.startswith("# poor against good\n\n- It may be claimed")
    assert "## Differences (poor → good)" in text
    assert "| reward | 0." in text
    pictures = {picture.name: size(picture) for picture in (tmp_path / "pictures").iterdir()}
    assert pictures.keys() == {"scores.png", "reward_by_turn.png", "where.png"}
    assert all(width > 900 and height > 600 for width, height in pictures.values())


@pytest.mark.parametrize("flag", ["--out", "--markdown"])
def test_folders_above_a_file_are_not_made_and_nothing_is_compared(played: Path, tmp_path: Path, flag: str) -> None:
    done = simkit(played, "poor", "no such run", flag, str(tmp_path / "mistyped" / "c"))
    assert done.exit_code == 2
    assert "does not exist; create it" in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "mistyped").exists()


def test_without_matplotlib_there_are_tables(played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = simkit(played, "poor", "good", "--out", str(tmp_path / "pictures"))
    assert done.exit_code == 0, done.output
    assert "It may be claimed" in done.stdout
    assert "[plots]'" in done.stderr
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["poor"], "at least two runs or arms"),
        (["poor", "nobody"], "there is no run 'nobody'"),
        (["poor", "--arm", "good"], "write --arm NAME=RUN,RUN"),
        (["poor", "--arm", "after="], "an arm needs a name and runs"),
        (["poor", "good", "--metric", "fun"], "unknown metric `fun`"),
        (["poor", "good", "--noise", "poor"], "at least two runs of one configuration"),
        (["poor", "good", "--level", "95"], "as a share"),
    ],
)
def test_wrong_use_is_explained(played: Path, words: list[str], reason: str) -> None:
    done = simkit(played, *words)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_comparing_imports_nothing_heavy() -> None:
    code = "import sys, simkit.cli.compare; print({'matplotlib', 'numpy', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
