from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.errors import UsageError
from simkit.statistics import Estimate, cluster_bootstrap, mean, pass_hat, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert found.value == successes / trials
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share(case: tuple[int, int]) -> None:
    found = wilson(*case)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(successes: int, trials: int) -> None:
    with pytest.raises(UsageError, match="at least one trial"):
        wilson(successes, trials)


def test_bootstrap_agrees_with_the_normal_interval_of_many_tasks() -> None:
    values = [[float(index % 2)] for index in range(400)]
    found = cluster_bootstrap(values)
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.008)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.008)


def test_bootstrap_is_wider_when_trials_of_a_task_agree() -> None:
    clustered = cluster_bootstrap([[1.0] * 4 if task % 2 else [0.0] * 4 for task in range(50)])
    independent = cluster_bootstrap([[float(task % 2)] for task in range(200)])
    assert clustered.high - clustered.low > 1.5 * (independent.high - independent.low)


def test_bootstrap_repeats() -> None:
    groups = [[task / 31, task / 37] for task in range(30)]
    assert cluster_bootstrap(groups) == cluster_bootstrap(groups)
    assert cluster_bootstrap(groups, seed=1) != cluster_bootstrap(groups, seed=2)


def test_bootstrap_of_one_task_is_the_range_of_its_trials() -> None:
    assert cluster_bootstrap([[0.0, 1.0, 0.5]]) == Estimate(0.5, 0.0, 1.0)


def test_bootstrap_refuses_nothing() -> None:
    with pytest.raises(UsageError, match="at least one scored episode"):
        cluster_bootstrap([[]])


def test_pass_hat_is_the_share_of_all_draws_that_succeed() -> None:
    outcomes = [[True, True, False, True], [False, False, True, False], [True] * 4]
    for k in range(1, 5):
        by_hand = mean([mean([float(all(draw)) for draw in combinations(task, k)]) for task in outcomes])
        assert pass_hat(outcomes, k) == pytest.approx(by_hand)


def test_pass_hat_leaves_out_tasks_with_too_few_trials() -> None:
    assert pass_hat([[True], [True, False]], 2) == 0.0
    assert pass_hat([[True]], 2) is None
