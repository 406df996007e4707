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

from simkit.comparison.pairs import Pairs, Table, pair
from simkit.comparison.records import ArmFacts, EpisodeFacts, Item, RunFacts
from simkit.errors import UsageError
from simkit.statistics.scores import pass_hat

Unit: TypeAlias = Literal["points", ""]
Kind: TypeAlias = Literal["overall", "domain", "goal type", "suite"]

DEFAULT = ("reward", "success")


@dataclass(frozen=True, slots=True)
class Measure:
    """One number by which runs are compared.

    Attributes:
        name: as `--metric` takes it.
        label: as people say it.
        of: the number of an episode; None where it has none.
        unit: `points` for shares of 1, told in hundredths; otherwise the number as it is.
        k: for pass^k, how many trials must succeed together.
        share: it is a share of successes (effect sizes are Cohen's h).
    """

    name: str
    label: str
    of: Callable[[EpisodeFacts], float | None]
    unit: Unit = "points"
    k: int = 0
    share: bool = False
    kind: Kind = "overall"

    def together(self, values: Sequence[float]) -> float | None:
        """The number of a task from those of its trials; None when there are too few."""
        if self.k:
            return pass_hat([[bool(value) for value in values]], self.k)
        return fmean(values) if values else None


def _scored(count: Callable[[EpisodeFacts], int]) -> Callable[[EpisodeFacts], float | None]:
    return lambda episode: None if episode.reward is None else float(count(episode))


REWARD = Measure("reward", "average reward", lambda episode: episode.reward)
SUCCESS_RATE = Measure("success", "success rate", lambda episode: episode.success, share=True)
COUNTS = (
    Measure("turns", "agent turns per episode", _scored(lambda episode: episode.turns), ""),
    Measure("calls", "tool calls per episode", _scored(lambda episode: episode.calls), ""),
    Measure("errors", "refused tool calls per episode", _scored(lambda episode: episode.errors), ""),
)


def pass_k(k: int) -> Measure:
    """pass^k of tau-bench: the chance that k trials of a task all succeed."""
    return Measure(f"pass^{k}", f"pass^{k}", lambda episode: episode.success, k=k, share=True)


def measure_of(name: str) -> Measure:
    """The measure of a name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    known = {measure.name: measure for measure in (REWARD, SUCCESS_RATE, *COUNTS)}
    if name in known:
        return known[name]
    if found := re.fullmatch(r"pass\^?([1-9]\d?)", name):
        return pass_k(int(found[1]))
    raise UsageError(f"there is no metric `{name}`; take one of: {', '.join(known)}, pass^2 (pass^3, ...)")


def domain_of(goal: str) -> str:
    """The domain of a goal's key: what follows the verb (`book_hotel`), or the key itself."""
    return goal.partition("_")[2] or goal


def groups(episodes: Sequence[EpisodeFacts]) -> tuple[Measure, ...]:
    """The share of goals reached, per domain and per goal type, of all goals that there are."""
    keys = sorted({goal for episode in episodes for goal in episode.goals})
    domains = sorted({domain_of(key) for key in keys})
    return (
        *(
            Measure(name, name, _share(lambda key, name=name: domain_of(key) == name), kind="domain")
            for name in domains
        ),
        *(Measure(name, name, _share(lambda key, name=name: key == name), kind="goal type") for name in keys),
    )


def _share(chosen: Callable[[str], bool]) -> Callable[[EpisodeFacts], float | None]:
    def share(episode: EpisodeFacts) -> float | None:
        wanted = Counter(filter(chosen, episode.goals))
        if episode.reward is None or not wanted:
            return None
        return (wanted & Counter(episode.achieved)).total() / wanted.total()

    return share


def reached_by(episode: EpisodeFacts, turn: int) -> float | None:
    """The share of the goals' weight that was credited up to a turn; None when the episode is not scored."""
    if episode.reward is None or not episode.goals:
        return None
    whole = sum(episode.weights.get(goal, 1.0) for goal in episode.goals)
    return sum(episode.weights.get(goal, 1.0) for at, goal in episode.reached if at <= turn) / whole if whole else None


def numbers(arm: ArmFacts, measure: Measure, tasks: Sequence[str]) -> tuple[Table, ...]:
    """The numbers of an arm's runs for some tasks."""
    return tuple(
        {
            task: {trial: measure.of(episode) for trial, episode in run.by_task[task].items()}
            for task in tasks
            if task in run.by_task
        }
        for run in arm.runs
    )


