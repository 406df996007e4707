"""Whole runs against an endpoint that errs, goes away for a while, or goes for good: nothing is lost or wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskStatus

from simkit.core.limits import Limits
from simkit.errors import EndpointDown
from simkit.models.config import ModelConfig, RetryPolicy
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.testing.behaviour import Behaviour, Faults
from simkit.testing.server import LoadServer, serve
from simkit.tools.builtin import BuiltinWorld
from support.dialogue import Dialogue

pytestmark = pytest.mark.anyio

CONVERSATIONS, TURNS = 20, 4
CALLS = CONVERSATIONS * (1 + 3 * TURNS)
HASTY = RetryPolicy(first=0.01, longest=0.05, down_after=30.0, down_at_start=30.0)
TALK = Behaviour(reply=Dialogue(BuiltinWorld().tasks("train")[:CONVERSATIONS], accuracy=0.5), retry_after=0.01)
BAD = Faults(rate_limited=0.05, rate_limited_bare=0.05, failed=0.05, dropped=0.05, half=0.03, malformed=0.03)


@dataclass(frozen=True)
class Scores:
    """What each task was worth, and how its episode ended."""

    rewards: dict[str, float | None]
    outcomes: dict[str, str]

    @classmethod
    def of(cls, run: Run) -> Scores:
        episodes = run.progress.episodes
        return cls({one.task_id: one.reward for one in episodes}, {one.task_id: one.outcome for one in episodes})


async def play(run: Run, server: LoadServer, retry: RetryPolicy = HASTY) -> Scores:
    async with run:
        world = run.world("builtin")
        options = ModelConfig(base_url=server.base_url, retry=retry)
        cast = run.cast(world, agent="function_calling", user="goal", model="openai/load", options=options)
        await run.play(Rollout(Limits(turns=TURNS)), cast, run.tasks(world, "train", CONVERSATIONS))
    return Scores.of(run)


def a_run(store: Path) -> Run:
    return Run(store=store, seed=1, concurrency=CONVERSATIONS)


async def without_faults(store: Path) -> Scores:
    async with serve(TALK) as server:
        return await play(a_run(store), server)


def answers_stored(run: Run) -> int:
    return run.store.query("select count(*) from model_calls where response is not null").rows[0][0]


async def test_faults_change_no_reward_and_the_calls_are_bounded(tmp_path: Path) -> None:
    calm = await without_faults(tmp_path / "calm")
    assert len(calm.rewards) == CONVERSATIONS
    assert len(set(calm.rewards.values())) > 1
    async with serve(replace(TALK, faults=BAD)) as server:
        run = a_run(tmp_path / "bad")
        assert await play(run, server) == calm
        stats = await server.stats()
    assert set(stats.faults) == {"rate_limited", "rate_limited_bare", "failed", "dropped", "half", "malformed"}
    assert stats.requests == CALLS + sum(stats.faults.values())
    assert answers_stored(run) == CALLS
    assert run.progress.faulted == 0


async def _server_that_leaves(run: Run, after: int, back: float | None, *, task_status: TaskStatus[LoadServer]) -> None:
    async with serve(replace(TALK, latency=0.002)) as server:
        task_status.started(server)
        while run.progress.metrics is None or run.progress.metrics.calls < after:  # noqa: ASYNC110 - the run counts, and tells nobody
            await anyio.sleep(0.002)
    if back is not None:
        await anyio.sleep(back)
        async with serve(TALK, port=server.port):
            await anyio.sleep_forever()


async def test_an_endpoint_that_is_away_delays_and_loses_nothing(tmp_path: Path) -> None:
    calm = await without_faults(tmp_path / "calm")
    run = a_run(tmp_path / "away")
    async with anyio.create_task_group() as group:
        server: LoadServer = await group.start(_server_that_leaves, run, CALLS // 3, 0.3)
        assert await play(run, server) == calm
        group.cancel_scope.cancel()
    assert run.status == "done"
    assert answers_stored(run) == CALLS
    assert run.progress.metrics is not None
    assert run.progress.metrics.failed > 0


async def test_an_endpoint_that_is_gone_stops_the_run_with_one_error_and_all_is_stored(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    async with anyio.create_task_group() as group:
        server: LoadServer = await group.start(_server_that_leaves, run, CALLS // 3, None)
        with pytest.raises(EndpointDown, match="has not answered any call"):
            await play(run, server, replace(HASTY, down_after=0.2))
        group.cancel_scope.cancel()
    assert run.status == "stopped"
    assert answers_stored(run) >= CALLS // 3
    status, error = run.store.query("select status, error from runs").rows[0]
    assert (status, "everything so far is stored" in error) == ("stopped", True)
    async with serve(TALK) as server:
        again = Run(store=tmp_path, resume=run.id)
        resumed = await play(again, server)
        stats = await server.stats()
    assert resumed == await without_faults(tmp_path / "calm")
    assert stats.repeated == 0
    assert stats.answered < CALLS
