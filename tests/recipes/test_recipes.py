from __future__ import annotations

from pathlib import Path

import pytest

from simkit.errors import UsageError
from simkit.recipes.josh import josh
from simkit.recipes.rollout import rollout
from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.store import Store

pytestmark = pytest.mark.anyio

ARITHMETIC = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""Of what a recipe reports: nothing in it waits, so that one event loop is as good as the other."""

TREES = """
    select e.task_id, e.trial, e.reward, e.outcome as ended, e.achieved, b.path, b.turn, b.outcome, b.golden,
           b.successful, b.winner, list(m.message::varchar order by m.seq) as said
    from branches b join episodes e using (episode_id) left join messages m using (branch_id)
    where e.run_id = ? group by all order by e.task_id, e.trial, b.turn, b.path
"""
EXAMPLES = "select prompt, completion, label from kto_examples where run_id = ?"


async def harvest(store: Store, seed: int = 0, concurrency: int = 4) -> tuple[Run, Summary]:
    async with Run(store=store, recipe="josh", seed=seed, concurrency=concurrency) as run:
        summary = await josh(run, tasks=TaskChoice(tasks="3"), beam=4)
    return run, summary


@ARITHMETIC
async def test_josh_reports_rewards_branches_and_harvest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run, summary = await harvest(store)
    assert summary.episodes == summary.scored == 3
    assert summary.branches > summary.turns
    counts = store.query("from harvest_counts").dicts()[0]
    assert {**counts, **summary.extra} == {**counts, **summary.extra, "run_id": run.id, "name": ""}
    assert summary.extra["sft_examples"] == counts["sft_examples"]
    golden = store.query("select count(*) from branches where golden").rows[0][0]
    assert summary.extra["golden_branches"] == golden > 0
    assert summary.extra["failed_branches"] > 0


async def test_one_seed_gives_one_harvest_whatever_the_concurrency(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, alone = await harvest(store, seed=7, concurrency=1)
    two, together = await harvest(store, seed=7, concurrency=8)
    other, different = await harvest(store, seed=8)
    assert alone == together
    assert store.query(TREES, [one.id]).rows == store.query(TREES, [two.id]).rows
    assert store.query(EXAMPLES, [one.id]).rows == store.query(EXAMPLES, [two.id]).rows
    assert store.query(TREES, [one.id]).rows != store.query(TREES, [other.id]).rows
    assert different != alone


@ARITHMETIC
async def test_rollout_reports_scores_and_pass_hat_k(tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with Run(store=store, recipe="rollout") as run:
        summary = await rollout(run, tasks=TaskChoice(split="test", tasks="4", trials=2))
    assert summary.episodes == 8
    assert summary.reward is not None
    in_store = store.query("select average_reward, success_rate, pass_hat_k, turns, faults from run_summary").dicts()[0]
    assert summary.reward.value == pytest.approx(in_store["average_reward"])
    assert summary.success_rate is not None
    assert summary.success_rate.value == pytest.approx(in_store["success_rate"])
    assert list(summary.pass_k) == pytest.approx(in_store["pass_hat_k"])
    assert (summary.turns, summary.faults) == (in_store["turns"], in_store["faults"])


@ARITHMETIC
async def test_an_agent_without_errors_beats_one_with_many(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found: list[float] = []
    for rate in ("0", "0.9"):
        async with Run(store=store) as run:
            summary = await rollout(
                run, tasks=TaskChoice(split="test", tasks="6"), cast=CastChoice(agent=f"scripted,error_rate={rate}")
            )
        assert summary.reward is not None
        found.append(summary.reward.value)
    assert found[0] > found[1]


@ARITHMETIC
async def test_josh_can_branch_by_single_decisions(tmp_path: Path) -> None:
    async with Run(store=Store(tmp_path), recipe="josh", seed=7) as run:
        by_action = await josh(run, tasks=TaskChoice(tasks="2"), beam=4, branch_by="action")
        by_turn = await josh(run, tasks=TaskChoice(tasks="2"), beam=4)
    assert by_action.scored == 2
    assert by_turn.episodes == 4  # both harvests of this run: trials 0 and 1
    trials = run.store.query("select trial, max(turn) from branches join episodes using (episode_id) group by all")
    turns: dict[int, int] = dict(trials.rows)
    assert turns[0] > turns[1]


OTHER_SPLITS = """
from dataclasses import replace

from simkit.tools.builtin import BuiltinWorld


class Other(BuiltinWorld):
    name = "other"
    splits = ("easy", "hard")

    def tasks(self, split):
        shown = BuiltinWorld().tasks("val")[:2]
        return [replace(task, world="other", split=self.check_split(split)) for task in shown]
"""


@ARITHMETIC
async def test_a_world_may_name_its_splits(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER_SPLITS)
    store, world, played = Store(tmp_path / "store"), f"{tmp_path / 'other.py'}:Other", list[str]()
    for recipe, split in ((rollout, None), (josh, None), (rollout, "easy")):
        async with Run(store=store) as run:
            await recipe(run, tasks=TaskChoice(world=world, split=split, tasks="1"))
        played += store.query("select split from tasks where run_id = ?", [run.id]).rows[0]
    assert played == ["hard", "easy", "easy"]
    with pytest.raises(UsageError, match="the world `other` has no split `test`; it has: easy, hard"):
        async with Run(store=store) as run:
            await rollout(run, tasks=TaskChoice(world=world, split="test"))
