from __future__ import annotations

import pytest
from stub import SPEAKS, traces


@pytest.fixture
def named():
    found = {trace.name: trace for trace in traces()}
    if "t10b4" not in found:
        pytest.skip("the test vectors are those of trace t10b4, which these recordings do not have")
    return found["t10b4"]


def test_the_stub_gives_the_documented_numbers(named) -> None:
    assert named.u("L", 0, "n") == 0.19916167339762572
    assert named.u("LR", 1, "n") == 0.9875967373445032
    assert named.u("LLR", 4, "n") == 0.9417502667815238


def test_the_stub_gives_the_documented_plans(named) -> None:
    goals, wrongs = named.data["goals"], named.data["wrongs"]
    assert [entry.text for entry in named.plan("L", 0)] == [SPEAKS[0]]
    assert [entry.call for entry in named.plan("LR", 1)] == [goals[0], goals[1], wrongs[8]]
    assert [entry.call for entry in named.plan("LLR", 4)] == [goals[0], goals[2], wrongs[7]]
    assert named.user("LR", 2).end
    assert not named.user("LL", 2).end
