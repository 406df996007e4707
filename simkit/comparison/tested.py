"""One tested difference: its interval, its p-value, its effect, over tasks and, if runs are a sample, over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from simkit.comparison.measures import Kind, Unit
from simkit.comparison.pairs import (
    POWER,
    Combine,
    PairedValues,
    Table,
    cohen_h,
    detectable,
    pair,
    sign_flip,
    standardised,
)
from simkit.comparison.preserved import loss_p
from simkit.comparison.results import Difference
from simkit.statistics.intervals import difference_limits, student
from simkit.statistics.levels import Matrix, RunLevel, over_levels
from simkit.statistics.scores import Bootstrap, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Values of both arms, one table for each run, and how the trials of a task become one value."""

    before: Sequence[Table]
    after: Sequence[Table]
    combine: Combine
    binary: bool = False

    def pairs(self) -> PairedValues:
        """The arms, paired by task."""
        return pair(self.before, self.after, self.combine, binary=self.binary)

    def by_run(self) -> tuple[Mapping[str, float], ...]:
        """Differences by task of each pair of runs; empty if the arms have one run, or unequal numbers of them."""
        if len(self.before) != len(self.after) or len(self.before) == 1:
            return ()
        found = [pair((low,), (high,), self.combine) for low, high in zip(self.before, self.after, strict=True)]
        return tuple(dict(zip(each.tasks, each.differences, strict=True)) for each in found if each.tasks)

    def matrices(self) -> list[Matrix]:
        """The samples of runs: one of paired runs, or one for each arm."""
        if paired := self.by_run():
            return [paired] if len(paired) > 1 else []
        sides = [[self._values(table) for table in tables] for tables in (self.before, self.after)]
        return [[run for run in side if run] for side in sides]

    def _values(self, table: Table) -> dict[str, float]:
        scored = {task: [each for each in cell.values() if each is not None] for task, cell in table.items()}
        combined = {task: self.combine(values) for task, values in scored.items()}
        return {task: value for task, value in combined.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about two arms.

    Attributes:
        share: a share of successes, whose effect size is Cohen's h.
        full: largest value of bounded measures.
        margin: largest loss that counts as preserved, as a share of `full`, or of the reference's value where the
            measure has no bounds; None to test for a difference.
        seeds: the runs are a sample, over which the answer has to generalise.
        guarded: a claimed difference must exceed the noise of repeated runs.
    """

    kind: Kind
    name: str
    label: str
    unit: Unit
    reference: str
    arm: str
    share: bool = False
    full: float = 1.0
    less_is_better: bool = False
    margin: float | None = None
    seeds: bool = False
    guarded: bool = False

    def answer(self, sides: Sides, pairs: PairedValues, bootstrap: Bootstrap) -> Difference:
        """The difference of the arms."""
        before, after = fmean(pairs.before), fmean(pairs.after)
        bounded = self.unit == "points" and all(0 <= each <= self.full for each in (*pairs.before, *pairs.after))
        margin = None if self.margin is None else self.margin * (self.full if self.unit == "points" else abs(before))
        over_tasks = self._interval(pairs, bounded, bootstrap)
        p = self._p(pairs.differences, margin, bounded)
        level = self._level(sides, pairs, margin, bootstrap.level)
        by_run = sides.by_run()
        return Difference(
            kind=self.kind,
            name=self.name,
            label=self.label,
            unit=self.unit,
            reference=self.reference,
            arm=self.arm,
            tasks=len(pairs.tasks),
            pairs=pairs.count,
            left_out=pairs.left_out,
            before=before,
            after=after,
            estimate=self._joined(over_tasks, level),
            p=p if level is None else max(p, level.p),
            corrected=p if level is None else max(p, level.p),
            family=1,
            effect=cohen_h(before, after) if self.share else standardised(pairs.differences),
            effect_name="h" if self.share else "d",
            detectable=self._detectable(pairs, level, bootstrap.level),
            by_run=tuple(fmean(run.values()) for run in by_run),
            noise=None,
            guarded=self.guarded,
            outcomes=pairs.outcomes,
            alpha=bootstrap.alpha,
            less_is_better=self.less_is_better,
            margin=margin,
            over_tasks=over_tasks,
            runs=level,
        )

    def _interval(self, pairs: PairedValues, bounded: bool, bootstrap: Bootstrap) -> Estimate:
        """The mean difference with its interval over tasks."""
        if not bounded:
            names = (self.kind, self.name, self.label, self.unit, self.reference, self.arm)
            return bootstrap.mean([[value] for value in pairs.differences], repr(names))
        found = difference_limits([value / self.full for value in pairs.differences], bootstrap.level)
        centre = fmean(pairs.differences)
        return Estimate(centre, min(self.full * found.low, centre), max(self.full * found.high, centre))

    def _p(self, differences: Sequence[float], margin: float | None, bounded: bool) -> float:
        if margin is None:
            return sign_flip(differences)
        gains = [-each for each in differences] if self.less_is_better else differences
        return loss_p(gains, margin, full=self.full if bounded else None)

    def _level(self, sides: Sides, pairs: PairedValues, margin: float | None, level: float) -> RunLevel | None:
        matrices = sides.matrices() if self.seeds else []
        if not any(len(each) > 1 for each in matrices):
            return None
        loss = 0.0 if margin is None else margin if self.less_is_better else -margin
        return over_levels(pairs.differences, matrices, level, null=loss)

    def _joined(self, over_tasks: Estimate, level: RunLevel | None) -> Estimate:
        """The interval over tasks and runs, which is never narrower than the one over tasks."""
        if level is None:
            return over_tasks
        low, high = min(over_tasks.low, level.over_both.low), max(over_tasks.high, level.over_both.high)
        if self.unit == "points":
            low, high = max(low, -self.full), min(high, self.full)
        return Estimate(over_tasks.value, low, high)

    def _detectable(self, pairs: PairedValues, runs: RunLevel | None, level: float) -> float | None:
        """The detectable difference; None if it is greater than any that there can be."""
        if runs is None:
            found = detectable(pairs.differences, level)
        else:
            found = (student(0.5 + level / 2, runs.freedom) + NormalDist().inv_cdf(POWER)) * runs.error or None
        return None if found is None or (self.unit == "points" and found > self.full) else found
