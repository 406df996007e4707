from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_examples import demonstrations

from simkit.data.export import write
from simkit.testing.fine_tuning import FineTuningServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the openai package speaks asyncio alone


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuningServer]:
    """The fake of the fine-tuning API, with its key in the environment."""
    with FineTuningServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        yield server


@pytest.fixture
def sft_file(tmp_path: Path) -> Path:
    return write(demonstrations(12), tmp_path / "sft.jsonl")
