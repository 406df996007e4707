"""Models of an endpoint in whole runs: the load server, an agent that asks it, the real store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from players_models import Timeline
from pydantic import SecretStr

from simkit import Run
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.core.events import Episode, ModelCall
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder
from simkit.errors import BudgetExhausted, EndpointDown
from simkit.models.config import ModelConfig, RetryPolicy
from simkit.models.factory import Endpoints, ModelContext, open_model
from simkit.models.middleware.budget import Allowance, Allowances, Budget
from simkit.models.middleware.replay import Recording
from simkit.search.rollout import Rollout
from simkit.testing.behaviour import Behaviour, Faults
from simkit.testing.server import serve

pytestmark = pytest.mark.anyio

SHORT = Rollout(Limits(turns=3))
FAULTS = Faults(rate_limited=0.05, rate_limited_bare=0.05, failed=0.04, dropped=0.04, half=0.02, malformed=0.02)


def said(body: Mapping[str, Any]) -> str:
    """An answer that follows from the request and is longer or shorter with it."""
    return f"I have heard {len(body['messages'])} messages. " * (1 + len(str(body)) % 3)


@dataclass(frozen=True)
class Played:
    """What came of a run: its episodes, what was said, and the model calls."""

    episodes: tuple[Episode, ...]
    messages: list[tuple[Any, ...]]
    calls: tuple[ModelCall, ...]


async def play(
    store: Path, base_url: str, *, budget: Budget | None = None, recording: Recording | None = None
) -> Played:
    """Four tasks with an agent that asks the endpoint."""
    recorder = MemoryRecorder()
    options = ModelConfig(base_url=base_url, api_key=SecretStr("k"), max_tokens=50, retry=RetryPolicy(down_after=60))
    async with (
        Endpoints(clock=Timeline().clock) as endpoints,
        open_model(
            "openai/m",
            options,
            ModelContext(recorder=recorder, run_id="run", budget=budget, recording=recording),
            endpoints=endpoints,
        ) as model,
        Run(store=store, seed=3) as run,
    ):
        world = run.world("builtin")
        cast = run.cast(world, agent=FunctionCallingAgent(model))
        episodes = await run.play(SHORT, cast, run.tasks(world, "test", 4))
        found = await run.query("FROM messages SELECT seq, author, content, heard ORDER BY ALL")
        return Played(episodes, found.rows, tuple(each for each in recorder.events if isinstance(each, ModelCall)))


def seen(played: Played) -> list[tuple[Any, ...]]:
    return [(each.task_id, each.reward, each.outcome, each.turns) for each in played.episodes]


async def test_a_bad_endpoint_changes_nothing_but_the_time(tmp_path: Path) -> None:
    async with serve(Behaviour(reply=said)) as server:
        calm = await play(tmp_path / "calm", server.base_url)
    async with serve(Behaviour(reply=said, faults=FAULTS, retry_after=0.0)) as server:
        rough = await play(tmp_path / "rough", server.base_url)
        stats = await server.stats()
    assert sum(stats.faults.values()) > 0
    assert (seen(rough), rough.messages) == (seen(calm), calm.messages)
    assert len(calm.calls) == 12
    assert len(rough.calls) == stats.requests == 12 + sum(stats.faults.values())


async def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    async with serve(Behaviour(reply=said)) as server:
        first = await play(tmp_path / "first", server.base_url)
        half = Recording.of("run", first.calls[::2])
        second = await play(tmp_path / "second", server.base_url, recording=half)
        stats = await server.stats()
    assert (seen(second), second.messages) == (seen(first), first.messages)
    assert stats.requests == 12 + 6


async def test_an_endpoint_that_goes_away_stops_the_run_with_one_error(tmp_path: Path) -> None:
    async with serve() as server:
        gone = server.base_url
    with pytest.raises(EndpointDown, match="the run stops here; everything so far is stored"):
        await play(tmp_path, gone)


async def test_a_run_stops_when_its_budget_is_used_up(tmp_path: Path) -> None:
    budget = Budget(Allowances(run=Allowance(tokens=10_000)))
    async with serve(Behaviour(reply=said)) as server:
        with pytest.raises(BudgetExhausted, match="10000 tokens"):
            await play(tmp_path, server.base_url, budget=budget)
        stats = await server.stats()
    assert 0 < stats.prompt_tokens + stats.completion_tokens <= 10_000


async def test_an_episode_s_limit_ends_it_with_that_outcome_and_is_scored(tmp_path: Path) -> None:
    budget = Budget(Allowances(episode=Allowance(tokens=500)))
    async with serve(Behaviour(reply=said)) as server:
        played = await play(tmp_path, server.base_url, budget=budget)
    assert {episode.outcome for episode in played.episodes} == {"token_limit"}
    assert [episode.faults for episode in played.episodes] == [0] * 4
    assert [episode.reward for episode in played.episodes] == [0.0] * 4
    assert played.calls == ()
