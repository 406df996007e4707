"""Intervals against their definitions (scipy counts the tails), and how often they hold the truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import factorial, isclose, prod
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.statistics.intervals import IntervalEnds, Sample, beta_cdf, blaker, difference_limits, mean_limits

np: Any = require("numpy", "test")
stats: Any = require("scipy.stats", "test")
special: Any = require("scipy.special", "test")


def acceptable(successes: int, trials: int, rates: Any, alpha: float) -> Any:
    """Blaker's: rates with which all results whose smaller tail is at most as likely as that of this one have alpha."""
    counts = np.arange(trials + 1)[:, np.newaxis]
    tails = np.minimum(stats.binom.cdf(counts, trials, rates), stats.binom.sf(counts - 1, trials, rates))
    chances = stats.binom.pmf(counts, trials, rates)
    return rates[np.where(tails <= tails[successes] * (1 + 1e-9), chances, 0.0).sum(axis=0) >= alpha]


@pytest.mark.parametrize(
    ("successes", "trials", "level"),
    [
        (0, 1, 0.95),
        (1, 2, 0.95),
        (0, 10, 0.95),
        (1, 10, 0.95),
        (5, 10, 0.95),
        (3, 7, 0.9),
        (12, 25, 0.99),
        (29, 30, 0.8),
    ],
)
def test_blakers_ends_are_where_rates_begin_to_be_acceptable(successes: int, trials: int, level: float) -> None:
    found, alpha, grid = blaker(successes, trials, level), 1 - level, 1500
    accepted = acceptable(successes, trials, np.arange(1, grid) / grid, alpha)
    assert found.low - 1e-9 <= accepted[0] < found.low + 1 / grid or successes == 0 == found.low
    assert found.high - 1 / grid < accepted[-1] <= found.high + 1e-9 or (successes == trials and found.high == 1)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0, 0.2829), (1, 10, 0.0051, 0.4444), (3, 7, 0.1288, 0.7747), (12, 25, 0.2940, 0.6830)],
)
def test_blakers_interval_keeps_its_numbers(successes: int, trials: int, low: float, high: float) -> None:
    found = blaker(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_blaker_lies_within_clopper_and_pearson_and_is_symmetric(case: tuple[int, int], level: float) -> None:
    found, mirrored = blaker(*case, level), blaker(case[1] - case[0], case[1], level)
    exact = stats.binomtest(*case).proportion_ci(level, method="exact")
    assert exact.low - 1e-9 <= found.low <= case[0] / case[1] <= found.high <= exact.high + 1e-9
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_interval(successes: int, trials: int) -> None:
    with pytest.raises(UsageError, match="at least one trial"):
        blaker(successes, trials)


@settings(deadline=None)  # a busy machine is no failure
@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4), st.floats(0, 1))
def test_the_beta_distribution_is_scipys(a: float, b: float, x: float) -> None:
    assert isclose(beta_cdf(x, a, b), float(special.betainc(a, b, x)), rel_tol=1e-7, abs_tol=1e-9)


@pytest.mark.parametrize(("tasks", "rate"), [(5, 0.01), (15, 0.01), (15, 0.5), (30, 0.1), (100, 0.02), (450, 0.3)])
def test_single_trials_hold_the_level_exactly(tasks: int, rate: float) -> None:
    """The chance that the interval holds the rate, summed over all results: Wilson's is 0.860 for 15 tasks at 1%."""
    held = 0.0
    for successes in range(tasks + 1):
        chance = float(stats.binom.pmf(successes, tasks, rate))
        if chance > 1e-9:
            found = mean_limits([[float(n < successes)] for n in range(tasks)])
            held += chance * (found.low <= rate <= found.high)
    assert held >= 0.95 - 1e-6


def test_one_success_or_failure_a_task_is_blakers_interval() -> None:
    found = mean_limits([[1.0]] * 7 + [[0.0]] * 13)
    expected = blaker(7, 20)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("trials", [1, 2, 3, 8])
@pytest.mark.parametrize(("value", "expected"), [(0.0, IntervalEnds(0, 0.2829)), (1.0, IntervalEnds(0.7171, 1))])
def test_trials_without_a_difference_say_as_much_as_their_tasks(
    trials: int, value: float, expected: IntervalEnds
) -> None:
    found = mean_limits([[value] * trials] * 10)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=5e-5)


