from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, and no clock: a slow machine is no failure.
settings.register_profile(
    "simkit",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("simkit")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
