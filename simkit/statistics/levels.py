"""Intervals of a mean over tasks and over runs, when runs (trainings with different seeds) are a sample, too.

Tasks and runs are crossed: each run plays each task. The variance of the mean is that of the task means over their
number, plus that of the run means over theirs, minus what both have in common, the variance of single cells (the
two-way variance of Cameron, Gelbach and Miller, 2011). The limits use Student's t with Satterthwaite's degrees of
freedom. With two or three runs these are few, and the intervals wide. A bootstrap of three runs has ten different
resamples, which all are within the range of the runs. Measured coverage: `docs/comparison.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance
from typing import TypeAlias

from simkit.errors import UsageError
from simkit.statistics.intervals import beta_cdf, student
from simkit.statistics.scores import Estimate

Matrix: TypeAlias = Sequence[Mapping[str, float]]
"""Values of some runs: one table by task for each run."""


@dataclass(frozen=True, slots=True)
class RunLevel:
    """A mean difference, seen as one of those that other tasks and other runs would have given.

    Attributes:
        runs: number of runs of each side; one number if the runs are paired.
        over_runs: interval over runs, for these tasks.
        over_both: interval over tasks and runs.
        p: two-sided p-value, over tasks and runs.
        error, freedom: standard error of `over_both`, and its degrees of freedom.
    """

    runs: tuple[int, ...]
    over_runs: Estimate
    over_both: Estimate
    p: float
    error: float
    freedom: float


@dataclass(frozen=True, slots=True)
class _Variance:
    """An estimated variance with its degrees of freedom."""

    value: float
    freedom: float

    def plus(self, other: _Variance, shared: float) -> _Variance:
        """The variance of a sum minus what both have in common, with Satterthwaite's degrees of freedom."""
        whole = max(self.value, other.value, self.value + other.value - shared)
        parts = self.value**2 / self.freedom + other.value**2 / other.freedom
        return _Variance(whole, whole * whole / parts if parts else self.freedom)


def over_levels(
    differences: Sequence[float], sides: Sequence[Matrix], level: float = 0.95, *, null: float = 0.0
) -> RunLevel:
    """The interval of a mean difference over tasks and runs.

    Args:
        differences: difference of each task, averaged over runs; at least two.
        sides: differences of paired runs by task, or the values of each side's runs. A side with one run adds no
            variance, as nothing shows how its runs differ.
        level: confidence level.
        null: the difference that `p` tests.

    Raises:
        UsageError: there are fewer than two tasks, or no side has two runs.
    """
    several = [side for side in sides if len(side) > 1]
    if len(differences) < 2 or not several:
        raise UsageError("an interval over runs needs two tasks, and two runs on one side at least")
    runs, shared = _runs(several[0]), _cells(several[0])
    for side in several[1:]:
        runs, shared = runs.plus(_runs(side), 0.0), shared + _cells(side)
    tasks = _Variance(variance(differences) / len(differences), len(differences) - 1)
    both, centre = tasks.plus(runs, shared), fmean(differences)
    return RunLevel(
        runs=tuple(map(len, sides)),
        over_runs=_limits(centre, runs, level),
        over_both=_limits(centre, both, level),
        p=_p(centre - null, both),
        error=sqrt(both.value),
        freedom=both.freedom,
    )


def _runs(side: Matrix) -> _Variance:
    """The variance of a mean over runs."""
    return _Variance(variance([fmean(run.values()) for run in side]) / len(side), len(side) - 1)


def _cells(side: Matrix) -> float:
    """The variance of single values beyond their task and run, over the number of values."""
    tasks = [task for task in side[0] if all(task in run for run in side)]
    if len(tasks) < 2:
        return 0.0
    by_task = {task: fmean(run[task] for run in side) for task in tasks}
    by_run = [fmean(run[task] for task in tasks) for run in side]
    centre = fmean(by_run)
    left = sum(
        (run[task] - by_task[task] - own + centre) ** 2 for run, own in zip(side, by_run, strict=True) for task in tasks
    )
    return left / ((len(side) - 1) * (len(tasks) - 1)) / (len(side) * len(tasks))


def _limits(centre: float, spread: _Variance, level: float) -> Estimate:
    reach = student(0.5 + level / 2, spread.freedom) * sqrt(spread.value)
    return Estimate(centre, centre - reach, centre + reach)


def _p(centre: float, spread: _Variance) -> float:
    if not spread.value:
        return 0.0 if centre else 1.0
    t = centre / sqrt(spread.value)
    return beta_cdf(spread.freedom / (spread.freedom + t * t), spread.freedom / 2, 0.5)