def test_trials_that_repeat_each_other_count_once() -> None:
    once = mean_limits([[float(n < 6)] for n in range(20)])
    often = mean_limits([[float(n < 6)] * 8 for n in range(20)])
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_trials_that_differ_within_their_task_are_worth_nearly_as_many_tasks() -> None:
    groups = [[1.0, 0.0, 0.0, 1.0] if n % 2 else [0.0, 1.0, 1.0, 0.0] for n in range(100)]
    found, many = mean_limits(groups), blaker(200, 400)
    assert found.low <= many.low + 1e-9
    assert many.high - 1e-9 <= found.high
    assert found.high - found.low < 1.1 * (many.high - many.low)


def test_equal_shares_prove_no_equality() -> None:
    found = mean_limits([[0.5]] * 10)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.5 * 0.2829, 0.5 + 0.5 * 0.2829), abs=1e-4)


def test_a_task_with_most_of_the_trials_does_not_count_as_many_tasks() -> None:
    one_sided = Sample.of([[0.0] * 90, *[[0.0]] * 10])
    assert one_sided.tasks == pytest.approx(100 * 100 / (90 * 90 + 10))
    assert mean_limits([[0.0] * 90, *[[0.0]] * 10]).high > 0.8


def test_one_task_alone_has_an_interval() -> None:
    assert mean_limits([[1.0, 0.0, 1.0]]).low < 0.1
    assert mean_limits([[1.0, 0.0, 1.0]]).high > 0.95


def test_nothing_has_no_interval() -> None:
    with pytest.raises(UsageError, match="at least one scored episode"):
        mean_limits([[], []])
    with pytest.raises(UsageError, match="at least two tasks"):
        difference_limits([0.5])


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=12))
def test_intervals_hold_their_mean_and_stay_in_range(groups: list[list[float]]) -> None:
    found = mean_limits(groups)
    mean = sum(map(sum, groups)) / sum(map(len, groups))
    assert 0 <= found.low <= mean + 1e-12
    assert mean - 1e-12 <= found.high <= 1
    assert found.low < found.high


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=2, max_size=20))
def test_differences_turn_round_with_their_arms(values: list[float]) -> None:
    found, turned = difference_limits(values), difference_limits([-value for value in values])
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low), abs=1e-9)
    assert -1 <= found.low <= sum(values) / len(values) + 1e-12 <= found.high + 2e-12


def test_equal_pairs_prove_no_equality() -> None:
    found = difference_limits([0.0] * 10)
    assert (found.low, found.high) == pytest.approx((-0.2829, 0.2829), abs=5e-5)


@pytest.mark.parametrize(
    ("tasks", "trials", "rate", "alike"), [(10, 3, 0.02, 0.3), (10, 8, 0.5, 0.3), (30, 2, 0.1, 1), (30, 5, 0.3, 0)]
)
def test_several_trials_hold_the_truth_as_often_as_they_say(tasks: int, trials: int, rate: float, alike: float) -> None:
    """A small part of `python -m benchmarks.coverage`; a fixed seed, so it holds or it does not."""
    rng, held, repeats = Random(f"{tasks}/{trials}/{rate}/{alike}"), 0, 250
    known: dict[tuple[int, ...], IntervalEnds] = {}
    for _ in range(repeats):
        counts = tuple(sorted(_successes(rng, trials, rate, alike) for _ in range(tasks)))
        if counts not in known:
            known[counts] = mean_limits([[1.0] * count + [0.0] * (trials - count) for count in counts])
        held += known[counts].low <= rate <= known[counts].high
    assert held / repeats > 0.92  # 0.95 less two standard errors


def _successes(rng: Random, trials: int, rate: float, alike: float) -> int:
    if alike == 1:
        return trials * (rng.random() < rate)
    scale = 0 if alike == 0 else (1 - alike) / alike
    own = rng.betavariate(rate * scale, (1 - rate) * scale) if scale else rate
    return sum(rng.random() < own for _ in range(trials))


