"""The recordings of the release, and the data they were made from."""

from __future__ import annotations

import fcntl
import gzip
import json
from pathlib import Path

import pytest
from recordings import ReadLines, Recording
from stub import golden_folder

from simkit.errors import DataMissing
from simkit.tools.toolwoz import ToolwozWorld
from simkit.tools.toolwoz.data import cache_file, prepare


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of recordings."""
    folder = golden_folder()
    if not folder.is_dir():
        pytest.skip(f"no recordings of the release at {folder}; set SIMKIT_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def read_lines(golden: Path) -> ReadLines:
    """Reads one file of recordings; skips when the folder does not have it, or when nothing is in it."""

    def read(name: str) -> list[Recording]:
        path = golden / name
        if not path.is_file():
            pytest.skip(f"no {name} in {golden}")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        if not lines:
            pytest.skip(f"{path} has no line")
        return lines

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
