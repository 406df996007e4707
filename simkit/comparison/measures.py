"""Measures by which arms are compared: numbers of episodes, scores of suite items, and the noise of repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import sqrt
from statistics import NormalDist, fmean, variance
from typing import Literal, TypeAlias

from simkit.comparison.pairs import PairedValues, Table, pair
from simkit.comparison.records import ArmRecords, EpisodeRecord, ItemRecord, RunRecord
from simkit.core.events import FLOOR, READS_MADE, WRITES_MADE
from simkit.errors import UsageError
from simkit.statistics.scores import pass_hat

Unit: TypeAlias = Literal["points", ""]
Kind: TypeAlias = Literal["overall", "domain", "goal type", "suite"]

DEFAULT = ("reward", "success")


@dataclass(frozen=True, slots=True)
class Measure:
    """A value of each episode by which runs are compared.

    Attributes:
        name: the name that `--metric` takes.
        label: the name in sentences.
        of: value of an episode; None if it has no value.
        unit: `points` for shares of 1, which are shown in hundredths; empty for plain numbers.
        k: number of trials that must all succeed, for pass^k; 0 for other measures.
        share: true for a share of successes, whose effect size is Cohen's h.
        kind: `overall`, or the `domain` or `goal type` whose goals are counted.
    """

    name: str
    label: str
    of: Callable[[EpisodeRecord], float | None]
    unit: Unit = "points"
    k: int = 0
    share: bool = False
    kind: Kind = "overall"

    def combine(self, values: Sequence[float]) -> float | None:
        """The value of a task from those of its trials; None if there are too few."""
        if self.k:
            return pass_hat([[bool(value) for value in values]], self.k)
        return fmean(values) if values else None


def _scored(count: Callable[[EpisodeRecord], int]) -> Callable[[EpisodeRecord], float | None]:
    return lambda episode: None if episode.reward is None else float(count(episode))


REWARD = Measure("reward", "average reward", lambda episode: episode.reward)
SUCCESS_RATE = Measure("success", "success rate", lambda episode: episode.success, share=True)
COUNTS = (
    Measure("turns", "agent turns per episode", _scored(lambda episode: episode.turns), ""),
    Measure("calls", "tool calls per episode", _scored(lambda episode: episode.calls), ""),
    Measure("errors", "refused tool calls per episode", _scored(lambda episode: episode.errors), ""),
)
END_MEASURES = (
    Measure("floor", "reward for doing nothing", lambda episode: episode.measures.get(FLOOR)),
    Measure("reads_made", "share of the solution's reads made", lambda episode: episode.measures.get(READS_MADE)),
    Measure("writes_made", "share of the solution's writes made", lambda episode: episode.measures.get(WRITES_MADE)),
)
"""Measures that exist only where the world says how episodes should end."""


def pass_k(k: int) -> Measure:
    """Measure of pass^k (tau-bench): the chance that k trials of a task all succeed."""
    return Measure(f"pass^{k}", f"pass^{k}", lambda episode: episode.success, k=k, share=True)


def measure_of(name: str) -> Measure:
    """The measure with this name.

    Raises:
        UsageError: the name is unknown; the message lists the known ones.
    """
    known = {measure.name: measure for measure in (REWARD, SUCCESS_RATE, *COUNTS, *END_MEASURES)}
    if name in known:
        return known[name]
    if found := re.fullmatch(r"pass\^?([1-9]\d?)", name):
        return pass_k(int(found[1]))
    raise UsageError(f"unknown metric `{name}`; choose one of: {', '.join(known)}, pass^2 (pass^3, ...)")


def domain_of(goal: str) -> str:
    """The domain of a goal's key: the part after the verb (`hotel` in `book_hotel`), or the whole key."""
    return goal.partition("_")[2] or goal


