from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_weights import write_tiny_weights

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the libraries are imported, which the tests do lazily


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason=f"needs {module}: pip install '.[preserve]'")
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")
