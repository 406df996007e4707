"""Confidence intervals of scores: exact for single trials, and valid for few tasks and for correlated trials.

The unit is the task. The effective sample size of a mean over tasks is the number of independent trials with the same
variance (Kish 1965; for intervals of proportions Korn and Graubard 1998). The interval is Blaker's exact interval
(Canadian Journal of Statistics 28, 2000) for that number of trials, so with one success or failure per task it is
Blaker's interval itself. If tasks are few or all equal, their spread is underestimated; the effective size is then
shrunk towards the number of tasks, so that ten tasks without a success never give the interval 0 to 0.
Measured coverage: `docs/comparison.md`, `python -m benchmarks.coverage`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, lgamma, log, pi, sqrt
from statistics import NormalDist, fmean

from simkit.errors import UsageError

PRIOR = 0.1
"""Squared deviations added to those of the tasks, as if these were single trials (a task with the largest deviation has
0.25 at a mean of 0.5); increased by 1 / tasks."""

SHARES = 1.3
"""Factor of `PRIOR` for values between 0 and 1 instead of successes and failures, because a few such tasks can deviate
so little that they hide how much others differ."""

NEAR = 4.0
"""Divisor of the distance to the end of the range, which bounds the added deviations close to it."""

MOST = 1e6
"""Maximum of the effective trials, for values that differ by less than floats resolve."""

_TINY = 1e-12
_HALVINGS = 44


@dataclass(frozen=True, slots=True)
class IntervalEnds:
    """Ends of an interval."""

    low: float
    high: float


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a and b above 0."""
    if x <= 0:
        return 0.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or _TINY)
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + even * d or _TINY)
        c = 1 + even / c or _TINY
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + odd * d or _TINY)
        c = 1 + odd / c or _TINY
        value *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return value


def _at_least(successes: float, trials: float, rate: float) -> float:
    """Probability of this number of successes (above 0) or more; the beta function interpolates between integers."""
    return beta_cdf(rate, successes, trials - successes + 1)


def _at_most(successes: float, trials: float, rate: float) -> float:
    """Probability of this number of successes (below `trials`) or fewer."""
    return 0.0 if successes <= -1 else 1 - _at_least(successes + 1, trials, rate)


def blaker(successes: float, trials: float, level: float = 0.95) -> IntervalEnds:
    """Blaker's exact interval of a rate: never wider than Clopper and Pearson's, with the level at every rate.

    It contains the rates at which results as unlikely as this one, in both tails, have a probability of more than
    1 - `level`. The numbers need not be integers.

    Raises:
        UsageError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or not trials > 0:
        raise UsageError(f"{successes} successes of {trials} trials have no interval; give at least one trial")
    alpha = 1 - level
    return IntervalEnds(_lower(successes, trials, alpha), 1 - _lower(trials - successes, trials, alpha))


def _lower(successes: float, trials: float, alpha: float) -> float:
    """The lower end: the first rate, from Clopper and Pearson's lower end on, that is acceptable.

    Up to the rate where the next result of the other tail becomes as unlikely as this one, acceptability falls and then
    rises; beyond that rate everything up to the observed rate is acceptable.
    """
    if successes <= _TINY:
        return 0.0
    alpha *= 1 - 1e-12  # a rate of one half has exactly this chance at some levels, and belongs to the interval
    observed, tail = successes / trials, alpha / 2
    start = _first(lambda rate: _at_least(successes, trials, rate) >= tail, 0.0, observed)
    other = _other_tail(successes, trials, start, tail)

    def acceptable(rate: float) -> bool:
        here = _at_least(successes, trials, rate)
        return here + _at_most(other, trials, rate) >= alpha or _at_most(other + 1, trials, rate) <= here

    return _first(acceptable, start, observed)


def _other_tail(successes: float, trials: float, rate: float, tail: float) -> float:
    """The largest result below this one whose tail has a probability of at most `tail`."""
    low, high = 1, int(successes) + 2
    while low < high:
        middle = (low + high) // 2
        if _at_most(successes - middle, trials, rate) <= tail:
            high = middle
        else:
            low = middle + 1
    return successes - low


def _first(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number between `low` and `high` from which on `holds` is true, rounded down.

    Both tails are equally likely at a rate of exactly one half, so it often is an end, and it belongs to the interval.
    """
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return low


