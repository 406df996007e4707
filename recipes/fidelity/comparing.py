"""Comparison of a simulated user with people: differences with intervals, and the noise floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from simkit.core.ontology import Ontology
from simkit.recipes.fidelity.dialogues import Dialogue, only
from simkit.recipes.fidelity.measures import MEASURES, Measure, Measured, measured
from simkit.recipes.fidelity.telling import LEAST, Told, tell_apart
from simkit.statistics.scores import Bootstrap, Estimate, mean_of_tasks, quantile

RESAMPLES, SPLITS = 1000, 200
"""Resamples of a difference, and splits of the people for the noise floor."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of a simulated user beside people.

    Attributes:
        user, people: means with their 95% intervals over dialogues.
        difference: the user's mean minus that of the people.
        floor: two groups of people of this size differ by less than this in 95% of splits; None with too few people.
    """

    measure: Measure
    user: Estimate
    people: Estimate
    difference: Estimate
    floor: float | None

    @property
    def beyond(self) -> bool:
        """Whether the difference is more than chance and more than that between people."""
        apart = self.difference.low > 0 or self.difference.high < 0
        return apart and (self.floor is None or abs(self.difference.value) > self.floor)

    def __str__(self) -> str:
        floor = "" if self.floor is None else f"; floor {self.floor:.3f}"
        found = self.difference
        mark = " *" if self.beyond else ""
        return (
            f"{self.user.value:.3f}, people {self.people.value:.3f}, difference {found.value:+.3f} "
            f"({found.low:+.3f} to {found.high:+.3f}{floor}){mark}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A simulated user beside people; `told` is None with too few dialogues for a classifier."""

    name: str
    dialogues: int
    differences: tuple[Difference, ...]
    told: Told | None


@dataclass(frozen=True, slots=True)
class People:
    """The people to compare with, and how they compare with each other; `told` is people against other people."""

    dialogues: tuple[Dialogue, ...]
    ontology: Ontology
    seed: int = 0

    def told(self) -> Told | None:
        """How well one half of the people can be told from the other; None with too few of them."""
        one, two = self._halves(Random(f"{self.seed}/told"))
        return tell_apart(one, two, self.seed) if min(len(one), len(two)) >= LEAST else None

    def compare(self, name: str, user: Sequence[Dialogue]) -> Comparison:
        """A simulated user beside these people: those with the same tasks, or all of them if most tasks are unknown."""
        user, people = self._side_by_side(user)
        ours, theirs, every = (measured(side, self.ontology) for side in (user, people, self.dialogues))
        if len(user) != len(people):  # what is new depends on the number of dialogues
            one, two = self._as_many(user, people)
            ours, theirs = (
                ours.with_novelty(measured(one, self.ontology)),
                theirs.with_novelty(measured(two, self.ontology)),
            )
        shared = tuple(each for each in MEASURES if ours.of(each) and theirs.of(each))
        found = tuple(
            Difference(
                each,
                _mean(each, ours.of(each)),
                _mean(each, theirs.of(each)),
                difference(ours.of(each), theirs.of(each), f"{self.seed}/{each.name}"),
                floor_of(every.of(each), min(len(user), len(every.of(each)) // 2), f"{self.seed}/{each.name}"),
            )
            for each in shared
        )
        one, two = self._as_many(user, people)
        told = tell_apart(two, one, self.seed) if len(one) >= LEAST else None
        return Comparison(name, len(user), found, told)

    def _side_by_side(self, user: Sequence[Dialogue]) -> tuple[Sequence[Dialogue], Sequence[Dialogue]]:
        """The dialogues of both sides with the same tasks; all of them if most tasks of the user are unknown."""
        both = frozenset(each.id for each in user) & frozenset(each.id for each in self.dialogues)
        if len(both) < len(user) / 2:
            return user, self.dialogues
        return only(user, both), only(self.dialogues, both)

    def _as_many(
        self, user: Sequence[Dialogue], people: Sequence[Dialogue]
    ) -> tuple[Sequence[Dialogue], Sequence[Dialogue]]:
        """As many dialogues of each side, drawn by the seed where one has more."""
        count, rng = min(len(user), len(people)), Random(f"{self.seed}/as many")
        one, two = (side if len(side) == count else rng.sample(side, count) for side in (user, people))
        return one, two

    def _halves(self, rng: Random) -> tuple[tuple[Dialogue, ...], tuple[Dialogue, ...]]:
        names = sorted(each.id for each in self.dialogues)
        rng.shuffle(names)
        middle = len(names) // 2
        return only(self.dialogues, frozenset(names[:middle])), only(self.dialogues, frozenset(names[middle:]))


def _mean(measure: Measure, values: Sequence[float]) -> Estimate:
    groups = [[value] for value in values]
    if measure.share or len(groups) < 2:
        return mean_of_tasks(groups)
    return Bootstrap(resamples=RESAMPLES).mean(groups, measure.name)


def difference(ours: Sequence[float], theirs: Sequence[float], label: str = "") -> Estimate:
    """The difference of two means, with percentiles of both sides resampled."""
    rng = Random(label)
    drawn = sorted(
        fmean(rng.choices(ours, k=len(ours))) - fmean(rng.choices(theirs, k=len(theirs))) for _ in range(RESAMPLES)
    )
    value = fmean(ours) - fmean(theirs)
    return Estimate(value, min(value, quantile(drawn, 0.025)), max(value, quantile(drawn, 0.975)))


def floor_of(values: Sequence[float], size: int, label: str = "") -> float | None:
    """The distance of two disjoint groups of this size that 95% of random groups do not exceed; None below ten."""
    if size < 10:
        return None
    rng = Random(f"{label}/floor")
    found: list[float] = []
    for _ in range(SPLITS):
        drawn = rng.sample(values, 2 * size)
        found.append(abs(fmean(drawn[:size]) - fmean(drawn[size:])))
    return quantile(sorted(found), 0.95)


def by_dialogue(found: Measured) -> Mapping[str, Mapping[str, float]]:
    """The values of all measures, by dialogue."""
    rows: dict[str, dict[str, float]] = {}
    for measure, values in found.values.items():
        for name, value in values.items():
            rows.setdefault(name, {})[measure] = value
    return rows
