"""Tests and intervals for paired differences, with whole tasks as the unit: trials of one task are not independent.

Exact where that can be had: the sign-flip test counts all 2^n assignments of the signs with one long integer. Known
answers of all of these are in `tests/comparison` (scipy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import asin, comb, exp, gcd, lcm, lgamma, log, pi, sqrt
from random import Random
from statistics import NormalDist, fmean, stdev

from simkit.errors import UsageError
from simkit.statistics import Estimate, quantile

RESAMPLES = 4000
"""Resamples of a bootstrap: the ends of a 95% interval then vary by about a fiftieth of its width."""

POWER = 0.8
"""A detectable difference is found this often."""

FEW = 10
"""Where fewer tasks than this differ, resampling sees too little of what could have happened."""

_LONGEST = 1 << 24
"""Bits of the integer that an exact test may take: 2 MB, about a fifth of a second."""
_FINEST = 10_000
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Outcomes:
    """McNemar's table of pairs of episodes: `lost` succeeded in the reference alone, `won` in the arm alone."""

    both: int
    lost: int
    won: int
    neither: int

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p-value; right only when no task has several pairs."""
        discordant, fewer = self.lost + self.won, min(self.lost, self.won)
        tail = sum(comb(discordant, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / 2**discordant)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p-value of the differences of tasks, were each as likely to have the other sign.

    That is so when both sides are alike on every task, however the differences are distributed. Exact when the
    differences are multiples of a common fraction (rewards are) and fit into memory, else on the nearest grid that
    does; for over 400 tasks off any grid, the normal approximation. With one success or failure on each side this is
    McNemar's exact test. Nothing differs: 1.
    """
    signed = [value for value in differences if abs(value) > _NOTHING]
    if not signed:
        return 1.0
    whole = _on_grid(signed)
    if whole is None:
        z = abs(sum(signed)) / sqrt(sum(value * value for value in signed))
        return 2 * NormalDist().cdf(-z)
    return _counted(whole)


def _counted(signed: Sequence[int]) -> float:
    """The share of sign assignments whose sum is at least as far from 0.

    Digit T of `ways`, in base 2^width, counts the choices of positive terms that add up to T.
    """
    values = sorted(abs(value) for value in signed if value)
    if not values:
        return 1.0
    width, ways = len(values) + 1, 1
    for value in values:
        ways += ways << (value * width)
    observed, total = abs(sum(signed)), sum(values)
    tail = (ways >> ((total + observed) // 2 * width)) % ((1 << width) - 1)  # a sum of digits
    return min(1.0, 2 * tail / (1 << len(values)))


def _on_grid(signed: Sequence[float]) -> list[int] | None:
    """The values as whole multiples of something, exactly if that fits; None when no grid would do them justice."""
    room = _LONGEST // (len(signed) + 1)
    fractions = [Fraction(value).limit_denominator(_FINEST) for value in signed]
    if all(abs(float(near) - value) < _NOTHING for near, value in zip(fractions, signed, strict=True)):
        scale = lcm(*(fraction.denominator for fraction in fractions))
        whole = [int(fraction * scale) for fraction in fractions]
        whole = [value // gcd(*whole) for value in whole]
        if sum(map(abs, whole)) <= room:
            return whole
    if room < 100 * len(signed):
        return None
    step = sum(map(abs, signed)) / (room // 2)
    return [round(value / step) for value in signed]


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for there being several (Holm 1979): at most `alpha` chance of any false claim among them."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, highest = [1.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return tuple(corrected)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals of mean differences are made: percentiles of resampled tasks.

    The percentiles are a little further out than the level says, as much as t is wider than the normal distribution
    (Hesterberg 2015, section 5.3.2): plain ones are too narrow for few tasks.
    """

    level: float = 0.95
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1:
            raise UsageError(f"--level is {self.level}; give the coverage of the intervals as a share, e.g. 0.95")

    @property
    def alpha(self) -> float:
        """The chance of a false claim that is accepted."""
        return 1 - self.level

    def mean(self, values: Sequence[float], label: str = "", *, bounded: bool = False) -> Estimate:
        """The mean of one value a task; the label gives the resampling a stream of its own.

        `bounded` are differences of scores from 0 to 1: where few tasks differ, the interval is at least that of
        Agresti and Min (2005), so that ten equal pairs do not prove that all are equal.

        Raises:
            UsageError: there are fewer than two tasks.
        """
        count = len(values)
        if count < 2:
            raise UsageError(f"{count} task has no interval; compare runs on at least two tasks")
        centre, rng = fmean(values), Random(f"{self.seed}/{label}")
        sums = sorted(sum(rng.choices(values, k=count)) for _ in range(self.resamples))
        reach = sqrt(count / (count - 1)) * student(1 - self.alpha / 2, count - 1)
        tail = NormalDist().cdf(-reach)
        low, high = quantile(sums, tail) / count, quantile(sums, 1 - tail) / count
        if bounded and sum(abs(value) > _NOTHING for value in values) < FEW:
            shrunk, half = self._cautious(values)
            low, high = max(-1.0, min(low, shrunk - half)), min(1.0, max(high, shrunk + half))
        return Estimate(centre, low, high)

    def _cautious(self, values: Sequence[float]) -> tuple[float, float]:
        """Centre and half width with one task more that is half won and half lost, and one that is undecided."""
        count = len(values) + 2
        centre = sum(values) / count
        variance = (sum(value * value for value in values) + 1) / count - centre * centre
        return centre, NormalDist().inv_cdf(1 - self.alpha / 2) * sqrt(variance / count)

    def detectable(self, values: Sequence[float]) -> float | None:
        """The difference that such tasks would show 4 times in 5; None when all differences are equal."""
        spread = stdev(values)
        return (student(1 - self.alpha / 2, len(values) - 1) + NormalDist().inv_cdf(POWER)) * spread / sqrt(
            len(values)
        ) or None


def cohen_h(before: float, after: float) -> float:
    """Cohen's h, the effect size of two shares: 0.2 is small, 0.5 medium, 0.8 large."""
    return 2 * asin(sqrt(min(1.0, max(0.0, after)))) - 2 * asin(sqrt(min(1.0, max(0.0, before))))


def standardised(differences: Sequence[float]) -> float | None:
    """The mean difference in standard deviations of the tasks' differences; None when all are equal."""
    spread = stdev(differences)
    return fmean(differences) / spread if spread > _NOTHING else None


def student(share: float, freedom: float) -> float:
    """The quantile of Student's t distribution, for shares from 0.5: Newton's method from the normal quantile."""
    t = NormalDist().inv_cdf(share)
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)
    for _ in range(50):
        step = (share - _student_cdf(t, freedom)) / (scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2))
        t += step
        if abs(step) < 1e-10 * t:
            break
    return t


def _student_cdf(t: float, freedom: float) -> float:
    return 1 - 0.5 * _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), from its far end."""
    value = 1.0
    for m in range(int(30 + 4 * sqrt(a + b)), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        value = 1 + odd / (1 + even / value)
    return 1 / value
