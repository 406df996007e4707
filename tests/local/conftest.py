from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest

from simkit.local.engine import LocalEngine
from simkit.plugins.extras import require
from support.tiny_llama import tiny_engine, write_tiny

MISSING = [name for name in ("torch", "transformers", "llguidance") if find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if MISSING:
        reason = f"local models need {' and '.join(MISSING)}: pip install '.[local]'"
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on disk."""
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def one_thread() -> Generator[None]:
    """Several tests run at once on few cores."""
    if MISSING:
        yield
        return
    torch = require("torch", "local")

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def engine() -> LocalEngine:
    return tiny_engine()
