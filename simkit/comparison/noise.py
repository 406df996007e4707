"""The noise floor: how far apart the same thing lies when it is done twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, variance
from typing import Literal

from simkit.comparison.measures import Measure
from simkit.comparison.pairs import Table, numbers
from simkit.comparison.records import ArmFacts, RunFacts
from simkit.comparison.results import Noise


def of_runs(runs: Sequence[RunFacts], measure: Measure) -> Noise | None:
    """What repeated runs show; None when they have fewer than two scored tasks in common."""
    tasks = sorted(set[str].intersection(*({*run.by_task} for run in runs)))
    tables = numbers(ArmFacts("noise", tuple(runs)), measure, tasks)
    scored = [[_scored(table, task) for table in tables] for task in tasks]
    whole = [cells for cells in scored if all(cells)]
    if len(whole) < 2:
        return None
    means = [fmean(fmean(cells[place]) for cells in whole) for place in range(len(runs))]
    within = _pooled([[value for cell in cells for value in cell] for cells in whole])
    depth = fmean(len(cell) for cells in whole for cell in cells)
    between = max(0.0, variance(means) - within / len(whole) / depth)
    return _noise(measure, "repeated runs", [means], len(whole), within, between)


def of_trials(arms: Sequence[ArmFacts], measure: Measure, tasks: Sequence[str]) -> Noise | None:
    """What repeated trials of the compared runs show; None when tasks were played once."""
    tables = [table for arm in arms for table in numbers(arm, measure, tasks)]
    cells = [cell for table in tables for task in table if len(cell := _scored(table, task)) > 1]
    repeats = [means for table in tables if len(means := _by_trial(table)) > 1]
    if not cells or not repeats:
        return None
    return _noise(measure, "repeated trials", repeats, len(tasks), _pooled(cells), 0.0)


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


def _scored(table: Table, task: str) -> list[float]:
    return [value for value in table[task].values() if value is not None]


def _pooled(cells: Sequence[Sequence[float]]) -> float:
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
