from __future__ import annotations

from pathlib import Path

import pytest
from small_multiwoz import write_folder

from simkit.tools.toolwoz.data import prepare


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A small MultiWOZ folder."""
    return write_folder(tmp_path / "multiwoz")


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cache built from the small MultiWOZ folder."""
    folder = tmp_path_factory.mktemp("small")
    prepare(folder / "cache", write_folder(folder / "multiwoz"))
    return folder / "cache"
