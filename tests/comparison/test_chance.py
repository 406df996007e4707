"""How often the intervals and tests of comparisons are right, over many draws: too slow for `scripts/mutate`."""

from __future__ import annotations

from math import sqrt
from random import Random
from statistics import fmean
from typing import Any

import pytest

from simkit.comparison.pairs import pair, sign_flip
from simkit.plugins.extras import require
from simkit.statistics.scores import Bootstrap

stats: Any = require("scipy.stats", "test")


def test_the_interval_of_many_tasks_is_scipys_percentile_interval() -> None:
    rng = Random(4)
    values = [rng.choice((-1.0, 0.0, 0.0, 0.5, 1.0)) for _ in range(300)]
    found = Bootstrap(0.9).mean([[value] for value in values])
    expected = stats.bootstrap(
        (values,), fmean, confidence_level=0.9, n_resamples=2000, method="percentile", vectorized=False, rng=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((float(expected.low), float(expected.high)), abs=0.01)
    assert found.value == pytest.approx(fmean(values))


def coverage(tasks: int, repeats: int = 250) -> float:
    """How often the interval holds the truth, for skewed differences of few tasks."""
    held = 0
    for seed in range(repeats):
        rng = Random(f"coverage/{tasks}/{seed}")
        values = [rng.gauss(0.5, 1) for _ in range(tasks)]
        found = Bootstrap(resamples=500, seed=seed).mean([[value] for value in values])
        held += found.low <= 0.5 <= found.high
    return held / repeats


@pytest.mark.parametrize("tasks", [8, 25])
def test_intervals_hold_the_truth_as_often_as_they_say(tasks: int) -> None:
    sampling = sqrt(0.95 * 0.05 / 250)
    assert abs(coverage(tasks) - 0.95) < 2.6 * sampling


def rejections(repeats: int = 300) -> tuple[float, float]:
    """How often no difference is called one: by the clustered test, and by McNemar's over all trials."""
    clustered = naive = 0
    for seed in range(repeats):
        here, there = _clustered(Random(f"null/{seed}"))
        pairs = pair([here], [there], fmean, binary=True)
        assert pairs.outcomes is not None
        clustered += sign_flip(pairs.differences) <= 0.05
        naive += pairs.outcomes.p <= 0.05
    return clustered / repeats, naive / repeats


def _clustered(rng: Random) -> tuple[dict[str, dict[int, float | None]], dict[str, dict[int, float | None]]]:
    """Two agents that are alike on average, while each task suits one of them; five trials a task."""
    sides: list[dict[str, dict[int, float | None]]] = [{}, {}]
    for task in range(30):
        chances = rng.sample((0.2, 0.8), 2)
        for side, chance in zip(sides, chances, strict=True):
            side[f"t{task}"] = {trial: float(rng.random() < chance) for trial in range(5)}
    return sides[0], sides[1]


def test_trials_of_a_task_are_not_taken_for_independent_facts() -> None:
    clustered, naive = rejections()
    assert clustered <= 0.08
    assert naive >= 0.2, "the example would not show the error that is avoided"
