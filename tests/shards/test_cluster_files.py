"""The job files of examples/cluster play all shards of a run when a cluster sets the variables that they use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shard_playing import scores
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.store import Store

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
SMALL = {"SHARDS": "2", "TASKS": "3", "WORKERS": "1"}


def slurm() -> tuple[list[str], dict[str, str]]:
    """The command of a job of the array, and its variables."""
    text = (CLUSTER / "slurm.sh").read_text()
    (last,) = re.findall(r"^#SBATCH --array=1-(\d+)$", text, re.MULTILINE)
    assert f"SHARDS=${{SHARDS:-{last}}}" in text
    return ["/bin/bash", str(CLUSTER / "slurm.sh")], {"SLURM_CPUS_PER_TASK": "1"}


def kubernetes() -> tuple[list[str], dict[str, str]]:
    """The command of a pod, and its variables."""
    text = (CLUSTER / "kubernetes.yaml").read_text()
    variables = dict(re.findall(r'- \{name: (\w+), value: "([^"]*)"\}', text))
    (completions,) = re.findall(r"^  completions: (\d+)$", text, re.MULTILINE)
    assert variables["SHARDS"] == completions
    assert "  completionMode: Indexed\n" in text
    (shell,) = re.findall(r'command: \["([^"]+)", "([^"]+)"\]', text)
    (script,) = re.findall(r"args:\n +- \|\n((?: {14}.*\n)+)", text)
    return [*shell, re.sub(r"(?m)^ {14}", "", script)], variables


def numbered(name: str, number: int) -> dict[str, str]:
    """The variable that tells a shard its number, counted from 1."""
    return {"SLURM_ARRAY_TASK_ID": f"{number}"} if name == "slurm" else {"JOB_COMPLETION_INDEX": f"{number - 1}"}


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_job_file_plays_all_shards(tmp_path: Path, name: str) -> None:
    command, variables = slurm() if name == "slurm" else kubernetes()
    program = tmp_path / "bin" / "simkit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m simkit "$@"\n')
    program.chmod(0o700)
    paths = {"PATH": f"{program.parent}:{os.environ['PATH']}", "RESULTS": str(tmp_path / "results")}
    for number in (1, 2):
        given = {**os.environ, **variables, **SMALL, **paths, **numbered(name, number)}
        done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    shards = sorted((tmp_path / "results" / "shards").iterdir())
    assert len(shards) == 2
    into = tmp_path / "results" / "store"
    assert CliRunner().invoke(app, ["store", "merge", *map(str, shards), "--into", str(into)]).exit_code == 0
    assert (Store(into).resolve("harvest").status, len(scores(into))) == ("done", 3)
