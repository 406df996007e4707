from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from tiny_model import write_tiny_model
from transformers_server import TransformersServer, missing, transformers_serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[TransformersServer]:
    if absent := missing():
        told = f"transformers serve cannot run, for want of {absent}; SIMKIT_TEST_SERVING=1 scripts/test installs it"
        if os.environ.get("SIMKIT_TEST_SERVING", "0") != "0":
            pytest.fail(told)
        pytest.skip(told)
    folder = tmp_path_factory.mktemp("serving")
    with transformers_serve(write_tiny_model(folder / "tiny"), folder / "home") as server:
        yield server


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
