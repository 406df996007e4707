"""Progress of a run: a live line block on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

import anyio

from simkit.cli.output import text_line
from simkit.core.records import ComponentLoad
from simkit.core.safe_text import visible_line
from simkit.run.engine import Progress, Tally

if TYPE_CHECKING:
    from rich.console import Group

    from simkit.models.middleware.metrics import CallMetrics

DRAW_EVERY = 0.2
"""Seconds between updates on a terminal."""

BAR, SHORTEST_BAR = 40, 8
"""Cells of the bar, and the minimum that is drawn."""

LAGGING = 0.05
"""Seconds of event-loop lag above which it is shown."""

WAITED = 1.0
"""Seconds from which a wait for an endpoint is shown."""

REASON = 160
"""Maximum characters of the reason for a wait."""

LINE_EVERY = 5.0
"""Seconds between lines elsewhere."""


def progress_for(stream: TextIO) -> Progress:
    """The display for a stream."""

    display = _live if stream.isatty() else _lines

    async def shown(tally: Tally) -> None:
        try:
            await display(tally, stream)
        except OSError:  # the stream cannot be written, which must not end the run
            return

    return shown


def describe(tally: Tally) -> str:
    """The state of a run on one line."""
    if not tally.planned:
        return visible_line(f"{_clock(tally.seconds)} {tally.note}")
    parts = [*_counts(tally), *(_calls(tally.metrics) if tally.metrics else ()), *_waits(tally)]
    return visible_line(f"{_clock(tally.seconds)} {_done(tally)}, {_left(tally)}, {', '.join(parts)}")


def _done(tally: Tally) -> str:
    kept = f" ({tally.kept} kept)" if tally.kept else ""
    return f"{len(tally.episodes)}/{tally.planned} episodes{kept}"


def _left(tally: Tally) -> str:
    if tally.stopping:
        return "stopping (Ctrl-C: at once)"
    if tally.planned and len(tally.episodes) == tally.planned:
        return "counting the results"
    return "started" if tally.left is None else f"{_clock(tally.left)} left"


def _counts(tally: Tally) -> list[str]:
    parts = [tally.note] if tally.note else []
    parts += [f"reward {tally.reward_total / tally.scored:.3f}"] if tally.scored else []
    parts += [f"{tally.hits} goals", f"{tally.running} running", f"{tally.branches} branches live"]
    parts.append(f"{tally.turns / max(tally.seconds, 0.001):.0f} turns/s")
    if tally.missed:
        parts.append(f"{len(tally.missed)} not played")
    if tally.faulted:
        parts.append(f"{tally.faulted} faulted")
    parts += map(describe_load, tally.load())
    if tally.lag.now > LAGGING:
        parts.append(f"event loop {tally.lag.now * 1e3:.0f} ms late")
    return parts


def describe_load(state: ComponentLoad) -> str:
    """Load of a component with limits: requests served and waiting, sessions in use and queued episodes."""
    parts: list[str] = []
    if state.concurrency is not None:
        waiting = f", {state.waiting} waiting" if state.waiting else ""
        parts.append(f"{state.serving} of {state.concurrency} requests{waiting}")
    if state.sessions is not None:
        queued = f", {state.queued} episodes waiting" if state.queued else ""
        parts.append(f"{state.open} of {state.sessions} sessions{queued}")
    return f"{state.name}: {'; '.join(parts)}"


def _calls(metrics: CallMetrics) -> list[str]:
    """State of the model calls, for runs that make any."""
    usage = metrics.usage
    parts = [f"{metrics.in_flight} of {metrics.limit} calls in flight"]
    if metrics.waiting:
        parts.append(f"{metrics.waiting} waiting")
    parts.append(f"{metrics.calls} answered")
    if metrics.replayed:
        parts.append(f"{metrics.replayed} from a recording")
    if metrics.rate_limited:
        parts.append(f"{metrics.rate_limited} rate limits")
    if metrics.failed:
        parts.append(f"{metrics.failed} failed attempts")
    parts.append(f"{_short(usage.tokens)} tokens")
    return [*parts, f"${usage.cost:.2f}" if usage.cost >= 1 else f"${usage.cost:.4f}"] if usage.cost else parts


def _waits(tally: Tally) -> list[str]:
    """Waits of model calls: since when, when the calls are repeated, and the reason, which names the endpoint."""
    now, metrics = time.time(), tally.metrics
    waits = [health.wait for health in metrics.endpoints if health.wait is not None] if metrics else []
    return [
        f"waiting for {_clock(max(0.0, now - wait.since))}, next attempt in {max(0.0, wait.until - now):.0f} s: "
        f"{wait.reason:.{REASON}}"
        for wait in waits
        if now - wait.since >= WAITED or wait.until - now >= WAITED
    ]


def _short(number: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{sign}"
    return f"{number:.0f}"


async def _lines(tally: Tally, stream: TextIO) -> None:
    while True:
        await anyio.sleep(LINE_EVERY)
        if tally.planned or tally.note:
            stream.write(describe(tally) + "\n")
            stream.flush()


async def _live(tally: Tally, stream: TextIO) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as picture:
        while True:
            picture.update(_picture(tally, console.width), refresh=True)
            await anyio.sleep(DRAW_EVERY)


def _picture(tally: Tally, width: int) -> Group:
    """A line with the bar, one of counts, one of model calls if any, and one of each wait; lines are never wrapped."""
    from rich.console import Group

    if not tally.planned:
        return Group(text_line((f"{_clock(tally.seconds):>7}  {tally.note}", "")))
    above = (f"{_clock(tally.seconds):>7}  ", f"  {_done(tally)}, {_left(tally)}")
    room = min(BAR, width - sum(map(len, above)) - 1)
    filled = room * len(tally.episodes) // max(tally.planned, 1)
    bar = [("━" * filled, "cyan"), ("─" * (room - filled), "dim")] if room >= SHORTEST_BAR else []
    first = text_line((above[0], ""), *bar, (above[1], ""))
    below = [_counts(tally), *([_calls(tally.metrics)] if tally.metrics else ()), *([each] for each in _waits(tally))]
    lines = [text_line((f"{'':>7}  {', '.join(parts)}", "dim")) for parts in below]
    return Group(first, *lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
