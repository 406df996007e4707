"""The recordings of the release, and the data they were made from."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
from pathlib import Path

import pytest
from recordings import ReadLines, Recording

from simkit.errors import DataMissing
from simkit.tools.toolwoz import ToolwozWorld
from simkit.tools.toolwoz.data import cache_file, prepare


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of recordings: `SIMKIT_GOLDEN`, or `shared/golden` beside the checkout."""
    beside = Path(__file__).parents[2].parent / "shared" / "golden"
    folder = Path(os.environ.get("SIMKIT_GOLDEN") or beside)
    if not folder.is_dir():
        pytest.skip(f"no recordings of the release at {folder}; set SIMKIT_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def read_lines(golden: Path) -> ReadLines:
    """Reads one file of recordings; skips when the folder does not have it."""

    def read(name: str) -> list[Recording]:
        path = golden / name
        if not path.is_file():
            pytest.skip(f"no {name} in {golden}")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    return read


@pytest.fixture(scope="session")
def toolwoz(golden: Path) -> ToolwozWorld:
    """ToolWOZ in the variant of the paper; fetched once per machine, whichever worker comes first."""
    target = cache_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            prepare()
        except DataMissing as error:
            pytest.skip(f"ToolWOZ cannot be had here: {error}")
    return ToolwozWorld()
