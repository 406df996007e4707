"""What an exchange costs the driver: the real dispatcher, journal and leases, with links to workers that do not exist.

    python benchmarks/driver_links.py [--links 1 10 100 1000] [--exchanges 10000] [--limits] [--lines 8]

Each link plays what its orders say: it answers every exchange at once with the next lines of a recorded JOSH episode of
the built-in world, pickled and framed as over a pipe, so that the driver is what limits. What the link itself takes is
measured apart and taken off. `--limits` adds a budget, rates and a fixed concurrency, of which each worker wants a part
at every exchange. Each number of links runs in a process of its own, which says how much memory it took.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import orjson

from simkit.core.child_process import framed
from simkit.core.events import Episode, Event
from simkit.core.tasks import Task
from simkit.models.base import ChatModel
from simkit.models.middleware.budget import Allowance, Allowances, Amount, Budget
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.leases import Places, Wants
from simkit.models.middleware.lending import EndpointAccounts, Lender
from simkit.models.middleware.rate_limit import RateLimits
from simkit.run.accounting import CountingRecorder, UnitLedger
from simkit.run.cast_spec import CastSpec, Pickled
from simkit.run.contract import TICK, Counts, Down, Link, Order, PlaySpec, Result, ServedModel, Up
from simkit.run.dispatch import EXTRA, DriverContext, play_with_workers
from simkit.run.engine import FaultPolicy, RunProgress
from simkit.run.run import Run
from simkit.run.tuning import fast_loop
from simkit.search.base import WorkUnit
from simkit.search.josh import Josh
from simkit.store.encoding import FINISHED, encode
from simkit.store.journal import Journal

RUN = "links-00000000"
CONCURRENCY = 4
ENDPOINT = "endpoint"
WANTS = Wants(
    spent=Amount(),
    calls=((0, Amount(tokens=200.0)),),
    places={ENDPOINT: Places(4, 4)},
    slots={ENDPOINT: (300.0,) * 4},
)


@dataclass
class FakeLinks:
    """An engine whose workers answer at once, with `lines` lines of an episode in each exchange.

    Attributes:
        size: number of workers.
        episode: lines of one episode without its end.
        seconds: what the links themselves took.
    """

    size: int
    episode: Sequence[bytes]
    lines: int
    wants: Wants
    exchanges: int = 0
    bytes: int = 0
    seconds: float = 0.0

    host = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Nothing to open."""
        yield

    @asynccontextmanager
    async def serving(self, models: Mapping[str, ChatModel]) -> AsyncGenerator[Mapping[str, ServedModel]]:
        """Nothing is served."""
        yield {}

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        """A worker that does not exist."""
        yield FakeLink(self)


@dataclass
class FakeLink:
    """A link that plays its orders one after the other."""

    engine: FakeLinks
    left: deque[tuple[Order, int]] = field(default_factory=lambda: deque[tuple[Order, int]]())
    end: int = 0

    async def exchange(self, down: Down) -> Up:
        """The next lines."""
        framed(pickle.dumps(down))  # what the driver does on a pipe
        began = time.thread_time()
        data = pickle.dumps(self._answer(down))
        self.engine.exchanges += 1
        self.engine.bytes += len(data)
        self.engine.seconds += time.thread_time() - began
        await (anyio.lowlevel.checkpoint() if self.left else anyio.sleep(TICK))
        return pickle.loads(data)

    def _answer(self, down: Down) -> Up:
        self.left.extend((order, 0) for order in down.orders)
        counts = Counts(running=len(self.left), turns=self.end, lag=0.001)
        if not self.left:
            return Up(end=self.end, counts=counts, done=bool(down.stop))
        order, at = self.left.popleft()
        episode, lines = self.engine.episode, self.engine.lines
        some = (*episode[at : at + lines],)
        results: tuple[Result, ...] = ()
        if at + lines >= len(episode):
            ended = Episode(episode_id=order.unit.episode_id, reward=0.5, outcome="user_ended")
            some, results = (*some, encode(ended)), (Result(order.index, ended),)
        else:
            self.left.append((order, at + lines))
        self.end += len(some)
        return Up(lines=some, end=self.end, results=results, counts=counts, wants=self.engine.wants)


class NoPast:
    """Nothing was recorded before."""

    def of(self, unit: WorkUnit) -> bytes:
        """Nothing."""
        return b""

    async def renew(self) -> None:
        """Nothing."""


