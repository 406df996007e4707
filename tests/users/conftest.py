from __future__ import annotations

import pytest

from simkit.tools.builtin import BuiltinWorld


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def world() -> BuiltinWorld:
    return BuiltinWorld()
