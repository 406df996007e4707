"""What a run and its summary show in a notebook."""

from __future__ import annotations

from collections.abc import Iterator

from simkit.core.html_text import ACCENT, FAINT, Html, element, framed, one_line, shortened, table
from simkit.core.text_table import Column, Table
from simkit.run.summary import Summary
from simkit.statistics.scores import Estimate

_WIDTH = 160


def summary_html(summary: Summary, *title: str) -> Html:
    """Scores with their intervals, and counts; `title` stands above them."""
    bars = [
        element(
            "div", element("span", f"{name} {estimate}  ", style="display:inline-block;min-width:17em"), _bar(estimate)
        )
        for name, estimate in (("reward", summary.reward), ("success", summary.success_rate))
        if estimate is not None
    ]
    rows = tuple((name, shortened(value, 300)) for name, value in _rows(summary))
    return framed(*title, *bars, table(Table((Column("what"), Column("value")), rows)), label="Summary of a run")


def run_html(name: str, state: str, summary: Summary, address: str = "") -> Html:
    """A run with its summary so far.

    Args:
        name: its id and name.
        state: its status.
        summary: what it has played.
        address: where a viewer shows it; empty if none does.
    """
    title = element("p", element("b", one_line(name)), element("span", f"  {state}", style=FAINT), style="margin:2px 0")
    link = (
        element("p", element("a", address, href=address), style="margin:2px 0") if address.startswith("http://") else ""
    )
    return summary_html(summary, title, link)


def _rows(summary: Summary) -> Iterator[tuple[str, str]]:
    account = summary.account
    yield "episodes", f"{summary.episodes} of {account.planned} planned, {summary.scored} scored"
    if len(summary.pass_k) > 1:
        yield "pass^k", ", ".join(f"{k}: {value:.3f}" for k, value in enumerate(summary.pass_k, 1))
    yield "turns, branches, tool calls", f"{summary.turns}, {summary.branches}, {summary.tool_calls}"
    yield "ended", ", ".join(f"{name} {count}" for name, count in summary.outcomes.items())
    if summary.faults:
        yield "faults", f"{summary.faulted} episodes, {summary.faults} branches"
    for name, value in (*summary.measures.items(), *summary.extra.items()):
        yield name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value)


def _bar(found: Estimate) -> Html:
    """A value between 0 and 1 as a point with its interval."""
    if not 0 <= found.low <= found.high <= 1:
        return Html()
    low, middle, high = (round(6 + (_WIDTH - 12) * end, 1) for end in (found.low, found.value, found.high))
    return element(
        "svg",
        element("line", x1=6, x2=_WIDTH - 6, y1=7, y2=7, stroke="currentColor", stroke_opacity=0.2, stroke_width=2),
        element("line", x1=low, x2=high, y1=7, y2=7, stroke=ACCENT, stroke_opacity=0.6, stroke_width=6),
        element("circle", cx=middle, cy=7, r=4, fill=ACCENT),
        width=_WIDTH,
        height=14,
        role="img",
        aria_label=f"{found} between 0 and 1",
    )