def groups(episodes: Sequence[EpisodeRecord]) -> tuple[Measure, ...]:
    """Measures of the share of goals reached, one per domain and one per goal type of the episodes."""
    keys = sorted({goal for episode in episodes for goal in episode.goals})
    domains = sorted({domain_of(key) for key in keys})
    return (
        *(
            Measure(name, name, _share(lambda key, name=name: domain_of(key) == name), kind="domain")
            for name in domains
        ),
        *(Measure(name, name, _share(lambda key, name=name: key == name), kind="goal type") for name in keys),
    )


def _share(chosen: Callable[[str], bool]) -> Callable[[EpisodeRecord], float | None]:
    def share(episode: EpisodeRecord) -> float | None:
        wanted = Counter(filter(chosen, episode.goals))
        if episode.reward is None or not wanted:
            return None
        return (wanted & Counter(episode.achieved)).total() / wanted.total()

    return share


def reached_by(episode: EpisodeRecord, turn: int) -> float | None:
    """Share of the goals' weight credited up to and including a turn; None if the episode is not scored."""
    if episode.reward is None or not episode.goals:
        return None
    whole = sum(episode.weights.get(goal, 1.0) for goal in episode.goals)
    return sum(episode.weights.get(goal, 1.0) for at, goal in episode.reached if at <= turn) / whole if whole else None


def numbers(arm: ArmRecords, measure: Measure, tasks: Sequence[str]) -> tuple[Table, ...]:
    """Values of a measure for these tasks, one table per run of the arm."""
    return tuple(
        {
            task: {trial: measure.of(episode) for trial, episode in run.by_task[task].items()}
            for task in tasks
            if task in run.by_task
        }
        for run in arm.runs
    )


DESCRIPTIVE = frozenset({"answered", "judged", "words"})
"""Metrics that count or describe answers. They are not scores, so nothing is claimed about them."""


def mean_or_none(values: Sequence[float]) -> float | None:
    """The mean; None without values."""
    return fmean(values) if values else None


@dataclass(frozen=True)
class Suite:
    """One metric of one suite in two arms; `said` if the suite says that it is its primary one."""

    name: str
    metric: str
    lower_is_better: bool
    said: bool
    before: tuple[Table, ...]
    after: tuple[Table, ...]

    @property
    def label(self) -> str:
        """The suite with its metric."""
        return f"{self.name}/{self.metric}"

    @cached_property
    def pairs(self) -> PairedValues:
        """Scores of the questions that both arms have."""
        return pair(self.before, self.after, mean_or_none)

    @property
    def unit(self) -> Unit:
        """Points for scores from 0 to 1 (accuracies), otherwise the scale of the suite."""
        return "points" if all(0 <= value <= 1 for value in (*self.pairs.before, *self.pairs.after)) else ""


def suites(reference: ArmRecords, arm: ArmRecords) -> Iterator[Suite]:
    """Suites and metrics that all runs of both arms have, by name; a question missing from a run has no score there."""
    runs = (*reference.runs, *arm.runs)
    for suite, metric in sorted(set[tuple[str, str]].intersection(*(_suite_metrics(run) for run in runs))):
        found = [[item for item in run.items if (item.suite, item.metric) == (suite, metric)] for run in runs]
        asked = sorted({(item.item, item.trial) for items in found for item in items})
        tables = [_item_table(items, asked) for items in found]
        lower, said = (any(getattr(item, name) for each in found for item in each) for name in _SAID)
        split = len(reference.runs)
        yield Suite(suite, metric, lower, said, tuple(tables[:split]), tuple(tables[split:]))


_SAID = ("lower_is_better", "primary")


def _suite_metrics(run: RunRecord) -> set[tuple[str, str]]:
    return {(item.suite, item.metric) for item in run.items if item.metric not in DESCRIPTIVE}


