"""Many conversations at once in one process: `python -m benchmarks.concurrency [conversations ...]`.

Plays that many conversations on the built-in world, all of them open at the same time, once as fast as they go and once
with an agent that waits as long as a model would. Prints memory, and how late the event loop is for somebody else.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import anyio

from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.core.limits import Limits
from simkit.plugins.loading import load
from simkit.run.casting import AGENT
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.search.rollout import Rollout

EVERY = 0.01
"""Seconds between two looks at the clock: lateness beyond it is event-loop lag."""


@dataclass
class Look:
    """What was seen of the process while a run went."""

    lags: list[float] = field(default_factory=list[float])
    most_running: int = 0
    peak: int = 0

    async def watch(self, progress: RunProgress) -> None:
        """Look until cancelled."""
        while True:
            start = time.perf_counter()
            await anyio.sleep(EVERY)
            self.lags.append(time.perf_counter() - start - EVERY)
            self.most_running = max(self.most_running, progress.running)
            self.peak = max(self.peak, resident())


class Patient(Agent):
    """Another agent that waits before each decision, as one with a model does."""

    name = "patient"

    def __init__(self, inner: Agent, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    def start(self, request: StartAgent) -> AgentStart:
        """As the other agent starts."""
        return self._inner.start(request)

    async def act(self, request: Act) -> Decision:
        """As the other agent decides, later."""
        await anyio.sleep(self._seconds)
        return await self._inner.act(request)


def resident() -> int:
    """Bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def play(conversations: int, seconds: float, folder: Path) -> str:
    """One measurement, as a line of the table."""
    look = Look()
    async with Run(store=folder, seed=1, concurrency=conversations, progress=look.watch) as run:
        world = run.world("builtin")
        agent = load(AGENT, "scripted", {"world": world})
        cast = run.cast(world, agent=Patient(agent, seconds) if seconds else agent)
        tasks = run.tasks(world, "train", conversations)
        before, start, busy = resident(), time.perf_counter(), time.process_time()
        await run.play(Rollout(Limits()), cast, tasks)
        took, cpu = time.perf_counter() - start, time.process_time() - busy
    turns = run.progress.turns
    lags = quantiles(look.lags, n=100) if len(look.lags) > 1 else [0.0] * 99
    grown = (look.peak - before) / 1e6
    return (
        f"{conversations:>13} {seconds * 1000:>8.0f} {look.most_running:>8} {took:>8.1f} {cpu:>8.1f} "
        f"{turns / cpu:>11.0f} {grown:>8.0f} {grown * 1000 / conversations:>10.0f} {look.peak / 1e6:>8.0f} "
        f"{lags[49] * 1000:>8.1f} {lags[98] * 1000:>8.1f} {max(look.lags) * 1000:>8.1f}"
    )


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    print(
        f"{'conversations':>13} {'wait ms':>8} {'at once':>8} {'seconds':>8} {'CPU s':>8} {'turns/CPU s':>11} "
        f"{'grown MB':>8} {'kB/convers.':>10} {'RSS MB':>8} {'lag p50':>8} {'lag p99':>8} {'lag max':>8}  lags in ms"
    )
    for conversations in [int(argument) for argument in arguments] or [200, 2000]:
        for seconds in (0.0, 0.5):
            with tempfile.TemporaryDirectory() as folder:
                print(anyio.run(play, conversations, seconds, Path(folder)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