def budgeted() -> Lender:
    """The limits of a run with one endpoint."""
    budget = Budget(Allowances(run=Allowance(tokens=10**9)))
    rates = RateLimits(rpm=1e9, tpm=1e12)
    return Lender(budget, {ENDPOINT: EndpointAccounts(ConcurrencyLimit(4096), rates)})


async def recorded_episode(folder: Path) -> list[bytes]:
    """The lines of a JOSH episode of the built-in world, as a worker sends them, without its end."""
    lines: list[bytes] = []

    def keep(event: Event) -> None:
        lines.append(encode(event))

    async with Run(store=folder, taps=(keep,)) as run:
        world = run.world("builtin")
        await run.play(Josh(), run.cast(world), run.tasks(world, "train", "1"))
    kinds = (b"Branch", b"Tree", b"EpisodeStarted", b"ToolsetSeen")
    return [line for line in lines if line[6:].startswith(kinds) and not line.startswith(FINISHED)]


async def measure(given: argparse.Namespace, links: int) -> None:
    """Play with so many links, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        episode = given.alone.read_bytes().splitlines(keepends=True)
        engine = FakeLinks(links, episode, given.lines, WANTS if given.limits else Wants())
        each = -(-len(episode) // given.lines)
        units = [WorkUnit(RUN, 0, _task(number)) for number in _units(given, links, each)]
        before = _memory()
        async with Journal(Path(folder) / "journals" / RUN / "main.jsonl") as journal:
            context = DriverContext(
                spec=PlaySpec(run_id=RUN, cast=cast("CastSpec", None), search=Pickled(b"")),
                search="josh",
                full_reward=1.0,
                recorder=CountingRecorder(journal, UnitLedger()),
                progress=RunProgress(),
                policy=FaultPolicy(),
                past=NoPast(),
                lender=budgeted() if given.limits else None,
                adjusted=lambda _event: None,
            )
            began, cpu = time.perf_counter(), time.process_time()
            await play_with_workers(context, engine, units, links * CONCURRENCY)
            wall, spent = time.perf_counter() - began, time.process_time() - cpu - engine.seconds
            memory = _memory() - before
    told = {
        "links": links,
        "exchanges": engine.exchanges,
        "per_s": engine.exchanges / spent,
        "wall_per_s": engine.exchanges / wall,
        "ms": spent / engine.exchanges * 1e3,
        "kb": engine.bytes / engine.exchanges / 1e3,
        "mb_per_s": engine.bytes / spent / 1e6,
        "memory": memory,
        "units": len(units),
    }
    print(orjson.dumps(told).decode())


def _memory() -> float:
    """Megabytes of memory that this process uses now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _task(number: int) -> Task:
    return Task(id=f"task-{number}", world="builtin", split="train", instructions="")


def _units(given: argparse.Namespace, links: int, each: int) -> range:
    """Units for about so many exchanges, and at least as many as the workers hold at once."""
    return range(max(given.exchanges // each, links * (CONCURRENCY + EXTRA)))


def main() -> None:
    """Measure each number of links, in a process of its own."""
    given = arguments()
    if given.alone:
        anyio.run(measure, given, given.links[0], backend_options={"loop_factory": fast_loop()})
        return
    names = ("links", "exchanges", "CPU ms each", "a CPU s", "kB each", "MB a CPU s", "MB of memory")
    print(
        f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; {'with' if given.limits else 'without'} limits"
    )
    print("".join(f"{name:>14}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        episode = Path(folder) / "episode"
        episode.write_bytes(b"".join(anyio.run(recorded_episode, Path(folder) / "store")))
        for links in given.links:
            command = [sys.executable, __file__, *sys.argv[1:], "--alone", str(episode), "--links", str(links)]
            told = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            row = (
                told["links"],
                told["exchanges"],
                told["ms"],
                told["per_s"],
                told["kb"],
                told["mb_per_s"],
                told["memory"],
            )
            kinds = ("d", "d", ".3f", ",.0f", ".1f", ".1f", ".0f")
            print("".join(f"{format(value, kind):>14}" for value, kind in zip(row, kinds, strict=True)), flush=True)


def arguments() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--links", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--exchanges", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=8, help="lines of each exchange")
    parser.add_argument("--limits", action="store_true", help="with a budget, rates and a fixed concurrency")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
