"""Training data of a search that keeps several conversations of one episode."""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit import CastChoice, Run, Store, TaskChoice
from simkit.data.selection import Selection, select
from simkit.recipes.best_of_n import best_of_n

pytestmark = pytest.mark.anyio

KEPT = """
    select count(*) from harvests join episodes using (episode_id) where run_id = ? and reward = 1
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_every_kept_conversation_is_an_example_and_views_and_selections_agree(tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with Run(store=store, recipe="best_of_n", seed=3) as run:
        tasks, cast = TaskChoice(tasks="4", max_turns=8), CastChoice(agent="scripted,error_rate=0.4")
        summary = await best_of_n(run, tasks=tasks, cast=cast, n=4)
    kept = store.query(KEPT, [run.id]).rows[0][0]
    assert kept > store.query("select count(*) from episodes where reward = 1").rows[0][0]
    found = {kind: select(store, kind, Selection(runs=(run.id,))) for kind in ("sft", "kto", "dpo")}
    assert len(found["sft"]) == summary.extra["sft_examples"]
    assert kept == summary.extra["sft_examples"] + summary.extra["sft_duplicates"] + erroneous(store)
    assert len(found["kto"]) == summary.extra["kto_desirable"] + summary.extra["kto_undesirable"]
    assert len(found["dpo"]) == summary.extra["dpo_pairs"]
    assert store.query("select distinct supervisor from episodes").rows == [("best_of_n",)]


def erroneous(store: Store) -> int:
    """Kept conversations of full reward that the views leave out, because an error of the agent's is in them."""
    query = """
        select count(*) from golden_ends join episodes using (episode_id)
        where reward = 1 and end_branch not in (select end_branch from golden_messages)
    """
    return store.query(query).rows[0][0]
