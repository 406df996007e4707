"""What a handful of noisy episodes says about an agent: intervals, and pass^k.

Trials of one task resemble each other, so intervals of means resample whole tasks (cluster bootstrap); a share of
single trials has a closed form that also holds at 0 and at 1 (Wilson 1927). pass^k is tau-bench's: the chance that k
independent trials of a task all succeed (arXiv 2406.12045, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from random import Random
from statistics import NormalDist

from simkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def mean(values: Sequence[float]) -> float:
    """The average; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def wilson(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """A share of independent trials with its Wilson score interval.

    Raises:
        UsageError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or not trials:
        raise UsageError(f"{successes} successes of {trials} trials have no interval; give at least one trial")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Estimate(share, max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share)))


def cluster_bootstrap(
    groups: Sequence[Sequence[float]], level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The mean of all values with a percentile interval from resampling whole groups (tasks with their trials).

    Deterministic: equal groups and seed give equal ends. One group alone has no spread between groups, so its interval
    is the whole range of its values.

    Raises:
        UsageError: there are no values.
    """
    sums = [(sum(group), len(group)) for group in groups if group]
    if not sums:
        raise UsageError("an interval needs at least one scored episode")
    centre = sum(total for total, _ in sums) / sum(count for _, count in sums)
    if len(sums) == 1:
        values = [value for group in groups for value in group]
        return Estimate(centre, min(values), max(values))
    means = sorted(_resampled_mean(sums, Random(f"{seed}/{number}")) for number in range(resamples))
    tail = (1 - level) / 2
    return Estimate(centre, quantile(means, tail), quantile(means, 1 - tail))


def _resampled_mean(sums: Sequence[tuple[float, int]], rng: Random) -> float:
    drawn = rng.choices(sums, k=len(sums))
    return sum(total for total, _ in drawn) / sum(count for _, count in drawn)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of some ordered values lies, between two of them by their distance."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def pass_hat(outcomes: Sequence[Sequence[bool]], k: int) -> float | None:
    """pass^k: the mean over tasks of C(successes, k) / C(trials, k); None when no task has k trials.

    `outcomes` holds one sequence a task, one success or failure a trial. Tasks with fewer than k trials are left out.
    """
    shares = [comb(sum(trials), k) / comb(len(trials), k) for trials in outcomes if len(trials) >= k]
    return mean(shares) if shares else None
