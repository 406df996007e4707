"""Shards of small runs on the built-in world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simkit.core.events import Episode, Event
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.rollout import Rollout
from simkit.store import Store

TASKS = 7


async def play(
    store: Path,
    shard: str | None = None,
    *,
    search: Search | None = None,
    tasks: str = f"{TASKS}",
    trials: int = 2,
    seed: int = 3,
    **options: Any,
) -> Run:
    """Play a run, or a shard of it."""
    async with Run(store=store, recipe="rollout", shard=shard, seed=seed, **options) as run:
        world = run.world()
        cast = run.cast(world, agent="scripted,error_rate=0.3")
        await run.play(search or Rollout(), cast, run.tasks(world, "test", tasks), trials=trials)
    return run


async def play_until(store: Path, shard: str, episodes: int) -> Run:
    """Play a shard that is stopped after so many episodes."""
    ended: list[Event] = []

    def watch(event: Event) -> None:
        ended.extend([event] if isinstance(event, Episode) else [])
        if len(ended) == episodes:
            run.stop()

    run = Run(store=store, recipe="rollout", shard=shard, seed=3, concurrency=1, taps=(watch,))
    async with run:
        world = run.world()
        cast = run.cast(world, agent="scripted,error_rate=0.3")
        await run.play(Rollout(), cast, run.tasks(world, "test", f"{TASKS}"), trials=2)
    return run


async def play_shards(folder: Path, shards: Sequence[int], count: int, **options: Any) -> list[Path]:
    """Play some shards, each in a store of its own; returns the stores."""
    stores = [folder / f"shard{number}" for number in shards]
    for number, store in zip(shards, stores, strict=True):
        await play(store, f"{number}/{count}", **options)
    return stores


def scores(store: Path, run: str = "last") -> list[tuple[Any, ...]]:
    """Tasks, trials, rewards and counts of the episodes of a run."""
    opened = Store(store)
    query = "select task_id, trial, reward, outcome, turns, branches from episode_scores where run_id = ? order by all"
    return opened.query(query, [opened.resolve(run).run_id]).rows


def journal(store: Path) -> Path:
    """The only journal of a store."""
    (found,) = (store / "journals").glob("*/main.jsonl")
    return found
