from __future__ import annotations

from pathlib import Path

import pytest
from small_tau2 import files

from simkit.tools.tau2.cache import prepare
from support.tau2_clone import release_of, write_clone


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cache built from the small clone, as both releases."""
    folder = tmp_path_factory.mktemp("tau2")
    contents = files()
    clone = write_clone(folder / "clone", contents)
    for name in ("1.0", "2025"):
        prepare(folder / "cache", clone, releases=(release_of(contents, name),))
    return folder / "cache"