DESCRIPTIVE = frozenset({"answered", "judged", "words"})
"""Metrics that count or describe answers: they are no scores, nothing is claimed of them."""


@dataclass(frozen=True)
class Suite:
    """One metric of one suite in two arms; `less` says that less of it is better."""

    name: str
    less: bool
    before: tuple[Table, ...]
    after: tuple[Table, ...]

    @cached_property
    def pairs(self) -> Pairs:
        """The questions that both arms have."""
        return pair(self.before, self.after, lambda values: fmean(values) if values else None)

    @property
    def unit(self) -> Unit:
        """Points for scores from 0 to 1 (accuracies), otherwise the scale of the suite."""
        return "points" if all(0 <= value <= 1 for value in (*self.pairs.before, *self.pairs.after)) else ""


def suites(reference: ArmFacts, arm: ArmFacts) -> Iterator[Suite]:
    """The suites and metrics that all runs of both arms have, by name; a question that one lacks is None there."""
    runs = (*reference.runs, *arm.runs)
    for suite, metric in sorted(set[tuple[str, str]].intersection(*(_suite_metrics(run) for run in runs))):
        found = [[item for item in run.items if (item.suite, item.metric) == (suite, metric)] for run in runs]
        asked = sorted({(item.item, item.trial) for items in found for item in items})
        tables = [_item_table(items, asked) for items in found]
        less = any(item.less for items in found for item in items)
        split = len(reference.runs)
        yield Suite(f"{suite}/{metric}", less, tuple(tables[:split]), tuple(tables[split:]))


def _suite_metrics(run: RunFacts) -> set[tuple[str, str]]:
    return {(item.suite, item.metric) for item in run.items if item.metric not in DESCRIPTIVE}


def _item_table(items: Sequence[Item], asked: Sequence[tuple[str, int]]) -> Table:
    found: dict[str, dict[int, float | None]] = {}
    for item, trial in asked:
        found.setdefault(item, {})[trial] = None
    for each in items:
        found[each.item][each.trial] = each.value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far repeats of the same thing lie apart.

    Attributes:
        source: repeated runs (`--noise`), or repeated trials of the compared runs; those share what a run has once,
            e.g. a training seed.
        repeats: how many there were, on `tasks`.
        typical, furthest: mean and largest distance between two repeats as they are.
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
        """The distance that identical arms keep within, `level` of the time.

        `episodes` are those per task, and `runs` the runs, of either arm.
        """
        variance = self.within / tasks * sum(1 / each for each in episodes) + self.between * sum(1 / n for n in runs)
        return NormalDist().inv_cdf(0.5 + level / 2) * sqrt(variance)


def noise_of_runs(runs: Sequence[RunFacts], measure: Measure) -> Noise | None:
    """What repeated runs show; None when they have fewer than two scored tasks in common."""
    tasks = sorted(set[str].intersection(*({*run.by_task} for run in runs)))
    tables = numbers(ArmFacts("noise", tuple(runs)), measure, tasks)
    scored = [[_scored_values(table, task) for table in tables] for task in tasks]
    whole = [cells for cells in scored if all(cells)]
    if len(whole) < 2:
        return None
    means = [fmean(fmean(cells[place]) for cells in whole) for place in range(len(runs))]
    within = _pooled_variance([[value for cell in cells for value in cell] for cells in whole])
    depth = fmean(len(cell) for cells in whole for cell in cells)
    between = max(0.0, variance(means) - within / len(whole) / depth)
    return _noise(measure, "repeated runs", [means], len(whole), within, between)


def noise_of_trials(arms: Sequence[ArmFacts], measure: Measure, tasks: Sequence[str]) -> Noise | None:
    """What repeated trials of the compared runs show; None when tasks were played once."""
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
    """The variance around the means of the cells."""
    freedom = sum(len(cell) - 1 for cell in cells)
    return sum(variance(cell) * (len(cell) - 1) for cell in cells if len(cell) > 1) / freedom if freedom else 0.0


def _by_trial(table: Table) -> list[float]:
    """The mean of each trial, over the tasks in which all trials are scored."""
    trials = sorted({trial for cell in table.values() for trial in cell})
    whole: list[Mapping[int, float]] = []
    for cell in table.values():
        found = {trial: value for trial, value in cell.items() if value is not None}
        if len(found) == len(trials):
            whole.append(found)
    return [fmean(cell[trial] for cell in whole) for trial in trials] if whole else []
