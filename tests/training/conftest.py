from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from small_model import learn_by_heart, write_small_model

import simkit
from simkit.data.examples import ExampleSet
from simkit.data.selection import Selection, select
from simkit.search.rollout import Rollout
from simkit.training.dev import ConversationSetup

WORLD = "builtin,most_goals=2"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Bench:
    """A model that plays one goal by heart, the goal, and the conversation it knows."""

    model: Path
    place: ConversationSetup
    known: ExampleSet


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two seconds of training on one conversation: enough to have something to lose."""
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[train]'")
    folder = tmp_path_factory.mktemp("bench")
    place, known = anyio.run(_shortest, folder / "store")
    model = write_small_model(folder / "model", known, width=64)
    assert learn_by_heart(model, known) < 0.02
    return Bench(model, place, known)


async def _shortest(store: Path) -> tuple[ConversationSetup, ExampleSet]:
    """Of the first goals the one with the shortest conversation, and that conversation."""
    async with simkit.Run(store=store, seed=0) as run:
        world = run.world(WORLD)
        await run.play(Rollout(), run.cast(world, agent="scripted,error_rate=0"), run.tasks(world, "train", "12"))
        await run.query("select 1")
        found = select(run.store, "sft", Selection(runs=(run.id,), source="episodes", where="reward >= 1"))
        names = [task.id for task in run.tasks(world, "train", "12")]
    shortest = min(found.demonstrations, key=lambda each: sum(len(message.to_json()) for message in each.messages))
    number = names.index(shortest.task_id)
    place = ConversationSetup(world=WORLD, split="train", tasks=f"{number}-{number + 1}", max_turns=8, reply_tokens=96)
    return place, ExampleSet("sft", (shortest,))
