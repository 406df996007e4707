"""The statistics of comparisons against scipy, against counting by hand, and against chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import sqrt
from random import Random
from statistics import fmean, stdev
from typing import Any, cast

import pytest

from simkit.comparison.pairs import pair
from simkit.comparison.significance import Outcomes, cohen_h, detectable, holm, sign_flip, standardised
from simkit.errors import UsageError
from simkit.extras import require
from simkit.intervals import student
from simkit.statistics import Bootstrap

stats: Any = require("scipy.stats", "test")


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (3, 3), (4, 13), (25, 9), (0, 40), (180, 220)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert Outcomes(7, lost, won, 5).p == pytest.approx(expected, rel=1e-9)
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


def test_the_interval_of_many_tasks_is_scipys_percentile_interval() -> None:
    rng = Random(4)
    values = [rng.choice((-1.0, 0.0, 0.0, 0.5, 1.0)) for _ in range(300)]
    found = Bootstrap(0.9).mean([[value] for value in values])
    expected = stats.bootstrap(
        (values,), fmean, confidence_level=0.9, n_resamples=2000, method="percentile", vectorized=False, rng=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((float(expected.low), float(expected.high)), abs=0.01)
    assert found.value == pytest.approx(fmean(values))


def coverage(tasks: int, repeats: int = 250) -> float:
    """How often the interval holds the truth, for skewed differences of few tasks."""
    held = 0
    for seed in range(repeats):
        rng = Random(f"coverage/{tasks}/{seed}")
        values = [rng.gauss(0.5, 1) for _ in range(tasks)]
        found = Bootstrap(resamples=500, seed=seed).mean([[value] for value in values])
        held += found.low <= 0.5 <= found.high
    return held / repeats


@pytest.mark.parametrize("tasks", [8, 25])
def test_intervals_hold_the_truth_as_often_as_they_say(tasks: int) -> None:
    sampling = sqrt(0.95 * 0.05 / 250)
    assert abs(coverage(tasks) - 0.95) < 2.6 * sampling


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


def rejections(repeats: int = 300) -> tuple[float, float]:
    """How often no difference is called one: by the clustered test, and by McNemar's over all trials."""
    clustered = naive = 0
    for seed in range(repeats):
        here, there = _clustered(Random(f"null/{seed}"))
        pairs = pair([here], [there], fmean, binary=True)
        assert pairs.outcomes is not None
        clustered += sign_flip(pairs.differences) <= 0.05
        naive += pairs.outcomes.p <= 0.05
    return clustered / repeats, naive / repeats


def _clustered(rng: Random) -> tuple[dict[str, dict[int, float | None]], dict[str, dict[int, float | None]]]:
    """Two agents that are alike on average, while each task suits one of them; five trials a task."""
    sides: list[dict[str, dict[int, float | None]]] = [{}, {}]
    for task in range(30):
        chances = rng.sample((0.2, 0.8), 2)
        for side, chance in zip(sides, chances, strict=True):
            side[f"t{task}"] = {trial: float(rng.random() < chance) for trial in range(5)}
    return sides[0], sides[1]


def test_trials_of_a_task_are_not_taken_for_independent_facts() -> None:
    clustered, naive = rejections()
    assert clustered <= 0.08
    assert naive >= 0.2, "the example would not show the error that is avoided"


def test_five_equal_trials_are_worth_one() -> None:
    once: Sequence[float] = [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    single = [{f"t{task}": cast("dict[int, float | None]", {0: value}) for task, value in enumerate(once)}]
    five = [{task: dict.fromkeys(range(5), cell[0]) for task, cell in single[0].items()}]
    nothing = [{task: dict.fromkeys(cell, 0.0) for task, cell in side.items()} for side in (single[0], five[0])]
    one, many = pair([nothing[0]], single, fmean), pair([nothing[1]], five, fmean)
    assert many.count == 5 * one.count
    assert sign_flip(one.differences) == sign_flip(many.differences) == 2 / 2**6
