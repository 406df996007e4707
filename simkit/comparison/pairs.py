"""Paired values by task, their significance and their effect sizes.

The unit is the task, because trials of one task are not independent. The tests are exact where possible: the sign-flip
test counts all 2^n assignments of signs with one long integer. Known answers are in `tests/comparison` (scipy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import asin, comb, gcd, lcm, sqrt
from statistics import NormalDist, fmean, stdev
from typing import TypeAlias

from simkit.statistics.intervals import student

Trials: TypeAlias = Mapping[int, float | None]
"""Values of a task's trials in one run; None for a trial that is not scored."""

Table: TypeAlias = Mapping[str, Trials]
"""Values of one run by task (or item)."""

Combine: TypeAlias = Callable[[Sequence[float]], float | None]


@dataclass(frozen=True, slots=True)
class PairedValues:
    """Values of two arms, paired by task.

    Attributes:
        tasks: names of the tasks, in order.
        before, after: values of these tasks in the reference and in the arm.
        count: number of paired episodes.
        left_out: episodes of these tasks without a value, or whose counterpart has none.
        outcomes: McNemar's table, if single successes and failures are paired.
    """

    tasks: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    count: int
    left_out: int
    outcomes: PairedOutcomes | None = None

    @property
    def differences(self) -> tuple[float, ...]:
        """After minus before, by task."""
        return tuple(after - before for before, after in zip(self.before, self.after, strict=True))


@dataclass(frozen=True, slots=True)
class _Cell:
    """Values of one task in a pair of runs; `paired` if each trial has a counterpart."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    left_out: int
    paired: bool


def pair(before: Sequence[Table], after: Sequence[Table], combine: Combine, *, binary: bool = False) -> PairedValues:
    """Pair two arms by task.

    Arms with equal numbers of runs are paired run by run, in order; otherwise the episodes of all runs are pooled by
    task. Trials are paired if both sides have the same trials; if one of a pair is not scored, both are left out.
    Other trials are combined on each side.
    """
    aligned = len(before) == len(after)
    tasks = sorted({task for table in before for task in table} & {task for table in after for task in table})
    rows: list[tuple[str, float, float]] = []
    used: list[_Cell] = []
    left_out = 0
    for task in tasks:
        cells = [*_cells(task, before, after)] if aligned else [_pooled(task, before, after)]
        left_out += sum(cell.left_out for cell in cells)
        sides = [(combine(cell.before), combine(cell.after), cell) for cell in cells]
        kept = [(low, high, cell) for low, high, cell in sides if low is not None and high is not None]
        if kept:
            rows.append((task, fmean(low for low, _, _ in kept), fmean(high for _, high, _ in kept)))
            used += [cell for _, _, cell in kept]
    names, lows, highs = zip(*rows, strict=True) if rows else ((), (), ())
    count = sum(max(len(cell.before), len(cell.after)) for cell in used)
    outcomes = _outcomes(used) if binary and all(cell.paired for cell in used) else None
    return PairedValues(names, lows, highs, count, left_out, outcomes)


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


def _outcomes(cells: Sequence[_Cell]) -> PairedOutcomes:
    pairs = [(bool(low), bool(high)) for cell in cells for low, high in zip(cell.before, cell.after, strict=True)]
    return PairedOutcomes(
        pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)), pairs.count((False, False))
    )


POWER = 0.8
"""Power of the detectable difference."""

_LONGEST = 1 << 24
"""Size in bits of the largest integer that an exact test may use: 2 MB, about a fifth of a second."""
_FINEST = 10_000
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """McNemar's table of paired episodes: `lost` succeeded only in the reference, `won` only in the arm."""

    both: int
    lost: int
    won: int
    neither: int

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p-value; valid only if no task has several pairs."""
        discordant, fewer = self.lost + self.won, min(self.lost, self.won)
        tail = sum(comb(discordant, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / 2**discordant)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p-value of the sign-flip test over the differences of tasks.

    The null hypothesis is that each difference is as likely to have the other sign, which holds for identical arms
    whatever the distribution. The test is exact if the differences are multiples of a common fraction (rewards are) and
    the counts fit into memory; otherwise the differences are rounded to the finest grid that fits. More than 400 tasks
    off any grid get the normal approximation. For one success or failure per side it is McNemar's exact test. Without
    any difference the p-value is 1.
    """
    signed = [value for value in differences if abs(value) > _NOTHING]
    if not signed:
        return 1.0
    whole = _on_grid(signed)
    if whole is None:
        z = abs(sum(signed)) / sqrt(sum(value * value for value in signed))
        return 2 * NormalDist().cdf(-z)
    return _counted(whole)


def _counted(signed: Sequence[int]) -> float:
    """The share of sign assignments whose sum is at least as far from 0 as the observed one.

    Digit T of `ways`, in base 2^width, counts the choices of positive terms that add up to T.
    """
    values = sorted(map(abs, signed))
    width, ways = len(values) + 1, 1
    for value in values:
        ways += ways << (value * width)
    observed, total = abs(sum(signed)), sum(values)
    tail = (ways >> ((total + observed) // 2 * width)) % ((1 << width) - 1)  # a sum of digits
    return min(1.0, 2 * tail / (1 << len(values)))


def _on_grid(signed: Sequence[float]) -> list[int] | None:
    """The values as integers on a common grid, exactly if that fits; None if every grid that fits is too coarse."""
    room = _LONGEST // (len(signed) + 1)
    fractions = [Fraction(value).limit_denominator(_FINEST) for value in signed]
    if all(abs(float(near) - value) < _NOTHING for near, value in zip(fractions, signed, strict=True)):
        scale = lcm(*(fraction.denominator for fraction in fractions))
        whole = [int(fraction * scale) for fraction in fractions]
        whole = [value // gcd(*whole) for value in whole]
        if sum(map(abs, whole)) <= room:
            return whole
    if room < 100 * len(signed):
        return None
    step = sum(map(abs, signed)) / (room // 2)
    return [round(value / step) for value in signed]


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for their number (Holm 1979): the chance of any false claim is at most `alpha`."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, highest = [*ps], 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return tuple(corrected)


def detectable(values: Sequence[float], level: float) -> float | None:
    """The difference that tasks with this spread would show with 80% power; None if all differences are equal."""
    spread = stdev(values)
    if spread <= _NOTHING:
        return None
    reach = student(0.5 + level / 2, len(values) - 1) + NormalDist().inv_cdf(POWER)
    return reach * spread / sqrt(len(values))


def cohen_h(before: float, after: float) -> float:
    """Cohen's h, the effect size of two proportions: 0.2 is small, 0.5 medium, 0.8 large."""
    return 2 * asin(sqrt(min(1.0, max(0.0, after)))) - 2 * asin(sqrt(min(1.0, max(0.0, before))))


def standardised(differences: Sequence[float]) -> float | None:
    """Cohen's d of paired values: their mean difference over its standard deviation; None if all are equal."""
    spread = stdev(differences)
    return fmean(differences) / spread if spread > _NOTHING else None
