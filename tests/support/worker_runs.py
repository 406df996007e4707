"""Runs that are played by any engine, and what is compared of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from simkit.models.config import ModelConfig
from simkit.recipes.best_of_n import BestOfN
from simkit.run.contract import Engine
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store.journal import DiskFile
from support.journal_lines import episodes
from support.killing import contents

HERE = Path(__file__).parent
AGENTS = HERE / "worker_agents.py"
ASKING = f"{HERE.parent / 'resume' / 'asking.py'}:AskingAgent"

SEARCHES: dict[str, Callable[[], Search]] = {
    "josh": partial(Josh, BeamSearch(beam=4)),
    "rollout": Rollout,
    "best_of_n": partial(BestOfN, n=2),
}


@dataclass(frozen=True)
class Played:
    """A finished run."""

    store: Path
    run: Run

    @property
    def episodes(self) -> dict[str, list[str]]:
        return episodes(self.store, self.run.id)

    @property
    def tables(self) -> dict[str, list[str]]:
        return contents(self.store, self.run.id)


async def played(store: Path, search: Search, engine: Engine | None = None, **options: Any) -> Played:
    """Rule-based players on five tasks, twice."""
    async with Run(store=store, seed=5, engine=engine, **options) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent="scripted,error_rate=0.3")
        found = await run.play(search, cast, run.tasks(world, "train", "5"), trials=2)
        assert [(each.trial, each.task_id) for each in found] == sorted((each.trial, each.task_id) for each in found)
        run.summary()
    assert run.status == "done", run.problem
    return Played(store, run)


async def harvest(store: Path, engine: Engine | None, base_url: str, **options: Any) -> Run:
    """A harvest whose agent asks a model."""
    models = ModelConfig(model="openai/load", base_url=base_url)
    async with Run(store=store, engine=engine, models=models, seed=3, **options) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=ASKING)
        await run.play(Josh(BeamSearch(beam=4)), cast, run.tasks(world, "train", "4"))
    return run


class FullDisk(DiskFile):
    """A disk with room for 20 kB."""

    def append(self, data: bytes) -> int:
        if self.size() > 20_000:
            raise OSError(28, "No space left on device")
        return super().append(data)
