"""Runs with worker processes: speed, cost of the driver, and cost of a worker.

    python benchmarks/workers.py josh [--tasks 1000] [--workers 2] [--pairs 3]
    python benchmarks/workers.py start
    python benchmarks/workers.py talk [--conversations 2000] [--workers 2] [--pairs 3]

`josh` plays JOSH on the built-in world in one process and with workers, in alternating order, and prints for each the
seconds of `play`, and the CPU seconds of the driver and of its workers. `start` prints the CPU seconds and the memory
of a worker that has built its cast. `talk` plays conversations with a model behind a load server on the same machine,
with one worker and with several, and prints calls per second and CPU per call. The load average is printed, because
other work on the machine changes all figures.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.run.processes import Processes
from simkit.run.run import Run
from simkit.run.tuning import fast_loop
from simkit.search.base import Search
from simkit.search.josh import Josh
from simkit.search.rollout import Rollout
from simkit.testing.server import serve_process


@dataclass(frozen=True)
class Cost:
    """Cost of one play: wall seconds, CPU seconds of the driver and of its workers, and model calls."""

    wall: float
    driver: float
    workers: float
    calls: int = 0

    def __str__(self) -> str:
        calls = f", {self.calls / self.wall:.0f} calls/s" if self.calls else ""
        return f"{self.wall:.2f} s, driver {self.driver:.2f} CPU s, workers {self.workers:.2f} CPU s{calls}"


async def play(workers: int, search: Search, tasks: str, concurrency: int, **cast: Any) -> Cost:
    """Play tasks of the built-in world, with a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(store=Path(folder), engine=Processes(workers) if workers else None, concurrency=concurrency, **cast)
        async with run:
            world = run.world("builtin")
            players = run.cast(world)
            chosen = run.tasks(world, "train", tasks)
            before, began = _cpu(), perf_counter()
            await run.play(search, players, chosen)
            wall, after = perf_counter() - began, _cpu()
    calls = 0 if run.progress.metrics is None else run.progress.metrics.calls
    return Cost(wall, after[0] - before[0], after[1] - before[1], calls)


def _cpu() -> tuple[float, float]:
    """CPU seconds of this process and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


async def pairs(sizes: tuple[int, int], number: int, played: Callable[[int], Coroutine[Any, Any, Cost]]) -> None:
    """Play both numbers of workers in alternating order, and print each play and the median of the paired ratios."""
    ratios: list[float] = []
    for pair in range(number):
        found: dict[int, Cost] = {}
        for workers in sizes if pair % 2 == 0 else sizes[::-1]:
            found[workers] = await played(workers)
            print(f"{workers or 'no'} workers: {found[workers]}; load {os.getloadavg()[0]:.1f}", flush=True)
        ratios.append(found[sizes[0]].wall / found[sizes[1]].wall)
    print(f"{sizes[1]} workers are {statistics.median(ratios):.2f} times as fast as {sizes[0] or 'none'} (median)")


async def josh(tasks: int, workers: int, number: int) -> None:
    """JOSH with this process alone, and with workers."""
    await pairs((0, workers), number, lambda size: play(size, Josh(), str(tasks), 16))


async def talk(conversations: int, workers: int, number: int) -> None:
    """Conversations with a model behind the load server, with one worker and with several."""
    async with serve_process() as server:
        models = ModelConfig(model="openai/load", base_url=server.base_url)

        async def played(size: int) -> Cost:
            search = Rollout(Limits(turns=6))
            return await play(size, search, str(conversations), conversations, models=models)

        await pairs((1, workers), number, played)


async def start() -> None:
    """The cost of one worker that plays one short episode."""
    found = [await play(1, Rollout(), "1", 1) for _ in range(3)]
    seconds = statistics.median(each.workers for each in found)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"a worker: {seconds:.2f} CPU s, {memory:.0f} MB; load {os.getloadavg()[0]:.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("josh", "start", "talk"))
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    match chosen.what:
        case "josh":
            measured = lambda: josh(chosen.tasks, chosen.workers, chosen.pairs)  # noqa: E731
        case "talk":
            measured = lambda: talk(chosen.conversations, chosen.workers, chosen.pairs)  # noqa: E731
        case _:
            measured = start
    anyio.run(measured, backend_options={"loop_factory": fast_loop()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
