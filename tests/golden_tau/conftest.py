from __future__ import annotations

from pathlib import Path

import pytest
from tau_worlds import build_caches


@pytest.fixture(scope="session")
def tau1_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caches of both releases of tau-bench, built from the raw data; skips the test without it."""
    return build_caches(tmp_path_factory.mktemp("tau"))
