"""How often the interval over tasks and runs holds the truth, and how often the one over tasks alone does.

    python -m benchmarks.coverage_runs [--repeats 1000]

Arms are trained several times. The success rates of a training and of its reference differ by an effect of the
training, drawn independently for each (a normal distribution with mean 0). All runs play the same tasks once.
"""

from __future__ import annotations

import argparse
from random import Random
from statistics import fmean

from simkit.statistics.intervals import difference_limits
from simkit.statistics.levels import over_levels

TASKS, RUNS, EFFECTS = (30, 100), (2, 3, 5), (0.0, 0.03, 0.1)


def trainings(rng: Random, tasks: int, runs: int, effect: float) -> list[dict[str, float]]:
    """Differences by task of some pairs of runs; their expectation is 0."""
    rates = [0.25 + rng.random() / 2 for _ in range(tasks)]
    effects = [max(-0.25, min(0.25, rng.gauss(0, effect))) for _ in range(runs)]
    return [
        {str(n): float(rng.random() < rate + own) - float(rng.random() < rate) for n, rate in enumerate(rates)}
        for own in effects
    ]


def coverage(tasks: int, runs: int, effect: float, repeats: int) -> tuple[float, float, float]:
    """Coverage of both intervals, and the mean width of the one over tasks and runs."""
    rng, both, alone, width = Random(f"{tasks}/{runs}/{effect}"), 0, 0, 0.0
    for _ in range(repeats):
        side = trainings(rng, tasks, runs, effect)
        values = [fmean(run[str(n)] for run in side) for n in range(tasks)]
        over_tasks, found = difference_limits(values), over_levels(values, [side]).over_both
        low, high = min(over_tasks.low, found.low), max(over_tasks.high, found.high)
        both += low <= 0 <= high
        alone += over_tasks.low <= 0 <= over_tasks.high
        width += high - low
    return both / repeats, alone / repeats, width / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    print("| tasks | runs | effect of a training | tasks and runs | tasks alone | mean width |")
    print("|---:|---:|---:|---:|---:|---:|")
    for tasks in TASKS:
        for runs in RUNS:
            for effect in EFFECTS:
                both, alone, width = coverage(tasks, runs, effect, repeats)
                print(f"| {tasks} | {runs} | {effect:g} | {both:.3f} | {alone:.3f} | {width:.2f} |", flush=True)


if __name__ == "__main__":
    main()
