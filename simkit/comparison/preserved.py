"""Non-inferiority: whether a score may have fallen by more than a margin.

"No difference was found" is no evidence that nothing was lost. What is tested is the opposite: that the loss is at
least the margin. The p-value is where the interval of the difference ends at the margin, so that both always agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev

from simkit.statistics.intervals import beta_cdf, difference_limits

_HALVINGS = 40


def loss_p(gains: Sequence[float], margin: float, *, full: float | None) -> float:
    """Two-sided p-value of a mean loss of `margin` or more; 1 if the observed loss is not smaller.

    Args:
        gains: gain of each item or task, positive if it got better; at least two.
        margin: the loss, in the same unit.
        full: largest score, if scores are between 0 and it; None for scores without bounds, which get a t-test.
    """
    centre = fmean(gains)
    if centre <= -margin:
        return 1.0
    if full is None:
        return _t_test([gain + margin for gain in gains])
    shares = [gain / full for gain in gains]
    low, high = 0.0, 1.0  # levels: a higher one makes the interval wider
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if difference_limits(shares, middle).low > -margin / full:
            low = middle
        else:
            high = middle
    return 1 - low


def _t_test(values: Sequence[float]) -> float:
    spread = stdev(values) / sqrt(len(values))
    if not spread:
        return 0.0
    t, freedom = fmean(values) / spread, len(values) - 1
    return beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5)
