"""W5: what an endpoint does wrong."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from workload_runs import REPLIES, Load, heading, new_run, on_fast_loop, play, serving, table

from simkit.errors import RunStopped
from simkit.models.config import ModelConfig, RetryPolicy
from simkit.run.run import Run
from simkit.testing.server import LoadServer, serve_process

FAULTS = {
    "rate-limited": 0.025,
    "rate-limited-bare": 0.025,
    "failed": 0.02,
    "dropped": 0.02,
    "half": 0.01,
    "malformed": 0.01,
}
DOWN = 20.0
"""Seconds that the endpoint is away."""

LOAD = Load(conversations=200, turns=6, limit=200)
GONE_AFTER = 1500
"""Calls that are answered before the endpoint goes."""

KEPT = "select count(*) filter (response is not null), coalesce(sum(cost), 0) from model_calls"


@dataclass(frozen=True, slots=True)
class Played:
    """What became of a run: how it ended, what the server was asked, and what the store holds."""

    run: Run
    wall: float
    requests: int
    kept: int
    cost: float
    error: str

    @classmethod
    async def of(cls, run: Run, load: Load, server: LoadServer) -> Played:
        """Play a run to its end or to its stop."""
        start, error = time.perf_counter(), ""
        try:
            await play(run, load, server)
        except RunStopped as stopped:
            error = str(stopped)
        wall = time.perf_counter() - start
        kept, cost = run.store.query(KEPT).rows[0]
        return cls(run, wall, 0, kept, cost, error)

    def row(self, name: str, base: Run) -> tuple[object, ...]:
        """Beside the run without faults."""
        worth = scores(base)
        wrong = sum(worth[episode] != reward for episode, reward in scores(self.run).items())
        progress = self.run.progress
        mean = f"{progress.reward_total / progress.scored:.4f}" if progress.scored else ""
        cells = (self.run.status, len(progress.episodes), progress.faulted, mean, wrong, self.requests or "", self.kept)
        return (name, *cells, f"{self.wall:.1f}")


def scores(run: Run) -> dict[tuple[str, int], float | None]:
    """What each episode was worth."""
    return {(one.task_id, one.trial): one.reward for one in run.progress.episodes}


async def against(load: Load, *flags: str) -> Played:
    """One run against a server with these faults."""
    async with serving("talk", 0.05, *flags) as server:
        with tempfile.TemporaryDirectory() as folder:
            played = await Played.of(new_run(load, Path(folder)), load, server)
            return replace(played, requests=(await server.stats()).requests)


async def leaving(load: Load, back: float | None) -> Played:
    """One run against a server that goes after some calls, and comes back so many seconds later, or never."""
    with tempfile.TemporaryDirectory() as folder:
        run, played = new_run(load, Path(folder)), list[Played]()
        async with anyio.create_task_group() as group:
            server: LoadServer = await group.start(_come_and_go, run, back)
            played.append(await Played.of(run, load, server))
            group.cancel_scope.cancel()
        return played[0]


async def _come_and_go(run: Run, back: float | None, *, task_status: TaskStatus[LoadServer]) -> None:
    async with serving("talk", 0.05) as server:
        task_status.started(server)
        while run.progress.metrics is None or run.progress.metrics.calls < GONE_AFTER:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    if back is not None:
        await anyio.sleep(back)
        arguments = ("--port", str(server.port), "--latency", "0.05", "--reply", f"{REPLIES}:talk")
        async with serve_process(*arguments):
            await anyio.sleep_forever()


def w5(_: int) -> None:
    """Once each: what counts is what comes out."""
    heading(f"W5: {LOAD.conversations} conversations, {LOAD.turns} turns, {LOAD.calls} calls of 50 ms; faults")
    flags = [part for name, share in FAULTS.items() for part in (f"--{name}", str(share))]
    hasty = replace(LOAD, options=ModelConfig(retry=RetryPolicy(down_after=10.0)))
    base = on_fast_loop(lambda: against(LOAD))
    gone = on_fast_loop(lambda: leaving(hasty, None))
    rows = [
        base.row("no faults", base.run),
        on_fast_loop(lambda: against(LOAD, *flags)).row("5% 429, 2% 500, 2% drops, 1% half, 1% bad JSON", base.run),
        on_fast_loop(lambda: leaving(LOAD, DOWN)).row(f"down for {DOWN:g} s", base.run),
        gone.row("down for good (given 10 s)", base.run),
    ]
    names = ("", "status", "episodes", "faulted", "reward", "other rewards", "requests", "answers stored", "wall s")
    table(names, rows)
    print(f"\nwhat stopped the last: {gone.error}")
