"""Runs of the whole product against the load server, and what they take: the common part of the workloads."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import SecretStr

from simkit.cli.progress import progress_for
from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.run.engine import ProgressDisplay
from simkit.run.observers import Tap
from simkit.run.run import Run
from simkit.run.tuning import fast_loop
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.testing.server import LoadServer, serve_process

T = TypeVar("T")

REPLIES = Path(__file__).parent / "workload_replies.py"
KEY = SecretStr("benchmark")


class Screen(io.StringIO):
    """A terminal that shows nothing: the live display draws all it would draw for a person."""

    def isatty(self) -> bool:
        """It says so."""
        return True

    def write(self, text: str, /) -> int:
        """Nothing is kept."""
        return len(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is played.

    Attributes:
        conversations: all open at once.
        turns: agent turns of each; a turn is a tool call, an answer, and the user's next wish.
        beam: leaves of a JOSH tree; None for rollouts.
        limit: calls under way at once.
        trials: how often each task is played; the conversations are so many altogether.
        options: further choices of how the model is reached.
    """

    conversations: int
    turns: int
    beam: int | None = None
    limit: int | Literal["adaptive"] = 1024
    trials: int = 1
    options: ModelConfig = field(default_factory=ModelConfig)
    choices: ModelConfig = field(default_factory=ModelConfig)

    @property
    def calls(self) -> int:
        """Model calls of all rollouts: the opening, and three a turn."""
        return self.conversations * self.path

    @property
    def path(self) -> int:
        """Calls that have to follow each other."""
        return 1 + 3 * self.turns

    @property
    def search(self) -> Search:
        """Who plays a task."""
        limits = Limits(turns=self.turns)
        return Rollout(limits) if self.beam is None else Josh(BeamSearch(beam=self.beam), limits)

    def at(self, server: LoadServer) -> ModelConfig:
        """How the model is reached."""
        own = ModelConfig(base_url=server.base_url, api_key=KEY, api_concurrency=self.limit, temperature=1.0)
        return own.over(self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run took: seconds and CPU seconds of playing, and of all, the last loading of the store included.

    Attributes:
        calls: model calls that were answered.
        busy: load average when it ended.
    """

    wall: float
    cpu: float
    whole: float
    whole_cpu: float
    calls: int
    busy: float

    @property
    def per_call(self) -> float:
        """CPU milliseconds a call while playing."""
        return self.cpu / self.calls * 1000

    @property
    def whole_per_call(self) -> float:
        """CPU milliseconds a call altogether."""
        return self.whole_cpu / self.calls * 1000


def new_run(
    load: Load,
    store: Path,
    *,
    progress: ProgressDisplay | None = None,
    taps: Sequence[Tap] = (),
    resume: str | None = None,
) -> Run:
    """A run with everything on: store, journal, loader and live display."""
    return Run(
        store=store,
        seed=1,
        concurrency=load.conversations,
        models=load.choices,
        resume=resume,
        progress=progress or progress_for(Screen()),
        taps=taps,
    )


async def play(run: Run, load: Load, server: LoadServer) -> Measured:
    """Play a load.

    Raises:
        RunStopped: the endpoint is down for good, or a budget is used up.
    """
    gc.collect()
    began = time.perf_counter(), time.process_time()
    async with run:
        world = run.world("builtin")
        cast = run.cast(world, agent="function_calling", user="goal", model="openai/load", options=load.at(server))
        tasks = run.tasks(world, "train", load.conversations // load.trials)
        start = time.perf_counter(), time.process_time()
        await run.play(load.search, cast, tasks, trials=load.trials)
        stop = time.perf_counter(), time.process_time()
    assert run.progress.metrics is not None
    return Measured(
        wall=stop[0] - start[0],
        cpu=stop[1] - start[1],
        whole=time.perf_counter() - began[0],
        whole_cpu=time.process_time() - began[1],
        calls=run.progress.metrics.calls,
        busy=os.getloadavg()[0],
    )


def serving(reply: str = "talk", latency: float = 0.05, *more: str) -> AbstractAsyncContextManager[LoadServer]:
    """A load server in a process of its own."""
    return serve_process("--port", "0", "--latency", str(latency), "--reply", f"{REPLIES}:{reply}", *more)


async def measure(load: Load, reply: str = "talk", latency: float = 0.05) -> Measured:
    """Play a load with a server and a store of its own."""
    async with serving(reply, latency) as server:
        with tempfile.TemporaryDirectory() as folder:
            return await play(new_run(load, Path(folder)), load, server)


def on_fast_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run this in an event loop of its own, uvloop's where it is installed."""
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(work())


def middle(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def heading(title: str) -> None:
    """Print what follows, and where."""
    loop = "uvloop" if fast_loop() else "asyncio's own loop"
    print(f"\n{title}\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {loop}\n", flush=True)


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; the first column is text."""
    lines = [tuple(map(str, names)), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for line in lines:
        first, *others = (cell.ljust(widths[0]) if not at else cell.rjust(widths[at]) for at, cell in enumerate(line))
        print("  ".join((first, *others)), flush=True)
