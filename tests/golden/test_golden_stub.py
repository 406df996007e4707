from __future__ import annotations

import pytest
from stub import draw


@pytest.mark.parametrize(
    ("path", "turn", "value"),
    [("L", 0, 0.19916167339762572), ("LR", 1, 0.9875967373445032), ("LLR", 4, 0.9417502667815238)],
)
def test_the_stub_draws_the_documented_numbers(path: str, turn: int, value: float) -> None:
    assert draw(110, "MUL0838.json", path, turn, "n") == value
