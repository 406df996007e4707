"""Tables of a comparison, for the terminal and as markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simkit.comparison.claims import format_interval, format_p, format_value
from simkit.comparison.measures import Kind, Unit
from simkit.comparison.results import ArmScores, Comparison, Difference, Score
from simkit.core.text_table import Column, Table

SCORES = "Scores"
DIFFERENCES = "Differences"
OUTCOMES = "Successes and failures, pair by pair"
PLACES = "Share of goals reached by domain and goal type (exploratory, not to be claimed)"
SECONDARY = "Other metrics of suites (exploratory, not to be claimed)"
CURVES = "Reward by turn"
ENDS = "How episodes ended"
NOISE = "Noise of repeating"


def tables(found: Comparison) -> tuple[tuple[str, Table], ...]:
    """Tables with their titles; empty tables are left out."""
    interval = f"{found.level:.0%} intervals over {found.tasks} tasks in parentheses"
    pairs = {(each.reference, each.arm) for each in found.differences}
    sides = "from the left arm to the right one" if len(pairs) > 1 else " → ".join(next(iter(pairs)))
    named = (
        (f"{SCORES} ({interval})", _scores(found)),
        (f"{DIFFERENCES} ({sides})", _differences(found.differences)),
        (OUTCOMES, _outcomes(found.differences)),
        (SECONDARY, _differences(found.secondary, where=True)),
        (PLACES, _differences(found.places, where=True)),
        (CURVES, _curves(found)),
        (ENDS, _ends(found)),
        (NOISE, _noise(found)),
    )
    return tuple((title, table) for title, table in named if table.rows)


def markdown(found: Comparison) -> str:
    """The whole comparison as a document."""
    blocks = [f"# {' against '.join(arm.name for arm in found.arms)}", _bullets(found.claims)]
    if found.notes:
        blocks += ["## Notes", _bullets(found.notes)]
    for title, table in tables(found):
        blocks += [f"## {title}", _markdown(table)]
    blocks += ["## Runs", _bullets([f"{arm.name}: {', '.join(arm.runs)}" for arm in found.arms])]
    return "\n\n".join(blocks) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _markdown(table: Table) -> str:
    rule = ["--:" if column.right else "---" for column in table.columns]
    rows = ([column.name for column in table.columns], rule, *table.rows)
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _scores(found: Comparison) -> Table:
    names = list(dict.fromkeys(score.name for arm in found.arms for score in arm.scores))
    columns = (
        Column("arm", shorten=True),
        Column("runs", drop=2, right=True),
        Column("episodes", right=True),
        Column("not scored", drop=3, right=True),
        *(Column(name, drop=0 if place < 2 else 4 + place, right=True) for place, name in enumerate(names)),
    )
    return Table(columns, tuple(_arm(arm, names) for arm in found.arms if arm.episodes))


def _arm(arm: ArmScores, names: Sequence[str]) -> tuple[str, ...]:
    by_name = {score.name: score for score in arm.scores}
    faulted = f" ({arm.faulted} faulted)" if arm.faulted else ""
    return (
        arm.name,
        str(len(arm.runs)),
        str(arm.episodes),
        f"{arm.episodes - arm.scored}{faulted}",
        *(_score(by_name[name]) if name in by_name else "" for name in names),
    )


def _ends(found: Comparison) -> Table:
    """The number of episodes by arm and outcome; empty if all ended in one way."""
    names = sorted({name for arm in found.arms for name in arm.outcomes})
    columns = (Column("arm", shorten=True), *(Column(name, drop=2 + n, right=True) for n, name in enumerate(names)))
    rows = [(arm.name, *(str(arm.outcomes.get(name, 0)) for name in names)) for arm in found.arms if arm.episodes]
    return Table(columns, tuple(rows) if len(names) > 1 else ())


def _score(score: Score) -> str:
    low, high = (_number(value, score.unit) for value in (score.estimate.low, score.estimate.high))
    return f"{_number(score.estimate.value, score.unit)} ({low} to {high})"


def _number(value: float, unit: Unit) -> str:
    return f"{value:.3f}" if unit == "points" else f"{value:.3g}"


_KINDS: dict[Kind, str] = {"overall": "", "suite": "items", "domain": "domain", "goal type": "goal"}


def _differences(found: Sequence[Difference], *, where: bool = False) -> Table:
    several = len({(each.reference, each.arm) for each in found}) > 1
    columns = (
        Column("what"),
        *((Column("arms", shorten=True),) if several else ()),
        Column("from", drop=3, right=True),
        Column("to", drop=3, right=True),
        Column("difference", right=True),
        Column("interval", right=True),
        Column("p", drop=4, right=True),
        Column("p (Holm)", right=True),
        Column("effect", drop=6, right=True),
        Column("detectable", drop=7, right=True),
        Column("noise", drop=8, right=True),
        Column("n", drop=5, right=True),
        Column("differs" if where else "claim", drop=0),
    )
    return Table(columns, tuple(_difference(each, where, several) for each in found))


def _difference(found: Difference, where: bool, several: bool) -> tuple[str, ...]:
    if found.incomparable:
        return _incomparable(found, several)
    return (
        " ".join(filter(None, (_KINDS[found.kind], found.name))),
        *((f"{found.reference} → {found.arm}",) if several else ()),
        _number(found.before, found.unit),
        _number(found.after, found.unit),
        format_value(found.estimate.value, found.unit),
        format_interval(found.estimate, found.unit).removesuffix(" points"),
        format_p(found.p).removeprefix("= "),
        format_p(found.corrected).removeprefix("= "),
        "" if found.effect is None else f"{found.effect_name} = {found.effect:+.2f}",
        _plain_value(found.detectable, found.unit),
        _plain_value(found.noise, found.unit),
        str(found.tasks),
        _verdict(found, where),
    )


def _verdict(found: Difference, where: bool) -> str:
    if found.margin is None:
        return "yes" if (found.significant if where else found.claimed) else "no"
    bound = format_value(found.margin, found.unit, sign=False).removesuffix(" points")
    return f"preserved within {bound}" if found.claimed else f"not shown within {bound}"


def _plain_value(value: float | None, unit: Unit) -> str:
    """A value without sign and unit; empty if there is no value."""
    return "" if value is None else format_value(value, unit, sign=False).removesuffix(" points")


def _incomparable(found: Difference, several: bool) -> tuple[str, ...]:
    """A row of values that are not comparable, without an interval or a p-value."""
    return (
        " ".join(filter(None, (_KINDS[found.kind], found.name))),
        *((f"{found.reference} → {found.arm}",) if several else ()),
        _number(found.before, found.unit),
        _number(found.after, found.unit),
        *[""] * 7,
        str(found.tasks),
        "not comparable",
    )


def _outcomes(found: Sequence[Difference]) -> Table:
    columns = (
        Column("arms", shorten=True),
        Column("both succeed", right=True),
        Column("only the left", right=True),
        Column("only the right", right=True),
        Column("neither", right=True),
        Column("p", right=True),
        Column("test"),
    )
    return Table(columns, tuple(_row(each) for each in found if each.outcomes is not None and not each.incomparable))


def _row(found: Difference) -> tuple[str, ...]:
    counts = found.outcomes
    assert counts is not None
    single = found.pairs == found.tasks
    return (
        f"{found.reference} → {found.arm}",
        *map(str, (counts.both, counts.lost, counts.won, counts.neither)),
        format_p(counts.p if single else found.p).removeprefix("= "),
        "McNemar, exact" if single else "sign flip by task",
    )


def _curves(found: Comparison) -> Table:
    columns = (Column("turn", right=True), *(Column(curve.arm, right=True) for curve in found.curves))
    turns = max((len(curve.points) for curve in found.curves), default=0)
    return Table(columns, tuple((str(turn + 1), *_at(found, turn)) for turn in range(turns)))


def _at(found: Comparison, turn: int) -> Iterator[str]:
    for curve in found.curves:
        point = curve.points[turn]
        yield f"{point.value:.3f} ({point.low:.3f} to {point.high:.3f})"


def _noise(found: Comparison) -> Table:
    columns = (
        Column("what"),
        Column("measured on"),
        Column("repeats", right=True),
        Column("tasks", right=True),
        Column("mean difference", right=True),
        Column("largest difference", right=True),
    )
    rows = tuple(
        (
            each.name,
            each.source,
            str(each.repeats),
            str(each.tasks),
            format_value(each.typical, each.unit, sign=False),
            format_value(each.furthest, each.unit, sign=False),
        )
        for each in found.noise
    )
    return Table(columns, rows)
