from __future__ import annotations

from pathlib import Path

import pytest
from comparing import RecordedRuns
from typer.testing import CliRunner

from simkit.cli.app import app


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedRuns:
    """A store into which runs are written."""
    return RecordedRuns(tmp_path / "store")


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs `poor` and `good` of the scripted agent: 24 tasks, two trials, one seed."""
    folder = tmp_path_factory.mktemp("played") / "store"
    for name, agent in (("poor", "scripted,error_rate=0.5"), ("good", "scripted,error_rate=0")):
        words = f"run rollout --tasks 24 --trials 2 --seed 3 --quiet --name {name} --agent {agent} --store".split()
        assert CliRunner().invoke(app, [*words, str(folder)]).exit_code == 0
    return folder
