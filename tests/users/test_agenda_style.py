"""The agenda user in the manner of people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from simkit.core.limits import Limits
from simkit.errors import UsageError
from simkit.recipes.fidelity.dialogues import Dialogue
from simkit.recipes.fidelity.measures import measured
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.testing.conformance import check_user
from simkit.tools.builtin import BuiltinWorld
from simkit.users.agenda import AgendaUser


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def played(store: Path, user: str, tasks: int = 60) -> tuple[Sequence[Dialogue], float]:
    """The user's turns, and the average reward of an agent without errors."""
    async with Run(store=store) as run:
        world = run.world("builtin")
        cast = run.cast(world, user=user, agent="scripted,error_rate=0")
        await run.play(Rollout(Limits(turns=20)), cast, run.tasks(world, "test", tasks))
        rows = (await run.query("select episode_id, content from messages where author = 'user' order by all")).rows
        ((reward,),) = (await run.query("select avg(reward) from episodes")).rows
    said: dict[str, list[str]] = {}
    for episode, text in rows:
        said.setdefault(episode, []).append(text)
    return [Dialogue(name, tuple(turns)) for name, turns in said.items()], reward


@pytest.mark.anyio
async def test_it_varies_more_and_is_understood_as_well(tmp_path: Path) -> None:
    plain, usual = await played(tmp_path / "plain", "agenda")
    people, reward = await played(tmp_path / "people", "agenda,style=people")
    ontology = BuiltinWorld().ontology
    novelty = [sum(measured(side, ontology).values["novelty"].values()) / len(side) for side in (plain, people)]
    assert novelty[1] > 1.5 * novelty[0]
    assert reward > usual - 0.05
    first = [each.turns[0] for each in people]
    assert any(text[0].islower() for each in people for text in each.turns)
    assert any(not text.endswith((".", "?", "!")) for text in first)


@pytest.mark.anyio
async def test_it_keeps_the_promises_of_a_user() -> None:
    world = BuiltinWorld()
    await check_user(AgendaUser(world, style="people"), world.tasks("test")[:5])


def test_another_style_is_refused() -> None:
    with pytest.raises(UsageError, match="style is `poet`; choose one of: plain, people"):
        AgendaUser(BuiltinWorld(), style="poet")  # pyright: ignore[reportArgumentType]
