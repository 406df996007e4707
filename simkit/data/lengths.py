"""Lengths of examples in tokens: quantiles, and a histogram in text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_NAMED = ((0.0, "shortest"), (0.5, "median"), (0.9, "90%"), (0.99, "99%"), (1.0, "longest"))
_BINS = 12
_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens, sorted."""

    sorted: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Lengths:
        """These lengths, in any order."""
        return cls(tuple(sorted(lengths)))

    @property
    def total(self) -> int:
        """All tokens together."""
        return sum(self.sorted)

    def quantile(self, share: float) -> int:
        """The smallest length that so much of the examples (0 to 1) do not exceed; 0 when there are none."""
        if not self.sorted:
            return 0
        return self.sorted[max(0, math.ceil(share * len(self.sorted)) - 1)]

    def over(self, bound: int) -> int:
        """How many are longer."""
        return sum(length > bound for length in self.sorted)

    def histogram(self) -> list[str]:
        """A line for each of at most twelve bins of equal width: from, to, how many, and a bar."""
        if not self.sorted:
            return []
        low, high = self.sorted[0], self.sorted[-1]
        width = max(1, math.ceil((high - low + 1) / _BINS))
        counts = [0] * ((high - low) // width + 1)
        for length in self.sorted:
            counts[(length - low) // width] += 1
        most, digits = max(counts), len(str(high))
        return [
            f"  {low + index * width:>{digits}} to {min(high, low + (index + 1) * width - 1):>{digits}}  "
            f"{count:>{len(str(most))}}  {'#' * math.ceil(_WIDTH * count / most)}".rstrip()
            for index, count in enumerate(counts)
        ]

    def to_json(self) -> dict[str, int]:
        """The total and the quantiles."""
        return {"total": self.total, **{name: self.quantile(share) for share, name in _NAMED}}

    def __str__(self) -> str:
        if not self.sorted:
            return "none"
        said = ", ".join(f"{name} {self.quantile(share):,}" for share, name in _NAMED)
        return f"{self.total:,} in all; {said}"
