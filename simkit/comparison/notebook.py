"""What a comparison shows in a notebook: its claims, the differences with their intervals, and the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simkit.comparison.claims import format_interval, format_value
from simkit.comparison.results import Comparison, Difference
from simkit.core.html_text import (
    ACCENT,
    FAINT,
    GOLD,
    LARGEST,
    SHADE,
    Html,
    details,
    element,
    framed,
    joined,
    one_line,
    shortened,
    table,
    within,
)

DRAWN = 40
"""Maximum number of differences in the picture."""

_WIDTH, _LABEL, _VALUE, _ROW = 760, 230, 250, 24


def comparison_html(found: Comparison) -> Html:
    """Claims and notes in words, a forest plot for each unit, and all tables, folded."""
    names = " against ".join(one_line(arm.name, 100) for arm in reversed(found.arms))
    head = element("p", element("b", names), f", {found.tasks} tasks", style="margin:2px 0")
    claims = (element("p", one_line(claim, 2_000), style=_CLAIM) for claim in found.claims)
    notes = (element("p", f"note: {one_line(note, 2_000)}", style=FAINT) for note in found.notes)
    plots = joined(_plots(found))
    words = within((*claims, *notes), LARGEST // 4, "more claims and notes")
    room = LARGEST - 2_000 - len(joined((head, words, plots)).encode())
    tables = within(
        (details(title, element("div", table(each), style="overflow-x:auto")) for title, each in found.tables()),
        room,
        "more tables; `to_markdown` writes them all",
    )
    return framed(head, words, plots, tables, label=f"Comparison of {names}")


_CLAIM = f"{SHADE};border-radius:6px;padding:4px 8px;margin:4px 0"


def _plots(found: Comparison) -> Iterator[Html]:
    shown = [each for each in found.differences if not each.incomparable]
    for unit in dict.fromkeys(each.unit for each in shown):
        yield _forest([each for each in shown if each.unit == unit][:DRAWN], found.level)


def _forest(rows: Sequence[Difference], level: float) -> Html:
    """Differences of one unit as points with intervals around a line at 0; those that may be claimed are golden."""
    least = min(0.0, *(row.estimate.low for row in rows))
    most = max(0.0, *(row.estimate.high for row in rows))
    scale = (_WIDTH - _LABEL - _VALUE - 20) / ((most - least) or 1)

    def x(value: float) -> float:
        return round(_LABEL + 10 + (value - least) * scale, 1)

    height = len(rows) * _ROW + 8
    words = "; ".join(f"{_name(row)} {_interval(row)}" for row in rows)
    zero = element("line", x1=x(0), x2=x(0), y1=0, y2=height, stroke="currentColor", stroke_opacity=0.4)
    return element(
        "svg",
        zero,
        *(
            _point(row, place * _ROW + 16, x(row.estimate.low), x(row.estimate.value), x(row.estimate.high))
            for place, row in enumerate(rows)
        ),
        viewBox=f"0 0 {_WIDTH} {height}",
        style=f"width:100%;max-width:{_WIDTH}px;height:auto;display:block;margin:6px 0",
        role="img",
        aria_label=f"Differences with {level:.0%} intervals: {words}"[:2_000],
    )


def _point(row: Difference, y: int, low: float, middle: float, high: float) -> Html:
    colour = GOLD if row.claimed else ACCENT
    look = {"fill": "currentColor", "font_size": 12}
    return joined(
        (
            element("text", shortened(_name(row), 40), x=0, y=y + 4, **look),
            element("line", x1=low, x2=high, y1=y, y2=y, stroke=colour, stroke_width=3, stroke_linecap="round"),
            element("circle", cx=middle, cy=y, r=5, fill=colour),
            element("text", _interval(row), x=_WIDTH, y=y + 4, text_anchor="end", **look),
        )
    )


def _name(row: Difference) -> str:
    return one_line(f"{row.label}, {row.arm}")


def _interval(row: Difference) -> str:
    return f"{format_value(row.estimate.value, row.unit)} {format_interval(row.estimate, row.unit)}"
