"""Families of tests: p-values corrected for their number, within one comparison or over several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simkit.comparison.claims import claims
from simkit.comparison.pairs import holm
from simkit.comparison.results import Comparison, Difference


def corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """The differences with p-values corrected for their number; incomparable ones are not counted."""
    tested = [each for each in found if not each.incomparable]
    values = iter(holm([each.p for each in tested]))
    return tuple(
        each if each.incomparable else replace(each, corrected=next(values), family=len(tested)) for each in found
    )


def one_family(*comparisons: Comparison) -> tuple[Comparison, ...]:
    """The comparisons of one experiment with one correction over all their differences.

    Use it if what you claim rests on several comparisons, such as one for each sampling temperature: the chance of any
    false claim among them all is then at most 1 minus the level.
    """
    differences = iter(corrected([each for found in comparisons for each in found.differences]))
    joined: list[Comparison] = []
    for found in comparisons:
        own = tuple(next(differences) for _ in found.differences)
        said = claims(own, found.noise, found.level, paired_seeds=found.paired_seeds)
        joined.append(replace(found, differences=own, claims=said))
    return tuple(joined)
