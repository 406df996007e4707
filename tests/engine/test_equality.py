"""Runs with workers equal runs without, line for line within each episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simkit.components.world import World
from simkit.core.events import Event
from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.run.contract import Engine
from simkit.run.processes import Processes
from simkit.run.run import Run
from simkit.search.josh import Josh
from simkit.search.rollout import Rollout
from support.journal_lines import episodes
from support.memory_engine import InMemory
from support.worker_runs import ASKING, SEARCHES, played

pytestmark = pytest.mark.anyio

SCRIPT = "scripted/One.|Two.|Three.|Four."


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("search", SEARCHES)
async def test_each_episode_and_each_table_equals_that_of_one_process(
    tmp_path: Path, search: str, workers: int
) -> None:
    alone = await played(tmp_path / "alone", SEARCHES[search]())
    shared = await played(tmp_path / "shared", SEARCHES[search](), InMemory(workers))
    assert shared.episodes == alone.episodes
    assert shared.tables == alone.tables
    assert shared.run.progress.turns == alone.run.progress.turns
    assert shared.run.progress.hits == alone.run.progress.hits
    assert shared.run.progress.branches == shared.run.progress.running == 0


async def test_processes_on_pipes_play_the_same(tmp_path: Path) -> None:
    alone = await played(tmp_path / "alone", Josh())
    shared = await played(tmp_path / "shared", Josh(), Processes(2))
    assert shared.episodes == alone.episodes
    assert shared.tables == alone.tables


async def test_taps_receive_every_event(tmp_path: Path) -> None:
    seen: list[Event] = []
    heard: list[Event] = []
    await played(tmp_path / "alone", Rollout(), taps=[seen.append])
    await played(tmp_path / "shared", Rollout(), InMemory(2), taps=[heard.append])
    assert sorted(type(each).__name__ for each in heard) == sorted(type(each).__name__ for each in seen)


async def asked(store: Path, engine: Engine | None, **options: Any) -> Run:
    async with Run(store=store, engine=engine, models=ModelConfig(model=SCRIPT), **options) as run:
        world: World = run.world("builtin")
        cast = run.cast(world, agent=ASKING)
        await run.play(Rollout(Limits(turns=6)), cast, run.tasks(world, "train", "4"))
    return run


async def test_a_replay_may_have_another_number_of_workers(tmp_path: Path) -> None:
    first = await asked(tmp_path, InMemory(2), seed=3)
    second = await asked(tmp_path, InMemory(3), replay=first.id)
    third = await asked(tmp_path, None, replay=first.id)
    assert [each.status for each in (first, second, third)] == ["done"] * 3
    calls = first.progress.metrics
    assert calls is not None
    for run in (second, third):
        assert run.progress.metrics is not None
        assert run.progress.metrics.replayed == calls.calls > 0
        assert run.progress.metrics.calls == 0
    assert episodes(tmp_path, second.id) == episodes(tmp_path, third.id)


async def test_a_replay_that_lacks_a_call_stops_with_the_reason(tmp_path: Path) -> None:
    first = await asked(tmp_path, InMemory(2), seed=3)
    async with Run(store=tmp_path, replay=first.id, engine=InMemory(2), models=ModelConfig(model=SCRIPT)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=ASKING)
        with pytest.raises(Exception, match="replay with the configuration it had"):
            await run.play(Rollout(Limits(turns=6)), cast, run.tasks(world, "train", "5"))
    assert run.status == "stopped"
