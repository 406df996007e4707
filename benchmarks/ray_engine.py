"""Runs on Ray beside runs with processes: CPU per episode, start and memory.

    python benchmarks/ray_engine.py [--tasks 200] [--workers 2] [--pairs 3]

Starts Ray on this machine, and plays JOSH on the built-in world with processes on pipes and with actors of Ray, in
alternating order. It prints the CPU milliseconds per episode of the driver, of the workers (with their start) and of
Ray's daemons, and the median of the paired differences of the driver; then what Ray and its first actor take to start,
and the memory of the daemons and of an actor. The benchmark runs itself in a network namespace, because Ray listens on
every interface; only root has one. The load average is printed, because other work on the machine changes all figures.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import anyio

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for `support`

from simkit.run.contract import Engine, Link, PlaySpec
from simkit.run.processes import Processes
from simkit.run.ray_cluster import Connection
from simkit.run.ray_engine import RayActors, RayLink
from simkit.run.run import Run
from simkit.run.tuning import fast_loop
from simkit.search.josh import Josh
from support.network_namespace import RAY_ALONE, alone, why_not_alone

INSIDE = "SIMKIT_BENCHMARK_ALONE"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

NO_DAEMONS = (b"simkit.run", b"ray::RayWorker", b"ray::IDLE", b"default_worker")
"""Parts of the command lines of workers."""


@dataclass(frozen=True)
class Cost:
    """Cost of one play: wall seconds, and CPU seconds of the driver, of its workers and of Ray's daemons."""

    wall: float
    driver: float
    workers: float
    daemons: float

    def shown(self, units: int) -> str:
        each = [f"{seconds * 1000 / units:.1f}" for seconds in (self.driver, self.workers, self.daemons)]
        return f"{self.wall:.1f} s; CPU ms per episode: driver {each[0]}, workers {each[1]}, daemons {each[2]}"


class Watched(RayActors):
    """Ray's actors, of which it notes what they have used at their end.

    Attributes:
        cpu: CPU seconds of all actors.
        memory: bytes of the largest actor.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers=workers)
        self.cpu = 0.0
        self.memory = 0

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        async with super().link(spec) as link:
            assert isinstance(link, RayLink)
            yield link
            self.cpu += cpu_of([link.process])
            self.memory = max(self.memory, memory_of([link.process]))


def cpu_of(processes: Iterable[int]) -> float:
    """CPU seconds of processes."""
    times = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[11:13] for each in processes]
    return sum(int(user) + int(system) for user, system in times) / TICKS


def memory_of(processes: Iterable[int]) -> int:
    """Resident bytes of processes."""
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE for each in processes)


def daemons(parent: int | None = None) -> list[int]:
    """The processes below this one that are no workers: Ray's daemons."""
    found: list[int] = []
    for task in Path(f"/proc/{parent or os.getpid()}/task").iterdir():
        for child in map(int, re.findall(r"\d+", (task / "children").read_text())):
            name = Path(f"/proc/{child}/cmdline").read_bytes()
            if (
                b"simkit.run" not in name
                and not name.startswith((b"ray::RayWorker", b"ray::IDLE"))
                and b"default_worker" not in name
            ):
                found += [child, *daemons(child)]
    return found


async def play(engine: Engine, tasks: int) -> Cost:
    """Play tasks of the built-in world, with a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        async with Run(store=Path(folder), engine=engine) as run:
            world = run.world("builtin")
            players, chosen = run.cast(world), run.tasks(world, "train", str(tasks))
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            own, theirs, began = process_time(), cpu_of(daemons()), perf_counter()
            await run.play(Josh(), players, chosen)
            wall, driver, watched = perf_counter() - began, process_time() - own, cpu_of(daemons()) - theirs
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = ended.ru_utime + ended.ru_stime - children.ru_utime - children.ru_stime
    return Cost(wall, driver, engine.cpu if isinstance(engine, Watched) else workers, watched)


async def measure(tasks: int, workers: int, pairs: int) -> None:
    """Print the costs of all plays, and of the start."""
    began, own = perf_counter(), process_time()
    connection = Connection(None, workers)
    async with connection.held():
        used = cpu_of(daemons()) + process_time() - own
        print(f"Ray: {perf_counter() - began:.1f} s and {used:.1f} CPU s to start")
        first = perf_counter()
        await play(Watched(1), 1)
        print(f"a run of one task with one actor: {perf_counter() - first:.1f} s")
        more: list[float] = []
        memory = 0
        for pair in range(pairs):
            found: dict[str, Cost] = {}
            engines: list[tuple[str, Engine]] = [("pipes", Processes(workers)), ("ray", on_ray := Watched(workers))]
            for name, engine in engines if pair % 2 == 0 else engines[::-1]:
                found[name] = await play(engine, tasks)
                print(f"{name}: {found[name].shown(tasks)}; load {os.getloadavg()[0]:.1f}", flush=True)
            more.append((found["ray"].driver - found["pipes"].driver) * 1000 / tasks)
            memory = max(memory, on_ray.memory)
        print(f"the driver's CPU per episode on Ray beyond pipes: {statistics.median(more):.2f} ms (median of {pairs})")
        print(f"memory: daemons {memory_of(daemons()) >> 20} MB, an actor {memory >> 20} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    if INSIDE in os.environ:
        measured = lambda: measure(chosen.tasks, chosen.workers, chosen.pairs)  # noqa: E731
        anyio.run(measured, backend_options={"loop_factory": fast_loop()})
        return 0
    if reason := why_not_alone():
        print(reason, file=sys.stderr)
        return 1
    folder = tempfile.mkdtemp(prefix="ray")  # paths of Ray's sockets must be short
    try:
        environment = {**os.environ, **RAY_ALONE, INSIDE: "1", "RAY_TMPDIR": folder}
        return subprocess.run(alone([sys.executable, *sys.argv]), env=environment, check=False).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
