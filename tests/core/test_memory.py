"""Memory that a run has freed goes back to the system."""

from __future__ import annotations

import sys

import anyio
import pytest

import simkit.run
from simkit.memory import give_back
from simkit.run import Run
from simkit.store import Store


def test_giving_memory_back_leaves_what_is_in_use_as_it_is() -> None:
    kept = [bytes([number % 256]) * 2_000 for number in range(500)]
    give_back()
    assert kept == [bytes([number % 256]) * 2_000 for number in range(500)]


def test_on_other_systems_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    def asked(name: str | None) -> None:
        pytest.fail(f"the C library {name} was asked")

    monkeypatch.setattr("ctypes.CDLL", asked)
    give_back()


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_ends_or_fails_gives_its_memory_back(
    tmp_path: object, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bool] = []
    monkeypatch.setattr(simkit.run, "give_back", lambda: given.append(True))

    async def play() -> None:
        async with Run(store=Store(str(tmp_path)), seed=1):
            assert given == []
            if fails:
                raise ValueError("the recipe is wrong")

    if fails:
        with pytest.raises((ValueError, ExceptionGroup)):
            anyio.run(play)
    else:
        anyio.run(play)
    assert given == [True]
