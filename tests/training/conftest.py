from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from small_model import learn_by_heart, write_small_model

import simkit
from simkit.supervisors.rollout import Rollout
from simkit.training.dev import Place
from simkit.training.examples import ExampleSet
from simkit.training.selection import Selection, select


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Bench:
    """A model that plays one goal by heart, the goal, and the conversation it knows."""

    model: Path
    place: Place
    known: ExampleSet


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two seconds of training on one conversation: enough to have something to lose."""
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'josh-simkit[train]'")
    folder = tmp_path_factory.mktemp("bench")
    known = anyio.run(_one_conversation, folder / "store")
    model = write_small_model(folder / "model", known, width=48)
    learn_by_heart(model, known)
    return Bench(model, Place(split="train", tasks="1", max_turns=8, max_tokens=96), known)


async def _one_conversation(store: Path) -> ExampleSet:
    async with simkit.Run(store=store, seed=0) as run:
        world = run.world("builtin")
        await run.play(Rollout(), run.cast(world, agent="scripted,error_rate=0"), run.tasks(world, "train", "1"))
        await run.query("select 1")
        return select(run.store, "sft", Selection(runs=(run.id,), source="episodes", where="reward >= 1"))
