from __future__ import annotations

import pytest

from simkit.tools.builtin import BuiltinWorld


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def world() -> BuiltinWorld:
    return BuiltinWorld()
