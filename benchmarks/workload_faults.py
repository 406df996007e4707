"""W5 and W7: what an endpoint does wrong, and what a run may cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from benchmarks.workload_runs import REPLIES, Load, heading, on_fast_loop, play, serving, table
from simkit.engine import Tally
from simkit.errors import RunStopped
from simkit.models.build import ModelOptions
from simkit.models.choices import ModelChoices
from simkit.models.retry import RetryPolicy
from simkit.run import Run
from simkit.store import Store
from simkit.testing.server import LoadServer, serve_process

FAULTS = {"rate-limited": 0.025, "rate-limited-bare": 0.025, "failed": 0.02, "dropped": 0.02, "half": 0.01, "malformed": 0.01}
DOWN = 20.0
"""Seconds that the endpoint is away."""

PRICES = '{"models": {"load": {"input": 0.15, "output": 0.6}}}'
LOAD = Load(conversations=200, turns=6, limit=200)
KEPT = """
    select any_value(status), any_value(error), (select count(*) from model_calls where response is not null),
           (select coalesce(sum(cost), 0) from model_calls) from runs
"""


@dataclass(frozen=True, slots=True)
class Played:
    """One line of the table."""

    name: str
    run: Run
    wall: float
    requests: int
    kept: int
    error: str

    def row(self, base: Run) -> tuple[object, ...]:
        """Beside the fault-free run."""
        wrong = sum(one != two for one, two in zip(scores(base), scores(self.run), strict=False))
        done = len(self.run.tally.episodes)
        return (self.name, self.run.status, done, self.run.tally.faulted, wrong, self.requests, self.kept, f"{self.wall:.1f}")


def scores(run: Run) -> list[tuple[str, int, float | None]]:
    """What each episode was worth."""
    return sorted((one.task_id, one.trial, one.reward) for one in run.tally.episodes)


async def against(name: str, load: Load, flags: Sequence[str]) -> Played:
    """One run against a server that does this wrong."""
    async with serving("talk", 0.05, *flags) as server:
        with tempfile.TemporaryDirectory() as folder:
            run, measured = await play(load, server, Path(folder))
            kept = Store(Path(folder)).query(KEPT).rows[0]
            return Played(name, run, measured.wall, (await server.stats()).requests, kept[2], kept[1] or "")


@asynccontextmanager
async def _leaving(at: int, back: float | None, tally: Callable[[], Tally | None]) -> AsyncGenerator[LoadServer]:
    """A server that goes after so many calls, and comes back so many seconds later, or never."""
    first = anyio.Event()
    async with anyio.create_task_group() as group:
        places: list[LoadServer] = []

        async def live() -> None:
            async with serving("talk", 0.05) as server:
                places.append(server)
                first.set()
                while (seen := tally()) is None or seen.meter is None or seen.meter.calls < at:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            if back is None:
                return
            await anyio.sleep(back)
            same = ("--port", str(places[0].port), "--latency", "0.05", "--reply", f"{REPLIES}:talk")
            async with serve_process(*same):
                await anyio.sleep_forever()

        group.start_soon(live)
        await first.wait()
        yield places[0]
        group.cancel_scope.cancel()


async def leaving(name: str, load: Load, back: float | None) -> Played:
    """One run against a server that goes away."""
    seen: list[Tally] = []

    async def look(tally: Tally) -> None:
        seen.append(tally)
        await anyio.sleep_forever()

    with tempfile.TemporaryDirectory() as folder:
        start, store = time.perf_counter(), Path(folder)
        async with _leaving(1500, back, lambda: seen[0] if seen else None) as server:
            run, error = await played_to_a_stop(load, server, store, look)
        kept = Store(store).query(KEPT).rows[0]
        return Played(name, run, time.perf_counter() - start, 0, kept[2], error)


async def played_to_a_stop(
    load: Load, server: LoadServer, store: Path, look: Callable[[Tally], object], resume: str | None = None
) -> tuple[Run, str]:
    """A run that may be stopped, and the error that stopped it."""
    raise NotImplementedError


def w5(_: int) -> None:
    raise NotImplementedError


def w7(_: int) -> None:
    raise NotImplementedError
