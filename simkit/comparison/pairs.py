"""Which numbers stand against which: by place in the arm, task and trial, brought together task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from simkit.comparison.measures import Measure
from simkit.comparison.records import ArmFacts
from simkit.comparison.significance import Outcomes

Trials: TypeAlias = Mapping[int, float | None]
"""The numbers of a task's trials in one run; None where a trial has none."""

Table: TypeAlias = Mapping[str, Trials]
"""The numbers of one run by task (or item)."""

Together: TypeAlias = Callable[[Sequence[float]], float | None]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two arms, task by task.

    Attributes:
        tasks: names, in order, `before` and `after` their numbers in the reference and in the arm.
        count: pairs of episodes behind them.
        left_out: episodes of these tasks that have no number, or whose partner has none.
        outcomes: McNemar's table, for pairs of single successes and failures.
    """

    tasks: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    count: int
    left_out: int
    outcomes: Outcomes | None = None

    @property
    def differences(self) -> tuple[float, ...]:
        """After minus before, by task."""
        return tuple(after - before for before, after in zip(self.before, self.after, strict=True))


@dataclass(frozen=True, slots=True)
class _Cell:
    """The numbers of one task in one place of both arms; `paired` when trial stands against trial."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    left_out: int
    paired: bool


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


def pair(before: Sequence[Table], after: Sequence[Table], together: Together, *, binary: bool = False) -> Pairs:
    """Put two arms against each other.

    With equally many runs, the first stands against the first and so on; else each task's episodes of all runs are
    taken together. Trial stands against trial where both sides have the same trials: if one of them has no number,
    both are left out. Elsewhere the numbers of a side are averaged.
    """
    aligned = len(before) == len(after)
    tasks = sorted({task for table in before for task in table} & {task for table in after for task in table})
    rows: list[tuple[str, float, float]] = []
    used: list[_Cell] = []
    left_out = 0
    for task in tasks:
        cells = [*_cells(task, before, after)] if aligned else [_pooled(task, before, after)]
        left_out += sum(cell.left_out for cell in cells)
        sides = [(together(cell.before), together(cell.after), cell) for cell in cells]
        kept = [(low, high, cell) for low, high, cell in sides if low is not None and high is not None]
        if kept:
            rows.append((task, fmean(low for low, _, _ in kept), fmean(high for _, high, _ in kept)))
            used += [cell for _, _, cell in kept]
    names, lows, highs = zip(*rows, strict=True) if rows else ((), (), ())
    count = sum(max(len(cell.before), len(cell.after)) for cell in used)
    outcomes = _outcomes(used) if binary and all(cell.paired for cell in used) else None
    return Pairs(names, lows, highs, count, left_out, outcomes)


def _cells(task: str, before: Sequence[Table], after: Sequence[Table]) -> Iterator[_Cell]:
    for here, there in zip(before, after, strict=True):
        if task in here and task in there:
            yield _cell(here[task], there[task])


def _cell(here: Trials, there: Trials) -> _Cell:
    if here.keys() != there.keys():
        return _averaged([*here.values()], [*there.values()])
    both = [(here[trial], there[trial]) for trial in here]
    whole = [(low, high) for low, high in both if low is not None and high is not None]
    left_out = 2 * (len(both) - len(whole))
    return _Cell(tuple(low for low, _ in whole), tuple(high for _, high in whole), left_out, True)


def _pooled(task: str, before: Sequence[Table], after: Sequence[Table]) -> _Cell:
    return _averaged(
        [value for table in before for value in table.get(task, {}).values()],
        [value for table in after for value in table.get(task, {}).values()],
    )


def _averaged(here: Sequence[float | None], there: Sequence[float | None]) -> _Cell:
    low = tuple(value for value in here if value is not None)
    high = tuple(value for value in there if value is not None)
    return _Cell(low, high, len(here) - len(low) + len(there) - len(high), False)


def _outcomes(cells: Sequence[_Cell]) -> Outcomes:
    pairs = [(bool(low), bool(high)) for cell in cells for low, high in zip(cell.before, cell.after, strict=True)]
    return Outcomes(
        pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)), pairs.count((False, False))
    )
