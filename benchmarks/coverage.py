"""How often the printed intervals hold the truth, by tasks, trials, rates, and how much trials of a task are alike.

    python -m benchmarks.coverage [--quick] [--all] [--only rates means differences bootstrap] [--tasks N ...]

One trial a task is computed, by summing the chances of all results with the library's own intervals. Several trials are
simulated: rates differ between tasks as a Beta distribution does, with intraclass correlations of 0 (every task alike),
0.3 and 1 (trials repeat each other). Rates beyond one half are the mirror image, as are their intervals, and are not
simulated again. The simulation uses the library's formulas with numpy; on a sample of its cases it is checked against
the library itself. Also: mean rewards of several shapes, pass^k, win rates, differences of two arms, and the bootstrap.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import numpy as np

from simkit.plugins.extras import require
from simkit.statistics.intervals import MOST, NEAR, PRIOR, SHARES, blaker, difference_limits, mean_limits, student
from simkit.statistics.scores import Bootstrap

special: Any = require("scipy.special", "test")
normal: Any = require("scipy.stats", "test").norm

Array: TypeAlias = Any
TASKS = (5, 10, 15, 30, 60, 100, 200, 450)
TRIALS = (2, 3, 4, 5, 6, 7, 8)
ALIKE = (0.0, 0.3, 1.0)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
PAIRED = ((0.01, 0.01), (0.01, 0.05), (0.05, 0.05), (0.05, 0.3), (0.3, 0.5), (0.5, 0.5), (0.1, 0.9), (0.5, 0.99))
TABLES = ("rates", "means", "differences", "bootstrap")
ALPHA = 0.05
TAIL = ALPHA / 2 * (1 - 1e-12)
TINY = 1e-12


# --- the library's intervals, for many samples at once ----------------------------------------------------------------


def at_least(x: Array, n: Array, rate: Array) -> Array:
    found = special.betainc(np.maximum(x, 1e-300), np.maximum(n - x + 1, 1e-300), rate)
    return np.where(x <= 0, 1.0, np.where(x >= n + 1, 0.0, found))


def at_most(x: Array, n: Array, rate: Array) -> Array:
    return np.where(x <= -1, 0.0, np.where(x >= n, 1.0, 1 - at_least(x + 1, n, rate)))


def start_of(x: Array, n: Array) -> tuple[Array, Array]:
    """Clopper and Pearson's lower end, and the result of the other tail, as `simkit.statistics.intervals` has them."""
    start = np.where(x <= TINY, 0.0, special.betaincinv(np.maximum(x, TINY), n - x + 1, TAIL))
    low, high = np.ones_like(x), np.floor(x) + 2
    for _ in range(14):
        middle = np.floor((low + high) / 2)
        fits = at_most(x - middle, n, start) <= TAIL * (1 + 1e-9)
        high = np.where(fits, middle, high)
        low = np.where(fits, low, np.minimum(middle + 1, high))
    return start, x - high


def reached(x: Array, n: Array, rate: Array, start: Array, other: Array) -> Array:
    """Whether the lower end is at most the rate."""
    here = at_least(x, n, rate)
    jumped = (other + 1 < x - TINY) & (at_most(other + 1, n, rate) <= here * (1 + 1e-12))
    return (x <= TINY) | ((rate >= start) & (jumped | (here + at_most(other, n, rate) >= ALPHA)))


def lower_end(x: Array, n: Array) -> Array:
    start, other = start_of(x, n)
    low, high = start, np.where(n > 0, x / n, 0.0)
    for _ in range(32):
        middle = (low + high) / 2
        holds = reached(x, n, middle, start, other)
        low, high = np.where(holds, low, middle), np.where(holds, middle, high)
    return np.where(x <= TINY, 0.0, low)