@dataclass(frozen=True, slots=True)
class Sample:
    """Sufficient statistics of task means between 0 and 1 for an interval of their mean.

    Attributes:
        mean: mean over all trials.
        tasks: number of tasks; for unequal numbers of trials, the equivalent number of equal tasks.
        spread: sum of squared deviations of tasks from the mean.
        trials: maximum of independent trials: the number of successes and failures, infinite for shares.
        alike: true if all tasks have the same mean.
    """

    mean: float
    tasks: float
    spread: float
    trials: float
    alike: bool

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> Sample:
        """Statistics of the trials of each task; every group has at least one."""
        sizes = [len(group) for group in groups]
        whole = sum(sizes)
        mean = sum(map(sum, groups)) / whole
        tasks = whole * whole / sum(size * size for size in sizes)
        means = [fmean(group) for group in groups]
        spread = sum((tasks * size / whole * (each - mean)) ** 2 for size, each in zip(sizes, means, strict=True))
        binary = all(value in (0.0, 1.0) for group in groups for value in group)
        return cls(mean, tasks, spread, whole if binary else inf, max(means) - min(means) < _TINY)

    def size(self, near: float) -> float:
        """Effective trials, for the limit on the side where the end of the range is `near` away from the mean."""
        full = self.tasks * self.mean * (1 - self.mean)
        if self.tasks <= 1 or full <= _TINY:
            return self.tasks
        prior = PRIOR * SHARES if self.trials == inf else PRIOR
        added = min(prior * (1 + 1 / self.tasks), near / NEAR)
        ratio = (self.spread + added) / (full + added)
        ratio = max(ratio, min(1.0, ratio * self.tasks / (self.tasks - 1)))
        return min(MOST, self.trials, self.tasks / ratio)


def mean_limits(groups: Sequence[Sequence[float]], level: float = 0.95) -> IntervalEnds:
    """The interval of the mean of values between 0 and 1, given as the trials of each task.

    Raises:
        UsageError: there are no values.
    """
    known = [group for group in groups if group]
    if not known:
        raise UsageError("an interval needs at least one scored episode")
    return _limits(Sample.of(known), level)


def _limits(sample: Sample, level: float) -> IntervalEnds:
    alpha, mean = 1 - level, sample.mean
    below, above = sample.size(mean), sample.size(1 - mean)
    low, high = _lower(mean * below, below, alpha), 1 - _lower((1 - mean) * above, above, alpha)
    if sample.alike:  # so few tasks do not show how others would differ
        unseen = blaker(0, sample.tasks, level).high
        low, high = min(low, mean * (1 - unseen)), max(high, mean + (1 - mean) * unseen)
    return IntervalEnds(min(low, mean), max(high, mean))


def difference_limits(values: Sequence[float], level: float = 0.95) -> IntervalEnds:
    """The interval of the mean of differences between -1 and 1, one per task.

    Gains and losses get an interval each, and these are combined with their correlation (the square-and-add method of
    Newcombe, Statistics in Medicine 17, 1998). Equal pairs do not prove equality: for ten of them the limits are 0.28.

    Raises:
        UsageError: there are fewer than two tasks.
    """
    if len(values) < 2:
        raise UsageError(f"{len(values)} task has no interval; compare runs on at least two tasks")
    gains, losses = [max(value, 0.0) for value in values], [max(-value, 0.0) for value in values]
    up, down = (Sample.of([[value] for value in side]) for side in (gains, losses))
    gain, loss = _limits(up, level), _limits(down, level)
    shared = _correlation(len(values), up, down)
    below = _combined(up.mean - gain.low, loss.high - down.mean, shared)
    above = _combined(gain.high - up.mean, down.mean - loss.low, shared)
    centre = up.mean - down.mean
    return IntervalEnds(max(-1.0, centre - below), min(1.0, centre + above))


def _combined(one: float, other: float, correlation: float) -> float:
    return sqrt(one * one + other * other - 2 * correlation * one * other)


def _correlation(tasks: int, up: Sample, down: Sample) -> float:
    """Correlation of gains and losses: never above 0, because no task has both."""
    spread = sqrt(up.spread * down.spread)
    return -tasks * up.mean * down.mean / spread if spread > 0 else 0.0


def student(share: float, freedom: float) -> float:
    """Quantile of Student's t distribution for shares from 0.5, by Newton's method from the normal quantile."""
    t = NormalDist().inv_cdf(share)
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)
    for _ in range(50):
        above = 0.5 * beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5)
        step = (share - 1 + above) / (scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2))
        t += step
        if abs(step) < 1e-10 * t:
            break
    return t