def test_the_interval_of_pass_2_of_four_trials_holds_the_truth_at_few_tasks() -> None:
    """Counted over the results of ten tasks whose successes of 4 are equally likely to be 0, 1, 2, 3 or 4."""
    values, chances, tasks = (0.0, 1 / 6, 1 / 2, 1.0), (2 / 5, 1 / 5, 1 / 5, 1 / 5), 10
    held = 0.0
    for counts in product(range(tasks + 1), repeat=len(values)):
        if sum(counts) != tasks:
            continue
        ways = factorial(tasks) / prod(map(factorial, counts))
        chance = ways * prod(one**count for one, count in zip(chances, counts, strict=True))
        if chance > 5e-4:  # rarer results count as misses: that saves half of the time
            limits = mean_limits([[value] for value, count in zip(values, counts, strict=True) for _ in range(count)])
            held += chance * (limits.low <= 1 / 3 <= limits.high)
    assert held >= 0.94


WRITTEN: Sequence[tuple[Sequence[Sequence[float]], float, float, float]] = [
    ([[1, 0], [1], [0, 0, 1], [1, 1], [0], [1, 0, 1]], 0.95, 0.293961057341421, 0.8189752427576865),
    ([[0, 0, 0]] * 11 + [[1, 0, 0]], 0.95, 0.0011773831248355832, 0.19219936228586743),
    ([[1, 1, 1, 1]] * 6 + [[1, 1, 1, 0]], 0.8, 0.8078249015209359, 0.9935372684426795),
    ([[0.25], [0.5, 0.75], [1], [0, 0.5], [0.9], [0.3]], 0.95, 0.26276143091030973, 0.7731267407983805),
    ([[0.01], [0], [0.02], [0]], 0.95, 1.8864998092161536e-06, 0.5353966235717967),
    ([[0.7]] * 4, 0.8, 0.43716343173937083, 0.8126442435402697),
    ([[1, 0]] * 5, 0.95, 0.22244110100812256, 0.7775588989918775),
    ([[1, 0, 0], [1, 1, 1]], 0.95, 0.06769298428012234, 0.9955795637726087),
    ([[1, 0, 1]], 0.8, 0.0656084190471509, 0.9958002560195209),
    ([[n % 3 == 0, n % 7 == 0] for n in range(60)], 0.95, 0.16853147198122959, 0.32781979752380486),
]


@pytest.mark.parametrize(("groups", "level", "low", "high"), WRITTEN)
def test_equal_trials_have_equal_intervals_in_every_release(
    groups: Sequence[Sequence[float]], level: float, low: float, high: float
) -> None:
    """Written down: what was reported once can be computed again. The coverage of these ends is measured."""
    found = mean_limits([[*map(float, group)] for group in groups], level)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(
    ("values", "level", "low", "high"),
    [
        ([0.5, -0.25, 1.0, 0.0, 0.0], 0.95, -0.29067135365973196, 0.7079114821409063),
        ([1.0, -1.0, 1.0, 1.0, 0.0, 1.0, 1.0], 0.8, 0.053110801793784246, 0.8243294832307082),
        ([0.1, 0.2], 0.95, -0.6392173313417333, 0.8302075327979304),
        ([-1.0] * 4, 0.8, -1.0, -0.4689899435403093),
        ([0.5, -0.5], 0.95, -0.9007935940886238, 0.9007935940886238),
    ],
)
def test_equal_differences_have_equal_intervals_in_every_release(
    values: Sequence[float], level: float, low: float, high: float
) -> None:
    found = difference_limits(values, level)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.5, 3.0), (7.0, 0.25)])
def test_the_beta_distribution_begins_with_0_and_ends_with_1(a: float, b: float) -> None:
    assert (beta_cdf(0.0, a, b), beta_cdf(1.0, a, b)) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(4, 4), (6, 7), (8, 8), (12, 12), (16, 16), (17, 17)])
def test_a_rate_of_one_half_that_is_just_acceptable_belongs_to_the_interval(successes: int, trials: int) -> None:
    """Its tails have exactly the chance 1 - level: both are equally likely."""
    level = 1 - 2 * float(stats.binom.sf(successes - 1, trials, 0.5))
    high, low = blaker(successes, trials, level), blaker(trials - successes, trials, level)
    assert 0.5 - 1e-9 < high.low <= 0.5 <= low.high < 0.5 + 1e-9


def test_shares_that_hardly_differ_are_worth_no_more_than_a_million_trials() -> None:
    found = mean_limits([[0.5], [0.500001]] * 1000)
    million = blaker(500_000.5, 1_000_000)
    assert (found.low, found.high) == pytest.approx((million.low, million.high), abs=1e-11)