@dataclass(frozen=True)
class Samples:
    """Samples of equally many trials a task: means, spreads, and whether all tasks are alike; one number a sample."""

    mean: Array
    spread: Array
    alike: Array
    tasks: int
    trials: float

    @classmethod
    def of(cls, means: Array, trials: float = math.inf) -> Samples:
        """Task means in rows of samples."""
        mean = means.mean(axis=1)
        spread = ((means - mean[:, None]) ** 2).sum(axis=1)
        return cls(mean, spread, np.ptp(means, axis=1) < TINY, means.shape[1], trials)

    def size(self, near: Array) -> Array:
        """Effective trials."""
        full = self.tasks * self.mean * (1 - self.mean)
        prior = PRIOR * SHARES if self.trials == math.inf else PRIOR
        added = np.minimum(prior * (1 + 1 / self.tasks), near / NEAR)
        ratio = (self.spread + added) / np.maximum(full + added, 1e-300)
        widened = np.minimum(1.0, ratio * self.tasks / (self.tasks - 1))
        ratio = np.where(ratio < 1 - 1e-9, widened, ratio)
        size = np.minimum(min(MOST, self.trials), self.tasks / np.maximum(ratio, 1e-300))
        return np.where(full <= TINY, float(self.tasks), size)

    def turned(self) -> Samples:
        """Failures for successes."""
        return Samples(1 - self.mean, self.spread, self.alike, self.tasks, self.trials)

    def counted(self) -> tuple[Array, Array]:
        """Effective successes and trials, for the lower end."""
        size = self.size(self.mean)
        return self.mean * size, size

    def above(self, truth: float) -> Array:
        """Whether the lower end is at most the truth."""
        x, n = self.counted()
        rates = np.full_like(self.mean, truth)
        held = reached(x, n, rates, *start_of(x, n)) | (truth >= self.mean)
        unseen = blaker(0, self.tasks).high
        same = self.alike & (self.mean > 0) & (self.mean < 1)
        return held | (same & (truth >= self.mean * (1 - unseen)))

    def holds(self, truth: float) -> Array:
        """Whether the interval holds the truth."""
        return self.above(truth) & self.turned().above(1 - truth)

    def low(self) -> Array:
        """The lower ends."""
        found = np.minimum(lower_end(*self.counted()), self.mean)
        unseen = blaker(0, self.tasks).high
        same = self.alike & (self.mean > 0) & (self.mean < 1)
        return np.where(same, np.minimum(found, self.mean * (1 - unseen)), found)


def difference_ends(values: Array) -> tuple[Array, Array]:
    up, down = Samples.of(np.maximum(values, 0)), Samples.of(np.maximum(-values, 0))
    gain_low, gain_high, loss_low, loss_high = up.low(), 1 - up.turned().low(), down.low(), 1 - down.turned().low()
    spread = np.sqrt(up.spread * down.spread)
    shared = np.where(spread > 0, -values.shape[1] * up.mean * down.mean / np.where(spread > 0, spread, 1), 0.0)
    centre = up.mean - down.mean
    below = _together(up.mean - gain_low, loss_high - down.mean, shared)
    above = _together(gain_high - up.mean, down.mean - loss_low, shared)
    return centre - below, centre + above


def _together(one: Array, other: Array, shared: Array) -> Array:
    return np.sqrt(np.maximum(0.0, one * one + other * other - 2 * shared * one * other))


# --- coverage ---------------------------------------------------------------------------------------------------------


def one_trial(tasks: int, rates: Sequence[float]) -> list[float]:
    """Exact: with the library's own interval of every result."""
    ends = [mean_limits([[float(n < x)] for n in range(tasks)]) for x in range(tasks + 1)]
    found: list[float] = []
    for rate in rates:
        chances = [math.exp(_log_chance(tasks, x, rate)) for x in range(tasks + 1)]
        held = (c for c, end in zip(chances, ends, strict=True) if end.low <= rate <= end.high)
        found.append(sum(held))
    return found


