"""The projects of examples/ are tested as their readers test them: with `pytest` in their folder."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {"agent-over-mcp": ("langchain", "mcp")}
OTHERWISE = {
    "cluster": "scripts for clusters, without Python",
    "echo-model": "tests/models installs it as a package",
    "notebooks": "test_notebooks.py executes them",
}


def projects() -> list[str]:
    return sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())


@pytest.mark.parametrize("name", [name for name in projects() if name not in OTHERWISE])
def test_project(name: str, tmp_path: Path) -> None:
    for package in NEEDS.get(name, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = ROOT / "examples" / name
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:langsmith_plugin", "."]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    if not plugin_is_installed():
        command += ["-p", "simkit.pytest_plugin"]
    flags = [*command, f"--rootdir={folder}", f"--basetemp={tmp_path / 'temporary'}"]
    done = subprocess.run(flags, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def plugin_is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "simkit.pytest_plugin" for point in entry_points(group="pytest11"))


@pytest.mark.parametrize("name", projects())
def test_each_project_says_how_it_is_used(name: str) -> None:
    folder = ROOT / "examples" / name
    assert (folder / "README.md").exists()
