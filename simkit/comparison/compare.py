"""Comparing arms: read, check, pair, test, correct, and say what may be claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

from simkit.comparison.checks import check_comparable, check_identical, incomparable
from simkit.comparison.claims import claims
from simkit.comparison.measures import (
    DEFAULT,
    Kind,
    Measure,
    Noise,
    Unit,
    groups,
    measure_of,
    noise_of_runs,
    noise_of_trials,
    numbers,
    pass_k,
    reached_by,
    suites,
)
from simkit.comparison.pairs import Pairs, cohen_h, detectable, holm, pair, sign_flip, standardised
from simkit.comparison.records import Arm, ArmFacts, EpisodeFacts, RunFacts, read_arms
from simkit.comparison.results import ArmScores, Comparison, Curve, Difference, GroupScore, Score
from simkit.errors import UsageError
from simkit.statistics.intervals import difference_limits
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
    resamples: int = RESAMPLES,
    seed: int = 0,
    allow_incomplete: bool = False,
) -> Comparison:
    """Compare arms on the tasks (and the scored items) that all their runs have; the first arm is the reference.

    Equal arguments give equal numbers.

    Args:
        metrics: `reward`, `success`, `pass^2`, `turns`, `calls`, `errors`; each is a claim that the correction counts.
        noise: runs of one configuration and different seeds, whose distances are the noise floor; without them that is
            measured on the trials of the compared runs, where there are several.
        level: of the intervals; 1 minus it is the chance of any false claim that is accepted.
        all_pairs: every arm against every other one instead of against the first.
        allow_incomplete: compare what could be read, although a run is still running or lines of it are missing.

    Raises:
        UsageError: fewer than two arms, unknown runs or metrics, nothing in common, or arms that measure different
            things (other world, variant, reward, or tasks of the same name that differ).
        StoreIncomplete: a run has not come to its end, or its journals hold lines that could not be read.
        StoreError: the store cannot be read.
    """
    if len(arms) < 2:
        raise UsageError("a comparison takes two runs or arms at least; `simkit ls` lists the runs")
    bootstrap = Bootstrap(level, resamples, seed)
    facts, repeats, state = read_arms(store, arms, noise, allow_incomplete=allow_incomplete)
    notes = check_comparable(facts)
    notes += check_identical(repeats, facts) if noise else ()
    bench = _Bench(facts, tuple(measure_of(name) for name in metrics), bootstrap, repeats, all_pairs)
    differences = bench.differences()
    return Comparison(
        level=level,
        tasks=len(bench.tasks),
        arms=tuple(bench.scores(arm) for arm in facts),
        differences=differences,
        places=bench.places(),
        groups=tuple(bench.group_scores()),
        curves=tuple(bench.curves()),
        noise=bench.noise,
        notes=(*notes, *bench.notes(differences)),
        claims=claims(differences, bench.noise, level, paired_seeds=bench.paired_seeds),
        state=state,
    )


@dataclass(frozen=True)
class _Bench:
    """Everything that one comparison works on."""

    arms: tuple[ArmFacts, ...]
    measures: tuple[Measure, ...]
    bootstrap: Bootstrap
    repeats: tuple[RunFacts, ...]
    all_pairs: bool

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that all runs have."""
        return tuple(sorted(set[str].intersection(*({*run.by_task} for arm in self.arms for run in arm.runs))))

    @cached_property
    def groups(self) -> tuple[Measure, ...]:
        """Domains and goal types of the common tasks."""
        return groups([episode for arm in self.arms for episode in self.episodes(arm)])

    @cached_property
    def noise(self) -> tuple[Noise, ...]:
        """What repeats show of each measure."""
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

    def against(self) -> Iterator[tuple[ArmFacts, ArmFacts]]:
        """Which arms stand against each other, the reference first."""
        if self.all_pairs:
            return combinations(self.arms, 2)
        return ((self.arms[0], arm) for arm in self.arms[1:])

    def episodes(self, arm: ArmFacts) -> tuple[EpisodeFacts, ...]:
        """The episodes of an arm on the common tasks."""
        wanted = {*self.tasks}
        return tuple(each for run in arm.runs for each in run.episodes if each.task_id in wanted)

    # --- arms alone ---------------------------------------------------------------------------------------------------

    def scores(self, arm: ArmFacts) -> ArmScores:
        """What an arm scored on the common tasks."""
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
                for measure in (*self.measures, *self._passes())
                if (estimate := self._estimate(arm, measure)) is not None
            ),
        )

    def _passes(self) -> Iterator[Measure]:
        """pass^k for as many trials as every arm has, where it is not asked for anyway."""
        deepest = min((self._trials(arm) for arm in self.arms), default=1)
        asked = {measure.name for measure in self.measures}
        return (pass_k(k) for k in range(2, deepest + 1) if f"pass^{k}" not in asked)

    def _trials(self, arm: ArmFacts) -> int:
        return min((len(run.by_task[task]) for run in arm.runs for task in self.tasks), default=1)

    def _estimate(self, arm: ArmFacts, measure: Measure) -> Estimate | None:
        cells = self._cells(arm, measure)
        if measure.k:
            together = [[measure.together(cell) for cell in task] for task in cells]
            found = [[value for value in task if value is not None] for task in together]
        else:
            found = [[value for cell in task for value in cell] for task in cells]
        groups = [group for group in found if group]
        if not groups:
            return None
        if measure.unit == "points":
            return mean_of_tasks(groups, self.bootstrap.level, bounds=(0.0, self._full(measure)))
        return self.bootstrap.mean(groups, f"{arm.name}/{measure.name}") if len(groups) > 1 else None

    def _full(self, measure: Measure) -> float:
        """The greatest number that there is to get: 1, or for rewards what they declare."""
        declared = [episode.full_reward for arm in self.arms for episode in self.episodes(arm)]
        return max((full for full in declared if full > 0), default=1.0) if measure.name == "reward" else 1.0

    def _cells(self, arm: ArmFacts, measure: Measure) -> list[list[list[float]]]:
        """The scored numbers of an arm: by task, run and trial."""
        tables = numbers(arm, measure, self.tasks)
        return [
            [[value for value in table[task].values() if value is not None] for table in tables if task in table]
            for task in self.tasks
        ]

    def group_scores(self) -> Iterator[GroupScore]:
        """The share of goals reached of each domain and goal type, by arm."""
        for measure in self.groups:
            for arm in self.arms:
                found = [[value for cell in task for value in cell] for task in self._cells(arm, measure)]
                means = [fmean(values) for values in found if values]
                if means:
                    yield GroupScore(measure.kind, measure.name, arm.name, len(means), fmean(means))

    def curves(self) -> Iterator[Curve]:
        """The reward by turn of each arm."""
        played = [self.episodes(arm) for arm in self.arms]
        last = max((episode.turns for episodes in played for episode in episodes), default=0)
        for arm, episodes in zip(self.arms, played, strict=True):
            by_task: dict[str, list[EpisodeFacts]] = {}
            for episode in episodes:
                if reached_by(episode, 0) is not None:
                    by_task.setdefault(episode.task_id, []).append(episode)
            if len(by_task) > 1:
                points = (_point(tuple(by_task.values()), turn, self.bootstrap.level) for turn in range(1, last + 1))
                yield Curve(arm.name, len(by_task), tuple(points))

    # --- arms against each other --------------------------------------------------------------------------------------

    def differences(self) -> tuple[Difference, ...]:
        """What is claimed or not: the measures, and the suites.

        Raises:
            UsageError: two arms have fewer than two tasks or items in common that both have scored.
        """
        found: list[Difference] = []
        for reference, arm in self.against():
            own = [*self._overall(reference, arm), *self._suites(reference, arm)]
            if not own:
                raise UsageError(_nothing_in_common(reference, arm, self.tasks))
            found += own
        return _corrected(found)

    def _overall(self, reference: ArmFacts, arm: ArmFacts) -> Iterator[Difference]:
        for measure in self.measures:
            pairs = self._pairs(reference, arm, measure)
            if len(pairs.tasks) > 1:
                yield self._difference(measure, reference, arm, pairs)

    def places(self) -> tuple[Difference, ...]:
        """Differences per domain and goal type that both arms have two tasks of."""
        quick = replace(self, bootstrap=replace(self.bootstrap, resamples=min(1000, self.bootstrap.resamples)))
        found = [
            quick._difference(measure, reference, arm, pairs)
            for reference, arm in self.against()
            for measure in self.groups
            if len((pairs := self._pairs(reference, arm, measure)).tasks) > 1
        ]
        return _corrected(found)

    def _pairs(self, reference: ArmFacts, arm: ArmFacts, measure: Measure) -> Pairs:
        here, there = numbers(reference, measure, self.tasks), numbers(arm, measure, self.tasks)
        return pair(here, there, measure.together, binary=measure.share and not measure.k)

    def _difference(self, measure: Measure, reference: ArmFacts, arm: ArmFacts, pairs: Pairs) -> Difference:
        title = _Title(measure.kind, measure.name, measure.label, measure.unit, reference.name, arm.name)
        return replace(
            self._tested(title, pairs, share=measure.share, full=self._full(measure)),
            noise=self._floor(measure, reference, arm, pairs),
            by_run=self._by_run(measure, reference, arm),
            incomparable=incomparable(reference, arm),
        )

    def _by_run(self, measure: Measure, reference: ArmFacts, arm: ArmFacts) -> tuple[float, ...]:
        """The difference in each pair of runs, where there are several."""
        here, there = numbers(reference, measure, self.tasks), numbers(arm, measure, self.tasks)
        if len(here) != len(there) or len(here) == 1:
            return ()
        found = [pair((low,), (high,), measure.together) for low, high in zip(here, there, strict=True)]
        return tuple(fmean(each.differences) for each in found if each.tasks)

    def _suites(self, reference: ArmFacts, arm: ArmFacts) -> Iterator[Difference]:
        for suite in suites(reference, arm):
            if len(suite.pairs.tasks) > 1:
                title = _Title("suite", suite.name, suite.name, suite.unit, reference.name, arm.name)
                yield replace(self._tested(title, suite.pairs), less_is_better=suite.less)

    def _tested(self, title: _Title, pairs: Pairs, *, share: bool = False, full: float = 1.0) -> Difference:
        p = sign_flip(pairs.differences)
        before, after = fmean(pairs.before), fmean(pairs.after)
        return Difference(
            kind=title.kind,
            name=title.name,
            label=title.label,
            unit=title.unit,
            reference=title.reference,
            arm=title.arm,
            tasks=len(pairs.tasks),
            pairs=pairs.count,
            left_out=pairs.left_out,
            before=before,
            after=after,
            estimate=self._interval(title, pairs, full),
            p=p,
            corrected=p,
            family=1,
            effect=cohen_h(before, after) if share else standardised(pairs.differences),
            effect_name="h" if share else "d",
            detectable=detectable(pairs.differences, self.bootstrap.level),
            by_run=(),
            noise=None,
            guarded=bool(self.repeats) and title.kind == "overall",
            outcomes=pairs.outcomes,
            alpha=self.bootstrap.alpha,
        )

    def _interval(self, title: _Title, pairs: Pairs, full: float) -> Estimate:
        """The mean difference with its interval: that of bounded scores where both sides lie between 0 and `full`."""
        bounded = all(0 <= value <= full for value in (*pairs.before, *pairs.after))
        if title.unit != "points" or not bounded:
            return self.bootstrap.mean([[value] for value in pairs.differences], repr(title))
        found = difference_limits([value / full for value in pairs.differences], self.bootstrap.level)
        centre = fmean(pairs.differences)
        return Estimate(centre, min(full * found.low, centre), max(full * found.high, centre))

    def _floor(self, measure: Measure, reference: ArmFacts, arm: ArmFacts, pairs: Pairs) -> float | None:
        """How far apart identical arms of this size lie."""
        found = next((each for each in self.noise if each.name == measure.name), None)
        if found is None or measure.kind != "overall":
            return None
        depths = (self._depth(reference, measure), self._depth(arm, measure))
        return found.floor(len(pairs.tasks), depths, (len(reference.runs), len(arm.runs)), self.bootstrap.level)

    def _depth(self, arm: ArmFacts, measure: Measure) -> float:
        """Scored episodes per task."""
        counts = [sum(map(len, task)) for task in self._cells(arm, measure)]
        return fmean(count for count in counts if count)

    def notes(self, differences: Sequence[Difference]) -> Iterator[str]:
        """What the counts have to say."""
        for arm in self.arms:
            missing = len({task for run in arm.runs for task in run.by_task} - {*self.tasks})
            if missing and self.tasks:
                yield f"compared on {len(self.tasks)} common tasks: {missing} more of `{arm.name}` are left out"
        for found in differences:
            if found.left_out and found.kind == "suite":
                yield f"{found.left_out} scores of {found.name} are left out: they, or their partners, are missing"
            elif found.left_out and found.name == self.measures[0].name:
                yield (
                    f"{found.left_out} episodes of `{found.reference}` and `{found.arm}` are left out: they, or their "
                    "partners, are not scored (faults, tasks without goals, unfinished)"
                )
        told = {found.name for found in differences}
        if self.tasks and (untold := [measure.name for measure in self.measures if measure.name not in told]):
            yield f"not compared: {', '.join(untold)}, for which fewer than two tasks have enough scored trials"
        if uneven := [arm.name for arm in self.arms if len(arm.runs) != len(self.arms[0].runs)]:
            yield f"{', '.join(uneven)}: another number of runs than the reference, so its runs are taken together"


def _point(tasks: Sequence[Sequence[EpisodeFacts]], turn: int, level: float) -> Estimate:
    """The mean over tasks at one turn; every task counts the same."""
    means = [fmean(reached_by(episode, turn) or 0.0 for episode in episodes) for episodes in tasks]
    return mean_of_tasks([[value] for value in means], level)


@dataclass(frozen=True, slots=True)
class _Title:
    kind: Kind
    name: str
    label: str
    unit: Unit
    reference: str
    arm: str


def _corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """Corrected for all that may be claimed; what cannot be compared is no chance of a false claim."""
    tested = [each for each in found if not each.incomparable]
    corrected = iter(holm([each.p for each in tested]))
    return tuple(
        each if each.incomparable else replace(each, corrected=next(corrected), family=len(tested)) for each in found
    )


def _nothing_in_common(reference: ArmFacts, arm: ArmFacts, tasks: Sequence[str]) -> str:
    runs = ", ".join(f"`{run.label}`" for run in (*reference.runs, *arm.runs))
    if not tasks:
        return f"{runs} have no tasks and no scored items in common; play the same --world, --split and --tasks"
    return f"{runs} have {len(tasks)} tasks in common, but fewer than two that all of them have scored"
