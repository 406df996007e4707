"""How far a judge agrees with itself when the two answers change places.

A judge that prefers whatever it reads first is worth little, so each pair is judged in both orders: only a preference
that holds in both counts as a win, everything else is a tie (the conservative rule of arXiv 2306.05685, section 3.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from simkit.preservation.verdicts import Choice, Preference
from simkit.statistics.scores import Estimate, mean_of_tasks

Side: TypeAlias = Literal["ours", "theirs", "tie"]

_VALUES: dict[Side, float] = {"ours": 1.0, "tie": 0.5, "theirs": 0.0}


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of answers, judged with ours shown first and with theirs shown first."""

    ours_first: Preference
    theirs_first: Preference

    @property
    def sides(self) -> tuple[Side, Side] | None:
        """Who won in each order; None when a verdict is missing."""
        one, two = self.ours_first.choice, self.theirs_first.choice
        return None if one is None or two is None else (_side(one, "first"), _side(two, "second"))

    @property
    def winner(self) -> Side | None:
        """Who won: a preference that held in both orders, else a tie; None when a verdict is missing."""
        if self.sides is None:
            return None
        one, two = self.sides
        return one if one == two else "tie"

    @property
    def value(self) -> float | None:
        """1 for a win of ours, 0.5 for a tie, 0 for a loss; None when a verdict is missing."""
        return None if self.winner is None else _VALUES[self.winner]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a judge's verdicts in the two orders compare.

    Attributes:
        pairs: pairs with a verdict in both orders; `missing` lack one.
        same: share of pairs with the same winner in both orders, with its 95% interval over questions.
        kappa: Cohen's kappa of the two orders over win, loss and tie: 0 for chance, 1 for full agreement; None where it
            is not defined, because every verdict was the same.
        ties: share of single verdicts that were ties.
        first: share of decided verdicts for the answer shown first, 0.5 for a judge without a taste for places; None
            when nothing was decided.
    """

    pairs: int
    missing: int
    same: Estimate | None
    kappa: float | None
    ties: float | None
    first: float | None


def agreement(questions: Sequence[Sequence[Pair]]) -> Agreement:
    """What the pairs of each question say about their judge; pairs of one question resemble each other."""
    pairs = [pair for question in questions for pair in question]
    same = [
        [float(one == two) for one, two in filter(None, (pair.sides for pair in question))] for question in questions
    ]
    sides = [each.sides for each in pairs if each.sides is not None]
    verdicts = [side for both in sides for side in both]
    decided = [(place, side) for both in sides for place, side in enumerate(both) if side != "tie"]
    first = sum((side == "ours") == (place == 0) for place, side in decided)
    return Agreement(
        pairs=len(sides),
        missing=len(pairs) - len(sides),
        same=mean_of_tasks(same) if sides else None,
        kappa=cohens_kappa(sides),
        ties=verdicts.count("tie") / len(verdicts) if verdicts else None,
        first=first / len(decided) if decided else None,
    )


def cohens_kappa(ratings: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two ratings beyond chance (Cohen 1960); None of nothing, and where all ratings are the same."""
    if not ratings:
        return None
    count = len(ratings)
    ones, twos = Counter(one for one, _ in ratings), Counter(two for _, two in ratings)
    observed = sum(one == two for one, two in ratings) / count
    expected = sum(ones[label] * twos[label] for label in ones) / count**2
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def _side(choice: Choice, ours: Choice) -> Side:
    if choice == "tie":
        return "tie"
    return "ours" if choice == ours else "theirs"
