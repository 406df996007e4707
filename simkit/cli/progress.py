"""Progress of a run: a live line block on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import anyio

from simkit.engine import Tally
from simkit.run import Progress

if TYPE_CHECKING:
    from rich.console import Group

DRAW_EVERY = 0.2
"""Seconds between two pictures on a terminal."""

BAR, SHORTEST_BAR = 40, 8
"""Cells of the bar, and how few are still worth drawing."""

LINE_EVERY = 5.0
"""Seconds between two lines elsewhere."""


def progress_for(stream: TextIO) -> Progress:
    """The display that suits a stream."""

    async def live(tally: Tally) -> None:
        await _live(tally, stream)

    async def lines(tally: Tally) -> None:
        await _lines(tally, stream)

    return live if stream.isatty() else lines


def describe(tally: Tally) -> str:
    """The state of a run on one line."""
    return f"{_clock(tally.seconds)} {_done(tally)}, {_left(tally)}, {', '.join(_counts(tally))}"


def _done(tally: Tally) -> str:
    return f"{len(tally.episodes)}/{tally.planned} episodes"


def _left(tally: Tally) -> str:
    if tally.stopping:
        return "stopping (Ctrl-C: at once)"
    if tally.planned and len(tally.episodes) == tally.planned:
        return "counting the results"
    return "started" if tally.left is None else f"{_clock(tally.left)} left"


def _counts(tally: Tally) -> list[str]:
    parts = [f"reward {tally.reward_total / tally.scored:.3f}"] if tally.scored else []
    parts += [f"{tally.hits} goals", f"{tally.running} running", f"{tally.branches} branches live"]
    parts.append(f"{tally.turns / max(tally.seconds, 0.001):.0f} turns/s")
    return [*parts, f"{tally.faulted} faulted"] if tally.faulted else parts


async def _lines(tally: Tally, stream: TextIO) -> None:
    while True:
        await anyio.sleep(LINE_EVERY)
        if tally.planned:
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
    """A line with the bar, and a line of counts below it; neither is ever wrapped."""
    from rich.console import Group
    from rich.text import Text

    above = (f"{_clock(tally.seconds):>7}  ", f"  {_done(tally)}, {_left(tally)}")
    room = min(BAR, width - sum(map(len, above)) - 1)
    filled = room * len(tally.episodes) // max(tally.planned, 1)
    bar = [("━" * filled, "cyan"), ("─" * (room - filled), "dim")] if room >= SHORTEST_BAR else []
    first = Text.assemble(above[0], *bar, above[1], no_wrap=True, overflow="ellipsis")
    return Group(first, Text(f"{'':>7}  {', '.join(_counts(tally))}", "dim", no_wrap=True, overflow="ellipsis"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
