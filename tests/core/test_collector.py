"""The garbage collector during a run, and what it leaves behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator

import pytest

from simkit.run.tuning import CALM, FULL, calm_collector


class Knot:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_python_has_it() -> Generator[None]:
    before = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_it_is_calm_inside_and_as_before_outside() -> None:
    before = gc.get_threshold()
    with calm_collector():
        assert gc.get_threshold() == CALM
        assert gc.get_freeze_count() > 0
        with calm_collector():
            assert gc.get_threshold() == CALM
        assert gc.get_freeze_count() > 0, "a run inside another one ended the outer one's calm"
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("fails", [False, True])
def test_cycles_that_a_run_has_left_are_gone_when_the_next_one_begins(fails: bool) -> None:
    left: list[weakref.ref[Knot]] = []
    for _ in range(4):  # one run after another, as in a program that plays many
        try:
            with calm_collector():
                assert [one() for one in left] == [None] * len(left)
                knots = [Knot() for _ in range(10)]
                left += map(weakref.ref, knots)
                if fails:
                    raise ValueError("the run fails")
        except ValueError:
            pass
        knots = []  # as a run's own objects do, they become garbage after its end


def test_what_grew_old_in_a_long_run_is_gone_a_few_runs_later() -> None:
    with calm_collector():
        knots = [Knot() for _ in range(10)]
        gc.collect(1)  # what is alive counts as old from here on
        left = [*map(weakref.ref, knots)]
    knots = []
    for _ in range(FULL):
        with calm_collector():
            pass
    assert [one() for one in left] == [None] * 10


def test_a_program_that_has_tuned_its_collector_is_left_alone() -> None:
    gc.set_threshold(CALM[0], 5, 5)
    with calm_collector():
        assert gc.get_threshold() == (CALM[0], 5, 5)
        assert gc.get_freeze_count() == 0