def _item_table(items: Sequence[ItemRecord], asked: Sequence[tuple[str, int]]) -> Table:
    found: dict[str, dict[int, float | None]] = {}
    for item, trial in asked:
        found.setdefault(item, {})[trial] = None
    for each in items:
        found[each.item][each.trial] = each.value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Differences between repeats of the same configuration.

    Attributes:
        source: repeated runs (`--noise`), or repeated trials of the compared runs. Trials share what a run has only
            once, e.g. a training seed.
        repeats: number of repeats.
        tasks: number of tasks that were repeated.
        typical, furthest: mean and largest distance between two of these repeats.
        within: variance of an episode around the mean of its task.
        between: variance of repeated runs beyond what their episodes explain.
    """

    name: str
    label: str
    unit: Unit
    source: Literal["repeated runs", "repeated trials"]
    repeats: int
    tasks: int
    typical: float
    furthest: float
    within: float
    between: float

    def floor(self, tasks: int, episodes: tuple[float, float], runs: tuple[int, int], level: float) -> float:
        """The distance that identical arms keep within, with probability `level`.

        `episodes` holds the episodes per task of both arms, and `runs` their numbers of runs.
        """
        variance = self.within / tasks * sum(1 / each for each in episodes) + self.between * sum(1 / n for n in runs)
        return NormalDist().inv_cdf(0.5 + level / 2) * sqrt(variance)


def noise_of_runs(runs: Sequence[RunRecord], measure: Measure) -> Noise | None:
    """Noise estimated from repeated runs; None if they have fewer than two scored tasks in common."""
    tasks = sorted(set[str].intersection(*({*run.by_task} for run in runs)))
    tables = numbers(ArmRecords("noise", tuple(runs)), measure, tasks)
    scored = [[_scored_values(table, task) for table in tables] for task in tasks]
    whole = [cells for cells in scored if all(cells)]
    if len(whole) < 2:
        return None
    means = [fmean(fmean(cells[place]) for cells in whole) for place in range(len(runs))]
    within = _pooled_variance([[value for cell in cells for value in cell] for cells in whole])
    depth = fmean(len(cell) for cells in whole for cell in cells)
    between = max(0.0, variance(means) - within / len(whole) / depth)
    return _noise(measure, "repeated runs", [means], len(whole), within, between)


def noise_of_trials(arms: Sequence[ArmRecords], measure: Measure, tasks: Sequence[str]) -> Noise | None:
    """Noise estimated from repeated trials of the compared runs; None if tasks were played once."""
    tables = [table for arm in arms for table in numbers(arm, measure, tasks)]
    cells = [cell for table in tables for task in table if len(cell := _scored_values(table, task)) > 1]
    repeats = [means for table in tables if len(means := _by_trial(table)) > 1]
    if not cells or not repeats:
        return None
    return _noise(measure, "repeated trials", repeats, len(tasks), _pooled_variance(cells), 0.0)


def _noise(
    measure: Measure,
    source: Literal["repeated runs", "repeated trials"],
    repeats: Sequence[Sequence[float]],
    tasks: int,
    within: float,
    between: float,
) -> Noise:
    distances = [abs(one - other) for means in repeats for one, other in combinations(means, 2)]
    return Noise(
        name=measure.name,
        label=measure.label,
        unit=measure.unit,
        source=source,
        repeats=sum(map(len, repeats)),
        tasks=tasks,
        typical=fmean(distances),
        furthest=max(distances),
        within=within,
        between=between,
    )


def _scored_values(table: Table, task: str) -> list[float]:
    return [value for value in table[task].values() if value is not None]


def _pooled_variance(cells: Sequence[Sequence[float]]) -> float:
    """The pooled variance around the means of the cells."""
    freedom = sum(len(cell) - 1 for cell in cells)
    return sum(variance(cell) * (len(cell) - 1) for cell in cells if len(cell) > 1) / freedom if freedom else 0.0


def _by_trial(table: Table) -> list[float]:
    """The mean of each trial over the tasks whose trials are all scored."""
    trials = sorted({trial for cell in table.values() for trial in cell})
    whole: list[Mapping[int, float]] = []
    for cell in table.values():
        found = {trial: value for trial, value in cell.items() if value is not None}
        if len(found) == len(trials):
            whole.append(found)
    return [fmean(cell[trial] for cell in whole) for trial in trials] if whole else []
