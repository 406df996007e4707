"""Progress of a run: a live line block on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

import anyio

from simkit.cli.output import text_line
from simkit.core.records import ComponentLoad
from simkit.core.safe_text import visible_line
from simkit.run.engine import ProgressDisplay, RunProgress
from simkit.run.worker_states import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

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

SILENT = 2.0
"""Seconds without an answer of a worker from which it is named."""

MOST_WORKERS = 8
"""Workers that have a line of their own in the live display."""

LINE_EVERY = 5.0
"""Seconds between lines elsewhere."""


def progress_for(stream: TextIO, viewer: Callable[[], str | None] = lambda: None) -> ProgressDisplay:
    """The display for a stream; `viewer` tells the address of a viewer that watches the run, if there is one."""

    display = _live if stream.isatty() else _lines

    async def shown(progress: RunProgress) -> None:
        try:
            await display(progress, stream, viewer)
        except OSError:  # the stream cannot be written, which must not end the run
            return

    return shown


def describe(progress: RunProgress) -> str:
    """The state of a run on one line."""
    if not progress.planned:
        return visible_line(f"{_clock(progress.seconds)} {progress.note}")
    parts = [*_counts(progress), *(_calls(progress.metrics) if progress.metrics else ()), *_waits(progress)]
    return visible_line(f"{_clock(progress.seconds)} {_done(progress)}, {_left(progress)}, {', '.join(parts)}")


def _done(progress: RunProgress) -> str:
    kept = f" ({progress.kept} kept)" if progress.kept else ""
    return f"{len(progress.episodes)}/{progress.planned} episodes{kept}"


def _left(progress: RunProgress) -> str:
    if progress.stopping:
        return "stopping (Ctrl-C: at once)"
    if progress.planned and len(progress.episodes) == progress.planned:
        return "counting the results"
    return "started" if progress.left is None else f"{_clock(progress.left)} left"


def _counts(progress: RunProgress) -> list[str]:
    parts = [progress.note] if progress.note else []
    parts += [f"reward {progress.reward_total / progress.scored:.3f}"] if progress.scored else []
    parts += [
        _number(progress.hits, "goal", "goals"),
        f"{progress.running} running",
        _number(progress.branches, "branch", "branches") + " live",
    ]
    parts.append(f"{progress.turns / max(progress.seconds, 0.001):.0f} turns/s")
    if progress.missed:
        parts.append(f"{len(progress.missed)} not played")
    if progress.faulted:
        parts.append(f"{progress.faulted} faulted")
    parts += _workers(progress)
    parts += map(describe_load, progress.load())
    if progress.lag.now > LAGGING:
        parts.append(f"event loop {progress.lag.now * 1e3:.0f} ms late")
    return parts


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _workers(progress: RunProgress) -> list[str]:
    """All workers together: what they hold, and the one that was silent or late for longest."""
    if not progress.workers:
        return []
    lost = f", {progress.workers_lost} lost" if progress.workers_lost else ""
    states = progress.worker_states()
    parts = [f"{_number(progress.workers, 'worker', 'workers')}{lost}"]
    silent = max(states, key=lambda each: each.heard, default=None)
    if silent is not None and silent.heard > SILENT:
        parts.append(f"worker {silent.worker} silent for {silent.heard:.0f} s")
    tokens, cost = sum(each.tokens for each in states), sum(each.cost for each in states)
    if tokens or cost:
        parts.append(f"leased {_short(tokens)} tokens{f', ${cost:.2f}' if cost else ''}")
    return parts


def describe_worker(state: WorkerState) -> str:
    """What one worker does, has leased, and when it was heard of."""
    lost = [f"{state.lost} lost before it"] if state.lost else []
    leases = [f"{_short(state.tokens)} tokens leased"] if state.tokens else []
    leases += [f"${state.cost:.2f} leased"] if state.cost else []
    leases += [f"{state.calls} of {state.places} calls"] if state.places else []
    parts = [f"{state.open} open", f"{state.done} done", f"{state.lag * 1e3:.0f} ms late at worst", *leases, *lost]
    return f"worker {state.worker} ({state.place or 'starting'}): {', '.join(parts)}, heard {state.heard:.1f} s ago"


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


def _waits(progress: RunProgress) -> list[str]:
    """Waits of model calls: since when, when the calls are repeated, and the reason, which names the endpoint."""
    now, metrics = time.time(), progress.metrics
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


async def _lines(progress: RunProgress, stream: TextIO, viewer: Callable[[], str | None]) -> None:
    told: str | None = None
    played = False
    while True:
        await anyio.sleep(LINE_EVERY)
        if (address := viewer()) not in (None, told):
            told = address
            stream.write(f"watched at {address}\n")
        now = progress.shown
        earlier, played = played, 0 < now.planned == len(now.episodes)
        if now.note or (now.planned and not (earlier and played)):  # what is counted for long is said once
            stream.write(describe(now) + "\n")
            stream.flush()


async def _live(progress: RunProgress, stream: TextIO, viewer: Callable[[], str | None]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as picture:
        while True:
            picture.update(_picture(progress.shown, console.width, viewer()), refresh=True)
            await anyio.sleep(DRAW_EVERY)


def _picture(progress: RunProgress, width: int, viewer: str | None = None) -> Group:
    """A line with the bar, one of counts, one of model calls if any, one of each wait, and one that says where the run
    can be watched; lines are never wrapped."""
    from rich.console import Group

    watched = [[f"watched at {viewer}"]] if viewer else []
    if not progress.planned:
        first = text_line((f"{_clock(progress.seconds):>7}  {progress.note}", ""))
        return Group(first, *(text_line((f"{'':>7}  {parts[0]}", "dim")) for parts in watched))
    above = (f"{_clock(progress.seconds):>7}  ", f"  {_done(progress)}, {_left(progress)}")
    room = min(BAR, width - sum(map(len, above)) - 1)
    filled = room * len(progress.episodes) // max(progress.planned, 1)
    bar = [("━" * filled, "cyan"), ("─" * (room - filled), "dim")] if room >= SHORTEST_BAR else []
    first = text_line((above[0], ""), *bar, (above[1], ""))
    below = [
        _counts(progress),
        *([_calls(progress.metrics)] if progress.metrics else ()),
        *([each] for each in _waits(progress)),
        *watched,
        *([describe_worker(each)] for each in progress.worker_states()[:MOST_WORKERS]),
    ]
    lines = [text_line((f"{'':>7}  {', '.join(parts)}", "dim")) for parts in below]
    return Group(first, *lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
