"""Comparison of arms, step by step: read, check, pair, test, correct, claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

from simkit.comparison.checks import check_comparable, check_identical, incomparable
from simkit.comparison.claims import claims
from simkit.comparison.family import corrected
from simkit.comparison.measures import (
    DEFAULT,
    END_MEASURES,
    Measure,
    Noise,
    Suite,
    groups,
    mean_or_none,
    measure_of,
    noise_of_runs,
    noise_of_trials,
    numbers,
    pass_k,
    reached_by,
    suites,
)
from simkit.comparison.pairs import PairedValues
from simkit.comparison.plan import ComparisonPlan
from simkit.comparison.records import Arm, ArmRecords, EpisodeRecord, RunRecord, read_arms
from simkit.comparison.results import ArmScores, Comparison, Curve, Difference, GroupScore, Score
from simkit.comparison.tested import Question, Sides
from simkit.errors import UsageError
from simkit.statistics.scores import RESAMPLES, Bootstrap, Estimate, mean_of_tasks

if TYPE_CHECKING:
    from simkit.store import Reader, Store


def compare(
    store: Store | Reader,
    arms: Sequence[Arm],
    *,
    metrics: Sequence[str] = DEFAULT,
    noise: Sequence[str] = (),
    level: float = 0.95,
    all_pairs: bool = False,
    plan: ComparisonPlan | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    allow_incomplete: bool = False,
) -> Comparison:
    """Compare arms on the tasks (and the scored items) that all their runs have; the first arm is the reference.

    Equal arguments give equal numbers.

    Args:
        metrics: `reward`, `success`, `pass^2`, `turns`, `calls`, `errors`; the correction counts each.
        noise: runs of one configuration with different seeds, from which the noise floor is estimated. Without them it
            is estimated from the trials of the compared runs, if there are several.
        level: confidence level of the intervals; 1 minus it is the accepted chance of any false claim.
        all_pairs: compare every arm with every other one instead of with the first; part of `plan`, too.
        plan: which arms are compared, and what may be claimed about runs and suites.
        allow_incomplete: compare what could be read, even if a run is still running or lines of it are missing.

    Raises:
        UsageError: fewer than two arms, unknown runs or metrics, nothing in common, or arms that measure different
            things (different worlds, variants or rewards, or tasks of the same name that differ).
        StoreIncomplete: a run is not finished, or its journals hold lines that could not be read.
        StoreError: the store cannot be read.
    """
    if len(arms) < 2:
        raise UsageError("a comparison needs at least two runs or arms; `simkit ls` lists the runs")
    bootstrap = Bootstrap(level, resamples, seed)
    facts, repeats, state = read_arms(store, arms, noise, allow_incomplete=allow_incomplete)
    notes = check_comparable(facts)
    notes += check_identical(repeats, facts) if noise else ()
    computation = _Computation(
        facts,
        tuple(measure_of(name) for name in metrics),
        bootstrap,
        repeats,
        plan or ComparisonPlan(all_pairs=all_pairs),
    )
    differences = computation.differences()
    return Comparison(
        level=level,
        tasks=len(computation.tasks),
        arms=tuple(computation.scores(arm) for arm in facts),
        differences=differences,
        places=computation.places(),
        groups=tuple(computation.group_scores()),
        curves=tuple(computation.curves()),
        noise=computation.noise,
        notes=(*notes, *computation.notes(differences)),
        claims=claims(differences, computation.noise, level, paired_seeds=computation.paired_seeds),
        state=state,
        secondary=computation.secondary(),
        paired_seeds=computation.paired_seeds,
    )


@dataclass(frozen=True)
class _Computation:
    """Inputs of one comparison, and the results computed from them."""

    arms: tuple[ArmRecords, ...]
    measures: tuple[Measure, ...]
    bootstrap: Bootstrap
    repeats: tuple[RunRecord, ...]
    plan: ComparisonPlan

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that all runs have."""
        return tuple(sorted(set[str].intersection(*({*run.by_task} for arm in self.arms for run in arm.runs))))

    @cached_property
    def groups(self) -> tuple[Measure, ...]:
        """Domains and goal types of the common tasks."""
        return groups([episode for arm in self.arms for episode in self.episodes(arm)])

    @cached_property
    def noise(self) -> tuple[Noise, ...]:
        """Noise of repeats, for each measure where it can be estimated."""
        wanted = [measure for measure in self.measures if not measure.k] if self.tasks else []
        found = [
            noise_of_runs(self.repeats, measure) if self.repeats else noise_of_trials(self.arms, measure, self.tasks)
            for measure in wanted
        ]
        return tuple(each for each in found if each is not None)

    @property
    def paired_seeds(self) -> bool:
        """Whether all arms have the same seeds, run by run."""
        return len({tuple(run.seed for run in arm.runs) for arm in self.arms}) == 1

    def arm_pairs(self) -> Iterator[tuple[ArmRecords, ArmRecords]]:
        """Pairs of arms to compare, the reference first."""
        return self.plan.arm_pairs(self.arms)

    def episodes(self, arm: ArmRecords) -> tuple[EpisodeRecord, ...]:
        """The episodes of an arm on the common tasks."""
        wanted = {*self.tasks}
        return tuple(each for run in arm.runs for each in run.episodes if each.task_id in wanted)

    # --- arms alone ---------------------------------------------------------------------------------------------------

    def scores(self, arm: ArmRecords) -> ArmScores:
        """Scores of an arm on the common tasks."""
        episodes = self.episodes(arm)
        return ArmScores(
            name=arm.name,
            runs=tuple(run.run_id for run in arm.runs),
            tasks=len(self.tasks),
            elsewhere=len({task for run in arm.runs for task in run.by_task} - {*self.tasks}),
            episodes=len(episodes),
            scored=sum(episode.reward is not None for episode in episodes),
            faulted=sum(episode.faulted for episode in episodes),
            scores=tuple(
                Score(measure.name, measure.label, measure.unit, estimate)
                for measure in (*self.measures, *self._passes(), *self._ends())
                if (estimate := self._estimate(arm, measure)) is not None
            ),
            outcomes=dict(sorted(Counter(episode.outcome or "unfinished" for episode in episodes).items())),
        )

    def _passes(self) -> Iterator[Measure]:
        """Measures pass^2, pass^3, ... up to the number of trials that all arms have, except those already chosen."""
        deepest = min((self._trials(arm) for arm in self.arms), default=1)
        asked = {measure.name for measure in self.measures}
        return (pass_k(k) for k in range(2, deepest + 1) if f"pass^{k}" not in asked)

    def _ends(self) -> Iterator[Measure]:
        """Measures beside the reward that the episodes have, except those already chosen."""
        asked = {measure.name for measure in self.measures}
        found = {name for arm in self.arms for episode in self.episodes(arm) for name in episode.measures}
        return (measure for measure in END_MEASURES if measure.name in found - asked)

    def _trials(self, arm: ArmRecords) -> int:
        return min((len(run.by_task[task]) for run in arm.runs for task in self.tasks), default=1)

    def _estimate(self, arm: ArmRecords, measure: Measure) -> Estimate | None:
        cells = self._cells(arm, measure)
        if measure.k:
            combined = [[measure.combine(cell) for cell in task] for task in cells]
            found = [[value for value in task if value is not None] for task in combined]
        else:
            found = [[value for cell in task for value in cell] for task in cells]
        groups = [group for group in found if group]
        if not groups:
            return None
        if measure.unit == "points":
            return mean_of_tasks(groups, self.bootstrap.level, bounds=(0.0, self._full(measure)))
        return self.bootstrap.mean(groups, f"{arm.name}/{measure.name}") if len(groups) > 1 else None

    def _full(self, measure: Measure) -> float:
        """The maximum of a measure: 1, or the full reward that the episodes declare."""
        declared = [episode.full_reward for arm in self.arms for episode in self.episodes(arm)]
        return max((full for full in declared if full > 0), default=1.0) if measure.name == "reward" else 1.0

    def _cells(self, arm: ArmRecords, measure: Measure) -> list[list[list[float]]]:
        """Scored values of an arm by task, run and trial."""
        tables = numbers(arm, measure, self.tasks)
        return [
            [[value for value in table[task].values() if value is not None] for table in tables if task in table]
            for task in self.tasks
        ]

    def group_scores(self) -> Iterator[GroupScore]:
        """Share of goals reached per domain and goal type, for each arm."""
        for measure in self.groups:
            for arm in self.arms:
                found = [[value for cell in task for value in cell] for task in self._cells(arm, measure)]
                means = [fmean(values) for values in found if values]
                if means:
                    yield GroupScore(measure.kind, measure.name, arm.name, len(means), fmean(means))

    def curves(self) -> Iterator[Curve]:
        """Reward by turn of each arm."""
        played = [self.episodes(arm) for arm in self.arms]
        last = max((episode.turns for episodes in played for episode in episodes), default=0)
        for arm, episodes in zip(self.arms, played, strict=True):
            by_task: dict[str, list[EpisodeRecord]] = {}
            for episode in episodes:
                if reached_by(episode, 0) is not None:
                    by_task.setdefault(episode.task_id, []).append(episode)
            if len(by_task) > 1:
                points = (_point(tuple(by_task.values()), turn, self.bootstrap.level) for turn in range(1, last + 1))
                yield Curve(arm.name, len(by_task), tuple(points))

    # --- arms against each other --------------------------------------------------------------------------------------

    def differences(self) -> tuple[Difference, ...]:
        """Differences of the measures and the suites, one family for the correction.

        Raises:
            UsageError: two arms have fewer than two tasks or items in common that both have scored.
        """
        found: list[Difference] = []
        for reference, arm in self.arm_pairs():
            own = [*self._overall(reference, arm), *self._suites(reference, arm)]
            if not own:
                raise UsageError(_nothing_in_common(reference, arm, self.tasks))
            found += own
        return corrected(found)

    def _overall(self, reference: ArmRecords, arm: ArmRecords) -> Iterator[Difference]:
        for measure in self.measures:
            pairs = self._pairs(reference, arm, measure)
            if len(pairs.tasks) > 1:
                yield self._difference(measure, reference, arm, pairs)

    def places(self) -> tuple[Difference, ...]:
        """Differences per domain and goal type, where both arms have at least two tasks with them."""
        quick = replace(self, bootstrap=replace(self.bootstrap, resamples=min(1000, self.bootstrap.resamples)))
        found = [
            quick._difference(measure, reference, arm, pairs)
            for reference, arm in self.arm_pairs()
            for measure in self.groups
            if len((pairs := self._pairs(reference, arm, measure)).tasks) > 1
        ]
        return corrected(found)

    def _sides(self, reference: ArmRecords, arm: ArmRecords, measure: Measure) -> Sides:
        return Sides(
            before=numbers(reference, measure, self.tasks),
            after=numbers(arm, measure, self.tasks),
            combine=measure.combine,
            binary=measure.share and not measure.k,
        )

    def _pairs(self, reference: ArmRecords, arm: ArmRecords, measure: Measure) -> PairedValues:
        return self._sides(reference, arm, measure).pairs()

    def _difference(self, measure: Measure, reference: ArmRecords, arm: ArmRecords, pairs: PairedValues) -> Difference:
        question = Question(
            kind=measure.kind,
            name=measure.name,
            label=measure.label,
            unit=measure.unit,
            reference=reference.name,
            arm=arm.name,
            share=measure.share,
            full=self._full(measure),
            seeds=self.plan.are_seeds(reference, arm),
            guarded=bool(self.repeats) and measure.kind == "overall",
        )
        return replace(
            question.answer(self._sides(reference, arm, measure), pairs, self.bootstrap),
            noise=self._floor(measure, reference, arm, pairs),
            incomparable=incomparable(reference, arm),
        )

    def secondary(self) -> tuple[Difference, ...]:
        """Differences of the metrics of suites that are not primary."""
        return corrected([each for pair in self.arm_pairs() for each in self._suites(*pair, primary=False)])

    def _suites(self, reference: ArmRecords, arm: ArmRecords, *, primary: bool = True) -> Iterator[Difference]:
        found = [suite for suite in suites(reference, arm) if len(suite.pairs.tasks) > 1]
        for name, own in groupby(found, key=lambda suite: suite.name):
            metrics = list(own)
            known, said = [each.metric for each in metrics], [each.metric for each in metrics if each.said]
            chosen = self.plan.primary_of(name, known, said)
            for suite in metrics:
                if (suite.metric == chosen) is primary:
                    yield self._suite(suite, reference, arm, self.plan.margin_of(reference, arm) if primary else None)

    def _suite(self, suite: Suite, reference: ArmRecords, arm: ArmRecords, margin: float | None) -> Difference:
        question = Question(
            kind="suite",
            name=suite.label,
            label=suite.label,
            unit=suite.unit,
            reference=reference.name,
            arm=arm.name,
            less_is_better=suite.lower_is_better,
            margin=margin,
            seeds=self.plan.are_seeds(reference, arm),
        )
        sides = Sides(before=suite.before, after=suite.after, combine=mean_or_none)
        return question.answer(sides, suite.pairs, self.bootstrap)

    def _floor(self, measure: Measure, reference: ArmRecords, arm: ArmRecords, pairs: PairedValues) -> float | None:
        """Noise floor: the distance that identical arms of this size keep within."""
        found = next((each for each in self.noise if each.name == measure.name), None)
        if found is None or measure.kind != "overall":
            return None
        depths = (self._depth(reference, measure), self._depth(arm, measure))
        return found.floor(len(pairs.tasks), depths, (len(reference.runs), len(arm.runs)), self.bootstrap.level)

    def _depth(self, arm: ArmRecords, measure: Measure) -> float:
        """Scored episodes per task."""
        counts = [sum(map(len, task)) for task in self._cells(arm, measure)]
        return fmean(count for count in counts if count)

    def notes(self, differences: Sequence[Difference]) -> Iterator[str]:
        """Notes about tasks, episodes and measures that are left out."""
        for arm in self.arms:
            missing = len({task for run in arm.runs for task in run.by_task} - {*self.tasks})
            if missing and self.tasks:
                yield f"compared on {len(self.tasks)} common tasks: {missing} other tasks of `{arm.name}` are left out"
        for found in differences:
            if found.left_out and found.kind == "suite":
                yield f"{found.left_out} scores of {found.name} are left out: they or their counterparts are missing"
            elif found.left_out and found.name == self.measures[0].name:
                yield (
                    f"{found.left_out} episodes of `{found.reference}` and `{found.arm}` are left out: they or "
                    "their counterparts are not scored (faults, tasks without goals, unfinished)"
                )
        compared = {found.name for found in differences}
        if self.tasks and (others := [measure.name for measure in self.measures if measure.name not in compared]):
            yield f"not compared: {', '.join(others)}, for which fewer than two tasks have enough scored trials"
        if uneven := [arm.name for arm in self.arms if len(arm.runs) != len(self.arms[0].runs)]:
            yield f"{', '.join(uneven)}: a different number of runs from the reference, so runs are pooled by task"


def _point(tasks: Sequence[Sequence[EpisodeRecord]], turn: int, level: float) -> Estimate:
    """The mean over tasks at one turn, with equal weights."""
    means = [fmean(reached_by(episode, turn) or 0.0 for episode in episodes) for episodes in tasks]
    return mean_of_tasks([[value] for value in means], level)


def _nothing_in_common(reference: ArmRecords, arm: ArmRecords, tasks: Sequence[str]) -> str:
    runs = ", ".join(f"`{run.label}`" for run in (*reference.runs, *arm.runs))
    if not tasks:
        return f"{runs} have no tasks and no scored items in common; play the same --world, --split and --tasks"
    return (
        f"{runs} have {len(tasks)} tasks in common, but fewer than two with scores in all of them; play more tasks, or "
        "look at their faults with `simkit show`"
    )
