"""Scored items (`item_scores`) of two arms, question by question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from simkit.comparison.measures import Unit
from simkit.comparison.pairs import Pairs, Table, pair
from simkit.comparison.records import ArmFacts, RunFacts


@dataclass(frozen=True)
class Suite:
    """One metric of one suite in two arms."""

    name: str
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
    """The suites and metrics that all runs of both arms have, by name."""
    runs = (*reference.runs, *arm.runs)
    for suite, metric in sorted(set[tuple[str, str]].intersection(*(_names(run) for run in runs))):
        here, there = _tables(reference.runs, suite, metric), _tables(arm.runs, suite, metric)
        yield Suite(f"{suite}/{metric}", here, there)


def _names(run: RunFacts) -> set[tuple[str, str]]:
    return {(item.suite, item.metric) for item in run.items}


def _tables(runs: Sequence[RunFacts], suite: str, metric: str) -> tuple[Table, ...]:
    return tuple(_table(run, suite, metric) for run in runs)


def _table(run: RunFacts, suite: str, metric: str) -> Table:
    found: dict[str, dict[int, float | None]] = {}
    for item in run.items:
        if (item.suite, item.metric) == (suite, metric):
            found.setdefault(item.item, {})[item.trial] = item.value
    return found
