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
    done = len(tally.episodes)
    parts = [f"{done}/{tally.planned} episodes", f"{tally.running} running", f"{tally.branches} branches live"]
    if tally.scored:
        parts.append(f"reward {tally.reward_total / tally.scored:.3f}")
    parts += [f"{tally.hits} goals", f"{tally.turns} turns ({tally.turns / max(tally.seconds, 0.001):.0f}/s)"]
    if tally.faulted:
        parts.append(f"{tally.faulted} faulted")
    if tally.left is not None:
        parts.append(f"{_clock(tally.left)} left")
    return ", ".join(parts)


async def _lines(tally: Tally, stream: TextIO) -> None:
    while True:
        await anyio.sleep(LINE_EVERY)
        if tally.planned:
            stream.write(describe(tally) + "\n")
            stream.flush()


async def _live(tally: Tally, stream: TextIO) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), auto_refresh=False, transient=True) as picture:
        while True:
            picture.update(_picture(tally), refresh=True)
            await anyio.sleep(DRAW_EVERY)


def _picture(tally: Tally) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    bar = ProgressBar(total=max(tally.planned, 1), completed=len(tally.episodes), width=60)
    return Group(bar, Text(f"{_clock(tally.seconds)}  {describe(tally)}"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
