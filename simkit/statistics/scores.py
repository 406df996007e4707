"""Means of scores over tasks with confidence intervals, and pass^k.

Trials of one task are not independent, so tasks are the unit of every interval: `simkit.statistics.intervals` for
bounded values (rewards, shares, grades), and a bootstrap for the rest. pass^k is tau-bench's: the chance that k
independent trials of a task all succeed (arXiv 2406.12045, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb, sqrt
from random import Random
from statistics import NormalDist

from simkit.errors import UsageError
from simkit.statistics.intervals import mean_limits, student


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> dict[str, float]:
        """The number and its ends as JSON."""
        return asdict(self)


def mean(values: Sequence[float]) -> float:
    """The average; 0 without values."""
    return sum(values) / len(values) if values else 0.0


def mean_of_tasks(
    groups: Sequence[Sequence[float]],
    level: float = 0.95,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """The mean of all values with its interval over tasks; a group holds the trials of one task (or question).

    For values within `bounds` the interval is that of `simkit.statistics.intervals`: exact for one success or failure
    per task, and never of width 0. Other values get a bootstrap interval (for a single task: the range of its values).

    Raises:
        UsageError: there are no values.
    """
    known = [group for group in groups if group]
    values = [value for group in known for value in group]
    if not values:
        raise UsageError("an interval needs at least one scored episode")
    least, most = bounds
    if least <= min(values) and max(values) <= most:
        found = mean_limits([[(value - least) / (most - least) for value in group] for group in known], level)
        centre = sum(values) / len(values)
        low, high = (least + (most - least) * end for end in (found.low, found.high))
        return Estimate(centre, min(low, centre), max(high, centre))
    if len(known) == 1:
        return Estimate(sum(values) / len(values), min(values), max(values))
    return Bootstrap(level).mean(known)


RESAMPLES = 4000
"""Resamples of a bootstrap, with which the ends of a 95% interval vary by about a fiftieth of its width."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The interval of a mean of values without bounds (turns, calls, likelihoods): percentiles of resampled tasks.

    The percentiles are widened by the ratio of the t to the normal distribution (Hesterberg 2015, section 5.3.2),
    because plain percentiles are too narrow for few tasks. Equal arguments give equal ends.
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

    def mean(self, groups: Sequence[Sequence[float]], label: str = "") -> Estimate:
        """The mean of all values, grouped by task; `label` selects an independent random stream.

        Raises:
            UsageError: there are fewer than two tasks.
        """
        sums = [(sum(group), len(group)) for group in groups if group]
        count = len(sums)
        if count < 2:
            raise UsageError(f"{count} task has no interval; compare runs on at least two tasks")
        rng = Random(f"{self.seed}/{label}")
        means = sorted(_ratio(rng.choices(sums, k=count)) for _ in range(self.resamples))
        reach = sqrt(count / (count - 1)) * student(1 - self.alpha / 2, count - 1)
        tail = NormalDist().cdf(-reach)
        return Estimate(_ratio(sums), quantile(means, tail), quantile(means, 1 - tail))


def _ratio(sums: Sequence[tuple[float, int]]) -> float:
    return sum(total for total, _ in sums) / sum(count for _, count in sums)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Quantile of ordered values, by linear interpolation."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def pass_hat(outcomes: Sequence[Sequence[bool]], k: int) -> float | None:
    """pass^k: the mean over tasks of C(successes, k) / C(trials, k); None if no task has k trials.

    `outcomes` holds one sequence per task, with one success or failure per trial. Tasks with fewer
    than k trials are left out.
    """
    shares = [comb(sum(trials), k) / comb(len(trials), k) for trials in outcomes if len(trials) >= k]
    return mean(shares) if shares else None
