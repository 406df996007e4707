"""Scored items (`item_scores`) of two arms, question by question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from simkit.comparison.measures import Unit
from simkit.comparison.pairs import Pairs, Table, pair
from simkit.comparison.records import ArmFacts, Item, RunFacts

DESCRIPTIVE = frozenset({"answered", "judged", "words"})
"""Metrics that count or describe answers: they are no scores, nothing is claimed of them."""


@dataclass(frozen=True)
class Suite:
    """One metric of one suite in two arms; `less` says that less of it is better."""

    name: str
    less: bool
    before: tuple[Table, ...]
    after: tuple[Table, ...]

    @cached_property
    def pairs(self) -> Pairs:
        """The questions that both arms have."""
        return pair(self.before, self.after, lambda values: fmean(values) if values else None)

    @property
    def unit(self) -> Unit:
        """Points for scores from 0 to 1 (accuracies), otherwise the scale of the suite."""
        return "points" if all(0 <= value <= 1 for value in (*self.pairs.before, *self.pairs.after)) else ""


def suites(reference: ArmFacts, arm: ArmFacts) -> Iterator[Suite]:
    """The suites and metrics that all runs of both arms have, by name; a question that one lacks is None there."""
    runs = (*reference.runs, *arm.runs)
    for suite, metric in sorted(set[tuple[str, str]].intersection(*(_names(run) for run in runs))):
        found = [[item for item in run.items if (item.suite, item.metric) == (suite, metric)] for run in runs]
        asked = sorted({(item.item, item.trial) for items in found for item in items})
        tables = [_table(items, asked) for items in found]
        less = any(item.less for items in found for item in items)
        split = len(reference.runs)
        yield Suite(f"{suite}/{metric}", less, tuple(tables[:split]), tuple(tables[split:]))


def _names(run: RunFacts) -> set[tuple[str, str]]:
    return {(item.suite, item.metric) for item in run.items if item.metric not in DESCRIPTIVE}


def _table(items: Sequence[Item], asked: Sequence[tuple[str, int]]) -> Table:
    found: dict[str, dict[int, float | None]] = {}
    for item, trial in asked:
        found.setdefault(item, {})[trial] = None
    for each in items:
        found[each.item][each.trial] = each.value
    return found
