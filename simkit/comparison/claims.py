"""Claims of a comparison: what its data support and what they do not, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simkit.comparison.measures import Noise, Unit
from simkit.comparison.results import Difference
from simkit.statistics.scores import Estimate


def claims(
    differences: Sequence[Difference], noise: Sequence[Noise], level: float, *, paired_seeds: bool = False
) -> tuple[str, ...]:
    """One sentence per difference, followed by sentences about the noise of repeats.

    `paired_seeds` says that runs that are paired with each other share their seeds.
    """
    closer = "; runs that share their seeds, as these do, differ less" if paired_seeds else ""
    return (*(_claim(each, level) for each in differences), *_noise(differences, noise, level, closer))


def _claim(found: Difference, level: float) -> str:
    if found.incomparable:
        before, after = (format_value(value, found.unit, sign=False) for value in (found.before, found.after))
        return (
            f"Nothing may be claimed about the {found.label}: it is {after} for `{found.arm}` and {before} for "
            f"`{found.reference}`, but these are different measures: {found.incomparable}."
        )
    value, ends = format_value(found.estimate.value, found.unit), format_interval(found.estimate, found.unit)
    interval = f"{value}, {level:.0%} interval {ends}"
    if found.margin is not None:
        return _preserved(found, found.margin, interval)
    unit = f"{_counted(found)}, lower is better" if found.less_is_better else _counted(found)
    if found.claimed:
        more = "higher" if found.estimate.value > 0 else "lower"
        return (
            f"It may be claimed: the {found.label} of `{found.arm}` is {more} than that of `{found.reference}`: "
            f"{interval} ({format_p_values(found)}, {unit})."
        )
    return (
        f"No difference in the {found.label} between `{found.arm}` and `{found.reference}` may be claimed: {interval} "
        f"({format_p_values(found)}, {unit}).{''.join(_reasons(found))}"
    )


def _preserved(found: Difference, margin: float, interval: str) -> str:
    """Whether no more than the margin was lost. "No difference was found" would not say that."""
    bound, worse = format_size(margin, found.unit), "higher" if found.less_is_better else "lower"
    facts = f"{interval} ({format_p_values(found)}, {_counted(found)})"
    if found.claimed:
        return (
            f"It may be claimed that the {found.label} of `{found.arm}` is preserved, that is, less than {bound} "
            f"{worse} than that of `{found.reference}`: {facts}."
        )
    if found.worst > 0:
        why = f" The interval alone is within {bound}, but not after correction for {found.family} comparisons."
    else:
        loss = format_size(margin - found.worst, found.unit)
        why = f" A loss of {loss} is within the interval; the margin is {bound}."
    all_lost = found.estimate.low > 0 if found.less_is_better else found.estimate.high < 0
    lost = f" It is {worse}: the whole interval is a loss." if all_lost else ""
    return (
        f"It may not be claimed that the {found.label} of `{found.arm}` is preserved against `{found.reference}`: "
        f"{facts}.{why}{lost}"
    )


def _reasons(found: Difference) -> Iterator[str]:
    """Reason why the difference may not be claimed, or which difference the data would have shown."""
    noise = found.noise
    if found.significant and noise is not None:
        yield f" It is significant, but no larger than the noise of repeated runs ({format_size(noise, found.unit)})."
    elif found.p <= found.alpha < found.corrected:
        yield f" It is significant on its own, but not after correction for {found.family} comparisons."
    elif found.detectable is not None:
        yield f" A difference of {format_size(found.detectable, found.unit)} would have been detected with 80% power."


def _counted(found: Difference) -> str:
    what = "items" if found.kind == "suite" else "tasks"
    pairs = f", {found.pairs} pairs" if found.pairs > found.tasks else ""
    by_run = ""
    if found.by_run:
        ends = Estimate(found.estimate.value, min(found.by_run), max(found.by_run))
        by_run = f", by run {format_interval(ends, found.unit)}"
    return f"{found.tasks} {what}{pairs}{by_run}{_levels(found)}"


def _levels(found: Difference) -> str:
    """The intervals over tasks and over runs alone, if runs are a sample."""
    if found.runs is None or found.over_tasks is None:
        return ""
    numbers = " and ".join(map(str, found.runs.runs))
    tasks, runs = (format_interval(each, found.unit) for each in (found.over_tasks, found.runs.over_runs))
    return f"; {numbers} runs as a sample: over tasks alone {tasks}, over runs alone {runs}"


def _noise(differences: Sequence[Difference], noise: Sequence[Noise], level: float, closer: str) -> Iterator[str]:
    if any(found.kind == "overall" and not found.incomparable for found in differences) and not noise:
        yield (
            "The noise between identical runs was not measured: play with --trials 2 or more, or repeat a run with "
            "another --seed and pass the repeats with --noise."
        )
    for each in noise:
        floors = [found.noise for found in differences if found.name == each.name and found.noise is not None]
        within = f"; {level:.0%} of independent repeats of this size differ by at most {{}}{closer}"
        floor = within.format(format_size(max(floors), each.unit)) if floors else ""
        mean, furthest = format_size(each.typical, each.unit), format_size(each.furthest, each.unit)
        yield (
            f"Repeats of the same configuration differ in the {each.label} by {mean} on average and {furthest} at most "
            f"({each.repeats} {each.source}, {each.tasks} tasks){floor}."
        )


def format_value(value: float, unit: Unit, *, sign: bool = True) -> str:
    """A value with its unit: `+2.1 points`, or `-0.312`."""
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f} points" if unit == "points" else f"{value:{plus}.3g}"


def format_size(value: float, unit: Unit) -> str:
    """The size of a difference with its unit, without a sign."""
    return format_value(abs(value), unit, sign=False)


def format_interval(estimate: Estimate, unit: Unit) -> str:
    """An interval with its unit: `-10.0 to +20.0 points`."""
    return f"{format_value(estimate.low, unit).removesuffix(' points')} to {format_value(estimate.high, unit)}"


def format_p_values(found: Difference) -> str:
    """The p-value, and the corrected one if there were several comparisons."""
    alone = f"p {format_p(found.p)}"
    if found.family == 1:
        return alone
    return f"{alone}, {format_p(found.corrected).removeprefix('= ')} corrected for {found.family} comparisons"


def format_p(p: float) -> str:
    """A p-value with two digits: `= 0.031`, or `< 0.0001`."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}" if p < 0.1 else f"= {p:.2f}"
