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


POWER = 0.8
"""A detectable difference is found this often."""

_LONGEST = 1 << 24
"""Bits of the integer that an exact test may take: 2 MB, about a fifth of a second."""
_FINEST = 10_000
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Outcomes:
    """McNemar's table of pairs of episodes: `lost` succeeded in the reference alone, `won` in the arm alone."""

    both: int
    lost: int
    won: int
    neither: int

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p-value; right only when no task has several pairs."""
        discordant, fewer = self.lost + self.won, min(self.lost, self.won)
        tail = sum(comb(discordant, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / 2**discordant)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p-value of the differences of tasks, were each as likely to have the other sign.

    That is so when both sides are alike on every task, however the differences are distributed. Exact when the
    differences are multiples of a common fraction (rewards are) and fit into memory, else on the nearest grid that
    does; for over 400 tasks off any grid, the normal approximation. With one success or failure on each side this is
    McNemar's exact test. Nothing differs: 1.
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
    """The share of sign assignments whose sum is at least as far from 0.

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
    """The values as whole multiples of something, exactly if that fits; None when no grid would do them justice."""
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
    """P-values corrected for there being several (Holm 1979): at most `alpha` chance of any false claim among them."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, highest = [*ps], 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return tuple(corrected)


def detectable(values: Sequence[float], level: float) -> float | None:
    """The difference that such tasks would show 4 times in 5; None when all differences are equal."""
    spread = stdev(values)
    reach = student(0.5 + level / 2, len(values) - 1) + NormalDist().inv_cdf(POWER)
    return reach * spread / sqrt(len(values)) or None


def cohen_h(before: float, after: float) -> float:
    """Cohen's h, the effect size of two shares: 0.2 is small, 0.5 medium, 0.8 large."""
    return 2 * asin(sqrt(min(1.0, max(0.0, after)))) - 2 * asin(sqrt(min(1.0, max(0.0, before))))


def standardised(differences: Sequence[float]) -> float | None:
    """The mean difference in standard deviations of the tasks' differences; None when all are equal."""
    spread = stdev(differences)
    return fmean(differences) / spread if spread > _NOTHING else None
