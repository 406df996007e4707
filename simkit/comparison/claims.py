"""What may be said of a comparison, and what may not, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simkit.comparison.measures import Noise, Unit
from simkit.comparison.results import Difference
from simkit.statistics.scores import Estimate


def claims(
    differences: Sequence[Difference], noise: Sequence[Noise], level: float, *, paired_seeds: bool = False
) -> tuple[str, ...]:
    """One sentence for each difference, and what is known of the noise.

    `paired_seeds` says that runs that stand against each other share their seeds.
    """
    closer = "; runs that share their seeds, as these do, are closer" if paired_seeds else ""
    return (*(_claim(each, level) for each in differences), *_noise(differences, noise, level, closer))


def _claim(found: Difference, level: float) -> str:
    if found.incomparable:
        before, after = (told(value, found.unit, sign=False) for value in (found.before, found.after))
        return (
            f"Nothing may be claimed of the {found.label}: {after} of `{found.arm}` stand beside {before} of "
            f"`{found.reference}`, but they are different measures: {found.incomparable}."
        )
    interval = f"{told(found.estimate.value, found.unit)}, {level:.0%} interval {span(found.estimate, found.unit)}"
    unit = f"{_counted(found)}, less is better" if found.less_is_better else _counted(found)
    if found.claimed:
        more = "higher" if found.estimate.value > 0 else "lower"
        return (
            f"It may be claimed: the {found.label} of `{found.arm}` is {more} than that of `{found.reference}`: "
            f"{interval} ({chances(found)}, {unit})."
        )
    return (
        f"No difference in the {found.label} between `{found.arm}` and `{found.reference}` may be claimed: {interval} "
        f"({chances(found)}, {unit}).{''.join(_reasons(found))}"
    )


def _reasons(found: Difference) -> Iterator[str]:
    """Why it may not be claimed, and what the data do exclude."""
    noise = found.noise
    if found.significant and noise is not None:
        yield f" Chance alone does not explain it, but repeated runs of one thing lie {size(noise, found.unit)} apart."
    elif found.p <= found.alpha < found.corrected:
        yield f" Alone it would pass, but it is one of {found.family} comparisons."
    elif found.detectable is not None:
        yield f" A difference of {size(found.detectable, found.unit)} would have been found 4 times in 5."


def _counted(found: Difference) -> str:
    what = "items" if found.kind == "suite" else "tasks"
    pairs = f", {found.pairs} pairs" if found.pairs > found.tasks else ""
    if not found.by_run:
        return f"{found.tasks} {what}{pairs}"
    ends = Estimate(found.estimate.value, min(found.by_run), max(found.by_run))
    return f"{found.tasks} {what}{pairs}, by run {span(ends, found.unit)}"


def _noise(differences: Sequence[Difference], noise: Sequence[Noise], level: float, closer: str) -> Iterator[str]:
    if any(found.kind == "overall" and not found.incomparable for found in differences) and not noise:
        yield (
            "How far apart identical runs lie is not known here: play with --trials 2 or more, or repeat a run with "
            "another --seed and name the repeats with --noise."
        )
    for each in noise:
        floors = [found.noise for found in differences if found.name == each.name and found.noise is not None]
        stay = f"; independent repeats of this size stay within {{}} of each other, {level:.0%} of the time{closer}"
        floor = stay.format(size(max(floors), each.unit)) if floors else ""
        yield (
            f"Repeats of the same thing differ in the {each.label} by {size(each.typical, each.unit)} on average and "
            f"{size(each.furthest, each.unit)} at most ({each.repeats} {each.source}, {each.tasks} tasks){floor}."
        )


def told(value: float, unit: Unit, *, sign: bool = True) -> str:
    """A number with its unit: `+2.1 points`, or `-0.312`."""
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f} points" if unit == "points" else f"{value:{plus}.3g}"


def size(value: float, unit: Unit) -> str:
    """A distance with its unit."""
    return told(abs(value), unit, sign=False)


def span(estimate: Estimate, unit: Unit) -> str:
    """An interval of differences with its unit."""
    return f"{told(estimate.low, unit).removesuffix(' points')} to {told(estimate.high, unit)}"


def chances(found: Difference) -> str:
    """The p-value, with the correction where there is one."""
    alone = f"p {p_value(found.p)}"
    if found.family == 1:
        return alone
    return f"{alone}, {p_value(found.corrected).removeprefix('= ')} corrected for {found.family} comparisons"


def p_value(p: float) -> str:
    """`= 0.031`, or `< 0.0001`."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}" if p < 0.1 else f"= {p:.2f}"
