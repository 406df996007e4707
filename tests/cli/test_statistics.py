from __future__ import annotations

from itertools import combinations, product
from math import log, sqrt
from statistics import NormalDist

import pytest

from simkit.errors import UsageError
from simkit.statistics.intervals import mean_limits, student
from simkit.statistics.scores import Bootstrap, Estimate, mean, mean_of_tasks, pass_hat, quantile


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


def test_a_mean_within_bounds_has_the_limits_of_its_tasks_and_of_its_level() -> None:
    groups = [[0.0, 0.5], [1.0], [], [0.25, 0.75]]
    known = [group for group in groups if group]
    for found, level in ((mean_of_tasks(groups), 0.95), (mean_of_tasks(groups, 0.8), 0.8)):
        limits = mean_limits(known, level)
        assert (found.value, found.low, found.high) == (0.5, limits.low, limits.high)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.7, 1.0])
@pytest.mark.parametrize("count", [1, 3, 10])
def test_an_interval_holds_its_mean_whatever_the_rounding(value: float, count: int) -> None:
    found = mean_of_tasks([[1 + 4 * value] * 3] * count, bounds=(1.0, 5.0))
    assert 1.0 <= found.low <= found.value <= found.high <= 5.0


@pytest.mark.parametrize("beyond", [-0.5, 1.5])
def test_one_value_beyond_the_bounds_is_enough_for_the_bootstrap(beyond: float) -> None:
    groups = [[0.0], [], [1.0], [beyond]]
    assert mean_of_tasks(groups, 0.9) == Bootstrap(0.9).mean([[0.0], [1.0], [beyond]])
    assert mean_of_tasks([[], [0.0, beyond, 1.0]]).low == min(0.0, beyond)


def test_equal_arguments_give_equal_ends_in_every_release() -> None:
    """Written down: what was reported once can be computed again."""
    groups = [[sqrt(task), sqrt(2 * task)] if task % 3 else [log(1 + task)] for task in range(9)]
    found, named = Bootstrap().mean(groups), Bootstrap().mean([*groups, []], "turns")
    assert (found.value, found.low, found.high) == pytest.approx(
        (2.173549347994699, 1.3692207237036251, 2.840761920442408), rel=1e-12
    )
    assert (named.value, named.low, named.high) == pytest.approx(
        (2.173549347994699, 1.310912397159694, 2.8655450976345715), rel=1e-12
    )


@pytest.mark.parametrize("level", [0.5, 0.999])
def test_the_level_may_be_a_half_to_nearly_one(level: float) -> None:
    assert Bootstrap(level).alpha == 1 - level
    with pytest.raises(UsageError, match=r"--level is 0\.499"):
        Bootstrap(0.499)


def test_two_tasks_have_an_interval() -> None:
    found = Bootstrap().mean([[1.0], [3.0]])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.125, 1.5), (0.25, 2.0), (0.5, 4.0), (0.75, 8.0), (0.9375, 14.0), (1.0, 16.0)]
)
def test_a_quantile_lies_between_two_values_by_their_distance(share: float, value: float) -> None:
    assert quantile([1.0, 2.0, 4.0, 8.0, 16.0], share) == value
    assert quantile([7.0], share) == 7.0


def test_nothing_has_a_mean_of_0_and_an_estimate_is_told_with_its_ends() -> None:
    assert (mean([]), mean([1.0, 2.0])) == (0.0, 1.5)
    assert str(Estimate(0.5, 0.25, 0.8125)) == "0.500 (0.250 to 0.812)"
    assert Estimate(0.5, 0.25, 0.75).to_json() == {"value": 0.5, "low": 0.25, "high": 0.75}
