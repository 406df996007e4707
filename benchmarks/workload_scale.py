"""W3 and W4: very many conversations in one process, and what more of everything costs."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import anyio
from workload_runs import (
    Load,
    Measured,
    Screen,
    heading,
    measure,
    new_run,
    on_fast_loop,
    play,
    serving,
    table,
)

from simkit.cli.progress import progress_for
from simkit.engine import Tally
from simkit.events import BranchAdded, Event
from simkit.testing.behaviour import Stats

EVERY = 0.02
"""Seconds between two looks at the clock."""

SECOND = 1.0
"""Latency of W3's server: 2,000 calls under way are 2,000 a second."""


@dataclass
class Look:
    """What is seen of a run while it goes: lag, memory, and how far each conversation is when half is done."""

    turns: int
    before: int = 0
    peak: int = 0
    lags: list[float] = field(default_factory=list[float])
    played: Counter[str] = field(default_factory=Counter[str])
    half: list[int] = field(default_factory=list[int])

    def tell(self, event: Event) -> None:
        """Count the turns of each conversation."""
        if isinstance(event, BranchAdded) and event.turn:
            self.played[event.episode_id] += 1
            if not self.half and self.played.total() * 2 >= self.turns:
                self.half = list(self.played.values())

    async def watch(self, tally: Tally) -> None:
        """Look beside the display, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(progress_for(Screen()), tally)
            while True:
                start = time.perf_counter()
                await anyio.sleep(EVERY)
                self.lags.append(time.perf_counter() - start - EVERY)
                self.peak = max(self.peak, resident())


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def _crowd(load: Load, look: Look) -> tuple[Measured, Stats]:
    async with serving("talk", SECOND) as server:
        with tempfile.TemporaryDirectory() as folder:
            look.before = resident()
            run = new_run(load, Path(folder), progress=look.watch, taps=(look.tell,))
            measured = await play(run, load, server)
            return measured, await server.stats()


def w3(_: int) -> None:
    """Once: it takes a minute or more."""
    load = Load(conversations=10_000, turns=2, limit=2000, trials=5)
    best = load.calls * SECOND / 2000
    heading(f"W3: {load.conversations} conversations at once, {load.turns} turns, 2000 calls of {SECOND:g} s at once")
    look = Look(load.conversations * load.turns)
    measured, stats = on_fast_loop(lambda: _crowd(load, look))
    lags = quantiles(look.lags, n=100)
    half = sorted(look.half + [0] * (load.conversations - len(look.half)))
    spread = ", ".join(
        f"{share}%: {half[min(len(half) - 1, len(half) * share // 100)]}" for share in (0, 5, 50, 95, 100)
    )
    table(
        ("", ""),
        [
            ("calls answered", f"{measured.calls} of {load.calls}"),
            ("wall s", f"{measured.wall:.1f} ({measured.wall / best:.2f}x of {best:.1f}, what 2000 at once allow)"),
            ("CPU ms/call", f"{measured.per_call:.3f}"),
            ("requests in flight at the server, at most", stats.in_flight_max),
            ("memory grown, MB", f"{(look.peak - look.before) / 1e6:.0f}"),
            ("memory a conversation, kB", f"{(look.peak - look.before) / load.conversations / 1e3:.1f}"),
            (
                "event-loop lag ms, median / 99% / worst",
                " / ".join(f"{lag * 1e3:.0f}" for lag in (lags[49], lags[98], max(look.lags))),
            ),
            (f"turns done (of {load.turns}) at half time, by share of conversations", spread),
            ("load average", f"{measured.busy:.1f}"),
        ],
    )


def w4(_: int) -> None:
    """CPU a call as one thing grows and the others stay."""
    heading("W4: CPU a call for more conversations, longer ones, wider beams (calls of 20 ms)")
    on_fast_loop(lambda: measure(Load(conversations=4, turns=2)))
    loads = {
        "conversations": [(n, Load(conversations=n, turns=2, trials=max(1, n // 2000))) for n in (100, 1000, 10_000)],
        "turns": [(n, Load(conversations=25, turns=n)) for n in (5, 20, 80)],
        "beam": [(n, Load(conversations=4, turns=10, beam=n)) for n in (2, 8, 64)],
    }
    rows: list[tuple[object, ...]] = []
    for name, sizes in loads.items():
        first = 0.0
        for size, load in sizes:
            reply = "talk_in_vain" if load.beam else "talk"
            measured = on_fast_loop(lambda load=load, reply=reply: measure(load, reply, 0.02))
            first = first or measured.per_call
            cells = (measured.calls, f"{measured.per_call:.3f}", f"{measured.whole_per_call:.3f}")
            rows.append((name, size, *cells, f"{measured.per_call / first:.2f}x", f"{measured.busy:.1f}"))
    table(("what grows", "to", "calls", "CPU ms/call", "with loading", "ratio of playing", "load"), rows)
