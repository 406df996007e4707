from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the server's own


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the trees of six tasks and two evaluations of them, to read alone."""
    path = tmp_path_factory.mktemp("played") / "store"
    runs = (
        ("trees", "josh", "--beam", "4", "--agent", "scripted,error_rate=0.4"),
        ("before", "rollout", "--trials", "2", "--agent", "scripted,error_rate=0.5"),
        ("after", "rollout", "--trials", "2", "--agent", "scripted,error_rate=0.1"),
    )
    for name, *args in runs:
        flags = ("--tasks", "6", "--name", name, "--seed", "3", "--quiet", "--store", str(path))
        done = CliRunner().invoke(app, ["run", *args, *flags])
        assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def store(played: Path, tmp_path: Path) -> Path:
    """A copy of the store, to change."""
    return Path(shutil.copytree(played, tmp_path / "store"))
