from __future__ import annotations

from itertools import combinations, product
from math import sqrt
from statistics import NormalDist

import pytest

from simkit.errors import UsageError
from simkit.intervals import student
from simkit.statistics import Bootstrap, Estimate, mean, mean_of_tasks, pass_hat, quantile


def test_a_mean_is_that_of_all_trials() -> None:
    found = mean_of_tasks([[1.0, 0.0, 0.5], [1.0]])
    assert found.value == 0.625
    assert 0 < found.low < 0.625 < found.high < 1


def test_bounds_scale_the_interval() -> None:
    plain = mean_of_tasks([[0.0], [0.5], [1.0], [0.25]])
    grades = mean_of_tasks([[1.0], [5.5], [10.0], [3.25]], bounds=(1.0, 10.0))
    assert (grades.value, grades.low, grades.high) == pytest.approx(
        tuple(1 + 9 * end for end in (plain.value, plain.low, plain.high))
    )


def test_values_beyond_the_bounds_have_the_bootstraps_interval() -> None:
    groups = [[2.0, 3.0], [5.0], [4.0, 1.0], [6.0]]
    assert mean_of_tasks(groups) == Bootstrap().mean(groups)
    assert mean_of_tasks([[2.0, 4.0]]) == Estimate(3.0, 2.0, 4.0)


def test_there_is_no_interval_of_nothing() -> None:
    with pytest.raises(UsageError, match="at least one scored episode"):
        mean_of_tasks([[]])


def test_the_bootstrap_repeats() -> None:
    groups = [[task / 3, task / 7] for task in range(30)]
    assert Bootstrap().mean(groups) == Bootstrap().mean(groups)
    assert Bootstrap().mean(groups) != Bootstrap(seed=1).mean(groups)


def test_the_bootstrap_resamples_as_many_tasks_as_there_are() -> None:
    """Against all 5^5 resamples of five tasks; with four of five drawn the interval would be an eighth wider."""
    values = (0.0, 10.0, 20.0, 40.0, 90.0)
    found = Bootstrap(resamples=40_000).mean([[value] for value in values])
    every = sorted(sum(drawn) / 5 for drawn in product(values, repeat=5))
    tail = NormalDist().cdf(-student(0.975, 4) * sqrt(5 / 4))
    assert found.value == 32.0
    assert found.low == pytest.approx(quantile(every, tail), abs=0.6)
    assert found.high == pytest.approx(quantile(every, 1 - tail), abs=1.5)


def test_pass_hat_is_the_share_of_all_draws_that_succeed() -> None:
    outcomes = [[True, True, False, True], [False, False, True, False], [True] * 4]
    for k in range(1, 5):
        by_hand = mean([mean([float(all(draw)) for draw in combinations(task, k)]) for task in outcomes])
        assert pass_hat(outcomes, k) == pytest.approx(by_hand)


def test_pass_hat_leaves_out_tasks_with_too_few_trials() -> None:
    assert pass_hat([[True], [True, False]], 2) == 0.0
    assert pass_hat([[True]], 2) is None
