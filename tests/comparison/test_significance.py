"""The statistics of comparisons against scipy, against counting by hand, and against chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import pi, sqrt
from random import Random
from statistics import fmean, stdev
from typing import Any, cast

import pytest

from simkit.comparison.pairs import PairedOutcomes, cohen_h, detectable, holm, pair, sign_flip, standardised
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.statistics.intervals import student
from simkit.statistics.scores import Bootstrap

stats: Any = require("scipy.stats", "test")


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (3, 3), (4, 13), (25, 9), (0, 40), (180, 220)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert PairedOutcomes(7, lost, won, 5).p == pytest.approx(expected, rel=1e-9)
    differences = [1.0] * won + [-1.0] * lost + [0.0] * 12
    assert sign_flip(differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_sign_flips_are_counted_as_by_hand(seed: int) -> None:
    rng = Random(seed)
    values = [rng.randint(-6, 6) for _ in range(9)]
    distance = abs(sum(values))
    flipped = [
        sum(sign * value for sign, value in zip(signs, values, strict=True)) for signs in product((1, -1), repeat=9)
    ]
    by_hand = sum(abs(total) >= distance for total in flipped) / 2**9
    assert sign_flip([value / 6 for value in values]) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_are_scipys_permutation_test(seed: int) -> None:
    rng = Random(seed)
    values = [rng.gauss(0.3, 1) for _ in range(10)]
    expected = stats.permutation_test((values,), fmean, permutation_type="samples", n_resamples=2**12, vectorized=False)
    assert sign_flip(values) == pytest.approx(expected.pvalue, abs=2 / 2**10)


@pytest.mark.parametrize("tasks", [5, 25, 50])
def test_sign_flips_of_ranks_are_wilcoxons_exact_test(tasks: int) -> None:
    rng = Random(tasks)
    ranks = [rank * rng.choice((1, 1, -1)) for rank in range(1, tasks + 1)]
    expected = stats.wilcoxon(ranks, method="exact").pvalue
    assert sign_flip([rank / 60 for rank in ranks]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tasks", [300, 900])
def test_sign_flips_off_any_grid_agree_with_the_t_test_of_many_tasks(tasks: int) -> None:
    rng = Random(tasks)
    values = [rng.gauss(0.12, 1) for _ in range(tasks)]
    assert sign_flip(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.05)


def test_nothing_differs_is_no_evidence() -> None:
    assert sign_flip([0.0, 0.0, 1e-12]) == 1.0
    assert sign_flip([]) == 1.0


def test_holm_corrects_each_by_those_that_are_left() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize("freedom", [1, 2, 5, 29, 449, 20_000])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.975, 0.9995])
def test_students_quantiles(freedom: int, share: float) -> None:
    assert student(share, freedom) == pytest.approx(float(stats.t.ppf(share, freedom)), rel=1e-7)


def test_one_task_has_no_interval() -> None:
    with pytest.raises(UsageError, match="at least two tasks"):
        Bootstrap().mean([[0.5]])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(UsageError, match=r"e\.g\. 0\.95"):
        Bootstrap(level)


def test_effect_sizes() -> None:
    assert cohen_h(0.5, 0.7) == pytest.approx(0.4115, abs=1e-4)
    assert cohen_h(1.0, 0.0) == pytest.approx(-3.14159, abs=1e-4)
    assert standardised([0.0, 1.0, 2.0]) == pytest.approx(1.0)
    assert standardised([0.5, 0.5]) is None


def test_the_detectable_difference_has_the_power_it_promises() -> None:
    values = [0.0, 1.0, -0.5, 0.25, 0.75, -1.0] * 6
    found = detectable(values, 0.95)
    assert found is not None
    count = len(values)
    shift = found / (stdev(values) / sqrt(count))
    critical = stats.t.ppf(0.975, count - 1)
    power = float(stats.nct.sf(critical, count - 1, shift))
    assert power == pytest.approx(0.8, abs=0.01)


def test_five_equal_trials_are_worth_one() -> None:
    once: Sequence[float] = [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    single = [{f"t{task}": cast("dict[int, float | None]", {0: value}) for task, value in enumerate(once)}]
    five = [{task: dict.fromkeys(range(5), cell[0]) for task, cell in single[0].items()}]
    nothing = [{task: dict.fromkeys(cell, 0.0) for task, cell in side.items()} for side in (single[0], five[0])]
    one, many = pair([nothing[0]], single, fmean), pair([nothing[1]], five, fmean)
    assert many.count == 5 * one.count
    assert sign_flip(one.differences) == sign_flip(many.differences) == 2 / 2**6


def test_values_that_a_billionth_hides_are_no_differences() -> None:
    assert sign_flip([1e-9] * 6) == 1.0
    assert sign_flip([1.1e-9] * 6) == 2 / 2**6


def normal(values: Sequence[float]) -> float:
    """The p-value of the normal approximation."""
    return 2 * float(stats.norm.sf(abs(sum(values)) / sqrt(sum(value * value for value in values))))


def test_up_to_409_tasks_off_any_grid_are_counted_and_more_approximated() -> None:
    rng = Random(7)
    values = [rng.gauss(0.12, 1) for _ in range(410)]
    assert sign_flip(values) == pytest.approx(normal(values), rel=1e-9)
    assert sign_flip(values[:-1]) != pytest.approx(normal(values[:-1]), rel=1e-3)


def test_the_largest_whole_numbers_are_counted_exactly() -> None:
    """One more than fits is put on a coarser grid, where 1 and 0 are alike."""
    assert sign_flip([1, -2, 2**22 - 3]) == 6 / 8
    assert sign_flip([1, -2, 2**22 - 2]) == 1.0


def test_values_partly_off_the_grid_of_the_others_are_not_put_on_it() -> None:
    values = [0.5, -0.5 - 1e-5 / 3, 1.0, -1.0, 0.25]
    assert sign_flip(values) == pytest.approx(by_hand(values))


def by_hand(values: Sequence[float]) -> float:
    """The share of sign assignments as far from 0, one by one."""
    totals = [
        sum(sign * value for sign, value in zip(signs, values, strict=True))
        for signs in product((1, -1), repeat=len(values))
    ]
    return sum(abs(total) >= abs(sum(values)) - 1e-12 for total in totals) / len(totals)


@pytest.mark.parametrize("values", [[1, 2, 3, -6, 5], [3, 5, -8, 9, -2, 1], [1, 1, -2, 4, -4, 8], [0.25, 0.5, -0.75]])
@pytest.mark.parametrize("unit", [1.0, 1e6, 3e6, 0.3, 1e-4])
def test_ties_are_ties_in_any_unit(values: Sequence[float], unit: float) -> None:
    assert sign_flip([value * unit for value in values]) == by_hand(values)


def test_small_values_beside_large_ones_count_as_nothing() -> None:
    assert sign_flip([1e-8 / 3, 1e7, 1e7 / 3, -1e7]) == pytest.approx(sign_flip([1e7, 1e7 / 3, -1e7]))


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("values", [[0.0, 1.0, -0.5, 0.25], [1.0, 2.0]])
def test_the_detectable_difference_is_that_of_a_t_test_in_a_first_approximation(
    values: Sequence[float], level: float
) -> None:
    reach = stats.t.ppf(0.5 + level / 2, len(values) - 1) + stats.norm.ppf(0.8)
    assert detectable(values, level) == pytest.approx(float(reach) * stdev(values) / sqrt(len(values)), rel=1e-7)
    assert detectable([0.5, 0.5, 0.5], level) is None


def test_shares_that_rounding_put_beyond_0_or_1_have_an_effect_size() -> None:
    for before, after in ((-1e-9, 1 + 1e-9), (0.0, 1.0)):
        assert cohen_h(before, after) == pytest.approx(pi)
        assert cohen_h(after, before) == pytest.approx(-pi)


def test_a_certain_difference_has_no_effect_size_in_its_own_spread() -> None:
    assert standardised([0.5, 0.5 + 1e-10]) is None
    assert standardised([0.0, 1e-9, 2e-9]) is None
    assert standardised([0.5, 0.5 + 1e-6]) == pytest.approx(0.5 * sqrt(2) * 1e6, rel=1e-5)
