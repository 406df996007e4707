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
from simkit.core.events import BranchAdded, Episode, Event
from simkit.run.engine import RunProgress
from simkit.testing.behaviour import Stats

EVERY = 0.02
"""Seconds between two looks at the clock."""

LOOKS = 10
"""The spread is looked at when every tenth of all turns is played."""

SECOND = 1.0
"""Latency of W3's server: 2,000 calls under way are 2,000 a second."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the conversations were when so much of all turns was played."""

    share: float
    seconds: float
    turns: tuple[int, ...]

    @classmethod
    def of(cls, share: float, seconds: float, played: Counter[str], conversations: int) -> Spread:
        """From the turns of those that have played any."""
        silent = [0] * (conversations - len(played))
        return cls(share, seconds, tuple(sorted([*silent, *played.values()])))

    def at(self, share: float) -> int:
        """The turns of the conversation at this share of them, the slowest first."""
        return self.turns[min(len(self.turns) - 1, int(len(self.turns) * share))]

    @property
    def jain(self) -> float:
        """Jain's index of fairness: 1 when all are equally far, 1/n when one alone has played."""
        return sum(self.turns) ** 2 / (len(self.turns) * sum(turn * turn for turn in self.turns))

    def row(self) -> tuple[object, ...]:
        """As a line of a table."""
        cells = [self.at(share) for share in (0.0, 0.01, 0.5, 0.99, 1.0)]
        return (f"{self.share:.0%}", f"{self.seconds:.1f}", *cells, f"{self.jain:.3f}")


@dataclass
class Look:
    """What is seen of a run while it goes: lag, memory, how far each conversation is, and how long each one waits."""

    load: Load
    before: int = 0
    peak: int = 0
    start: float = 0.0
    lags: list[float] = field(default_factory=list[float])
    played: Counter[str] = field(default_factory=Counter[str])
    spreads: list[Spread] = field(default_factory=list[Spread])
    heard_of: dict[str, float] = field(default_factory=dict[str, float])
    waits: list[float] = field(default_factory=list[float])
    ends: list[float] = field(default_factory=list[float])
    done: int = 0

    def tell(self, event: Event) -> None:
        """Count the turns of each conversation, and the seconds from one to the next."""
        now = time.perf_counter() - self.start
        if isinstance(event, Episode):
            self.ends.append(now)
        elif isinstance(event, BranchAdded) and event.turn:
            self.waits.append(now - self.heard_of.get(event.episode_id, 0.0))
            self.heard_of[event.episode_id] = now
            self.played[event.episode_id] += 1
            self.done += 1
            whole = self.load.conversations * self.load.turns
            if self.done * LOOKS >= whole * (len(self.spreads) + 1) and len(self.spreads) < LOOKS - 1:
                share = (len(self.spreads) + 1) / LOOKS
                self.spreads.append(Spread.of(share, now, self.played, self.load.conversations))

    async def watch(self, progress: RunProgress) -> None:
        """Look beside the display, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(progress_for(Screen()), progress)
            while True:
                start = time.perf_counter()
                await anyio.sleep(EVERY)
                self.lags.append(time.perf_counter() - start - EVERY)
                self.peak = max(self.peak, resident())


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def _crowd(look: Look) -> tuple[Measured, Stats]:
    async with serving("talk", SECOND) as server:
        with tempfile.TemporaryDirectory() as folder:
            look.before, look.start = resident(), time.perf_counter()
            run = new_run(look.load, Path(folder), progress=look.watch, taps=(look.tell,))
            measured = await play(run, look.load, server)
            return measured, await server.stats()


def w3(_: int) -> None:
    """Once: it takes minutes."""
    load = Load(conversations=10_000, turns=6, limit=2000, trials=5)
    best = load.calls * SECOND / 2000
    heading(f"W3: {load.conversations} conversations at once, {load.turns} turns, 2000 calls of {SECOND:g} s at once")
    look = Look(load)
    measured, stats = on_fast_loop(lambda: _crowd(look))
    lags, waits, ends = quantiles(look.lags, n=100), quantiles(look.waits, n=100), sorted(look.ends)
    table(
        ("", ""),
        [
            ("conversations finished", f"{len(ends)} of {load.conversations}"),
            ("calls answered", f"{measured.calls} of {load.calls}"),
            ("wall s", f"{measured.wall:.1f} ({measured.wall / best:.2f}x of {best:.1f}, what 2000 at once allow)"),
            ("CPU ms/call", f"{measured.per_call:.3f}"),
            ("requests in flight at the server, at most", stats.in_flight_max),
            ("memory grown, MB", f"{(look.peak - look.before) / 1e6:.0f}"),
            ("memory a conversation, kB", f"{(look.peak - look.before) / load.conversations / 1e3:.1f}"),
            ("event-loop lag ms, median / 99% / worst", _figures(lags[49], lags[98], max(look.lags), unit=1e3)),
            ("s from turn to turn, median / 99% / worst", _figures(waits[49], waits[98], max(look.waits))),
            ("s to the end, first / median / last", _figures(ends[0], ends[len(ends) // 2], ends[-1])),
            ("load average", f"{measured.busy:.1f}"),
        ],
    )
    print(f"\nTurns (of {load.turns}) that a conversation has played, by the share of all turns played:\n")
    names = ("of all turns", "after s", "slowest", "1%", "median", "99%", "fastest", "Jain")
    table(names, [spread.row() for spread in look.spreads])


def _figures(*values: float, unit: float = 1.0) -> str:
    return " / ".join(f"{value * unit:.3g}" if unit == 1.0 else f"{value * unit:.0f}" for value in values)


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