def _log_chance(n: int, x: int, rate: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(x + 1) - math.lgamma(n - x + 1)
    return ways + x * math.log(rate) + (n - x) * math.log1p(-rate)


def rates_of(rng: Any, rate: float, alike: float, shape: tuple[int, int]) -> Array:
    if alike == 0:
        return np.full(shape, rate)
    if alike == 1:
        return (rng.random(shape) < rate).astype(float)
    scale = (1 - alike) / alike
    return rng.beta(rate * scale, (1 - rate) * scale, shape)


def several_trials(tasks: int, trials: int, alike: float, rate: float, repeats: int) -> float:
    rng = np.random.default_rng([tasks, trials, int(100 * alike), int(1000 * rate)])
    counts = rng.binomial(trials, rates_of(rng, rate, alike, (repeats, tasks)))
    sums = np.stack([counts.sum(axis=1), (counts.astype(np.int64) ** 2).sum(axis=1), np.ptp(counts, axis=1) == 0])
    (total, squares, same), often = np.unique(sums, axis=1, return_counts=True)
    mean = total / (tasks * trials)
    spread = np.maximum(0.0, squares / trials**2 - tasks * mean * mean)
    samples = Samples(mean, spread, same == 1, tasks, tasks * trials)
    return float((samples.holds(rate) * often).sum() / repeats)


Shape: TypeAlias = tuple[Callable[[Any, tuple[int, int]], Array], float]


def pass_2_of_4(rng: Any, shape: tuple[int, int]) -> Array:
    counts = rng.binomial(4, rng.beta(1.0, 1.0, shape))
    return counts * (counts - 1) / 12


SHAPES: dict[str, Shape] = {
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "U-shaped, Beta(0.5, 0.5)": (lambda rng, shape: rng.beta(0.5, 0.5, shape), 0.5),
    "9 of 10 are 0, else 1/4 to 1": (
        lambda rng, shape: np.where(rng.random(shape) < 0.1, rng.integers(1, 5, shape) / 4, 0.0),
        0.0625,
    ),
    "near 0, Beta(0.2, 5)": (lambda rng, shape: rng.beta(0.2, 5, shape), 0.2 / 5.2),
    "thirds, 0 to 1": (lambda rng, shape: rng.integers(0, 4, shape) / 3, 0.5),
    "half of half the goals": (lambda rng, shape: rng.binomial(2, rng.beta(2, 2, shape)) / 2, 0.5),
    "pass^2 of 4 trials": (pass_2_of_4, 1 / 3),
    "win rate, 8 of 10 tie": (lambda rng, shape: rng.choice([0.0, 0.5, 1.0], shape, p=[0.02, 0.8, 0.18]), 0.58),
}


def shape_coverage(shape: Shape, tasks: int, repeats: int) -> float:
    draw, truth = shape
    means = draw(np.random.default_rng(tasks), (repeats, tasks))
    return float(Samples.of(means).holds(truth).mean())


def difference_coverage(
    tasks: int, trials: int, alike: float, rates: tuple[float, float], paired: bool, repeats: int
) -> float:
    """Two arms on the same tasks; `paired` when both find the same tasks hard."""
    shape = (repeats, tasks)
    seeds = [tasks, trials, int(100 * alike), int(1000 * rates[0]), int(1000 * rates[1])]
    first = np.random.default_rng(seeds)
    second = np.random.default_rng(seeds) if paired else np.random.default_rng([*seeds, 1])
    here, there = rates_of(first, rates[0], alike, shape), rates_of(second, rates[1], alike, shape)
    values = (first.binomial(trials, there) - np.random.default_rng([*seeds, 2]).binomial(trials, here)) / trials
    known, place = np.unique(np.sort(values, axis=1), axis=0, return_inverse=True)
    low, high = difference_ends(known)
    truth = rates[1] - rates[0] if not (paired and 0 < alike < 1) else float((there - here).mean())
    held = (low <= truth + 1e-9) & (truth <= high + 1e-9)
    return float(held[np.ravel(place)].mean())


def bootstrap_coverage(draw: Callable[[Any, int], Array], truth: float, tasks: int, repeats: int) -> float:
    """`simkit.statistics.scores.Bootstrap` with 1,000 resamples."""
    rng, held = np.random.default_rng(tasks), 0
    reach = math.sqrt(tasks / (tasks - 1)) * student(0.975, tasks - 1)
    tail = float(normal.cdf(-reach))
    for _ in range(repeats):
        values = draw(rng, tasks)
        means = values[rng.integers(0, tasks, (1000, tasks))].mean(axis=1)
        low, high = np.quantile(means, [tail, 1 - tail])
        held += bool(low <= truth <= high)
    return held / repeats


# --- the simulation against the library -------------------------------------------------------------------------------


def check(cases: int = 60) -> None:
    """Make sure that the formulas with numpy are the library's; raises where they are not."""
    rng = Random(1)
    for _ in range(cases):
        tasks, trials = rng.choice((2, 5, 12, 40)), rng.choice((1, 2, 5, 8))
        share = rng.random() ** 2
        groups = [[float(rng.random() < share) for _ in range(trials)] for _ in range(tasks)]
        means = np.array([[sum(group) / trials for group in groups]])
        _agree(mean_limits(groups).low, Samples.of(means, tasks * trials).low()[0], groups)
        fractions = [[round(rng.random() ** 3, 2)] for _ in range(tasks)]
        _agree(mean_limits(fractions).low, Samples.of(np.array([[v for (v,) in fractions]])).low()[0], fractions)
        values = [rng.choice((-1.0, -0.5, 0.0, 0.0, 0.25, 1.0)) for _ in range(tasks)]
        found, ends = difference_limits(values), difference_ends(np.array([values]))
        _agree(found.low, max(-1.0, ends[0][0]), values)
        _agree(found.high, min(1.0, ends[1][0]), values)


def _agree(library: float, simulated: float, case: object) -> None:
    if abs(library - simulated) > 1e-6:
        raise SystemExit(f"the simulation is not the library: {simulated} instead of {library} for {case}")


# --- tables -----------------------------------------------------------------------------------------------------------


def summed(found: dict[float, float]) -> str:
    """min over all rates; mean and max over rates of 5% to 95%, rates below one half standing for their mirror too."""
    inner = {rate: held for rate, held in found.items() if rate >= 0.05}
    weights = {rate: 1 if rate == 0.5 else 2 for rate in inner}
    mean = sum(weights[rate] * held for rate, held in inner.items()) / sum(weights.values())
    return f"{min(found.values()):.3f}, {mean:.3f}, {max(inner.values()):.3f}"


def print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def success_table(sizes: Sequence[int], repeats: int, everything: bool) -> None:
    print("Success rates: least coverage over rates of 1% to 99%; mean and greatest over 5% to 95%")
    print("Trials that repeat each other count once, so that 3 to 7 of them give what 2 and 8 give.\n")
    print_row("tasks", "trials", *(f"intraclass correlation {alike:g}" for alike in ALIKE))
    print_row(*["---"] * 5)
    for tasks in sizes:
        single = summed(dict(zip(RATES, one_trial(tasks, RATES), strict=True)))
        print_row(tasks, 1, f"{single} (exact)", "the same", "the same")
        for trials in TRIALS:
            known = ALIKE if trials in (2, 8) else ALIKE[:2]
            cells = [{rate: several_trials(tasks, trials, a, rate, repeats) for rate in RATES} for a in known]
            print_row(tasks, trials, *map(summed, cells), *["the same"] * (len(ALIKE) - len(known)))
            if everything:
                for alike, cell in zip(known, cells, strict=True):
                    print(f"    {alike:g}: " + ", ".join(f"{rate:.0%} {held:.4f}" for rate, held in cell.items()))


def shape_table(sizes: Sequence[int], repeats: int) -> None:
    print("\nMean rewards, pass^k and win rates\n")
    print_row("tasks", *SHAPES)
    print_row(*["---"] * (1 + len(SHAPES)))
    for tasks in sizes:
        print_row(tasks, *(f"{shape_coverage(shape, tasks, repeats):.3f}" for shape in SHAPES.values()))


KINDS = ((1, 0.0, False), (1, 1.0, True), (3, 0.3, False), (3, 1.0, True), (8, 0.0, False))


def difference_table(sizes: Sequence[int], repeats: int) -> None:
    print(f"\nDifferences of two success rates, {len(PAIRED)} pairs of rates from 1% to 99%: least, mean, greatest\n")
    print_row("tasks", *(f"{k} trials, correlation {a:g}{', same tasks hard' * p}" for k, a, p in KINDS))
    print_row(*["---"] * (1 + len(KINDS)))
    for tasks in sizes:
        cells: list[str] = []
        for trials, alike, paired in KINDS:
            found = [difference_coverage(tasks, trials, alike, rates, paired, repeats) for rates in PAIRED]
            cells.append(f"{min(found):.3f}, {sum(found) / len(found):.3f}, {max(found):.3f}")
        print_row(tasks, *cells)


def bootstrap_table(sizes: Sequence[int], repeats: int) -> None:
    draws: dict[str, tuple[Callable[[Any, int], Array], float]] = {
        "turns, Poisson(6)": (lambda rng, n: rng.poisson(6, n).astype(float), 6.0),
        "differences, normal": (lambda rng, n: rng.normal(0.5, 1, n), 0.5),
        "errors, geometric": (lambda rng, n: rng.geometric(0.5, n) - 1.0, 1.0),
    }
    print("\nThe bootstrap of values without bounds\n")
    print_row("tasks", *draws)
    print_row(*["---"] * (1 + len(draws)))
    for tasks in sizes:
        print_row(tasks, *(f"{bootstrap_coverage(draw, mean, tasks, repeats):.3f}" for draw, mean in draws.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--all", action="store_true", help="print every rate of every cell")
    parser.add_argument("--only", nargs="*", choices=TABLES, default=TABLES, help="tables to print")
    parser.add_argument("--tasks", nargs="*", type=int, default=TASKS, help="numbers of tasks")
    given = parser.parse_args()
    repeats = 1_000 if given.quick else 10_000
    check()
    print(f"{repeats:,} repetitions a cell; level 0.95; {Bootstrap()}\n")
    if "rates" in given.only:
        success_table(given.tasks, repeats, given.all)
    if "means" in given.only:
        shape_table(given.tasks, repeats)
    if "differences" in given.only:
        difference_table(given.tasks, repeats)
    if "bootstrap" in given.only:
        bootstrap_table(given.tasks, repeats // 5)


if __name__ == "__main__":
    main()
