"""Shards of a run play disjoint shares of its tasks that are complete together, and go on where they were stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shard_playing import TASKS, play, play_shards, play_until, scores
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.errors import UsageError
from simkit.run.run import Run
from simkit.run.sharding import Shard
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("count", [1, 3, TASKS + 1])
async def test_shards_are_disjoint_and_complete_and_have_the_results_of_the_whole(tmp_path: Path, count: int) -> None:
    whole = scores((await play(tmp_path / "whole")).store.path)
    stores = await play_shards(tmp_path, range(1, count + 1), count)
    shares = [scores(store) for store in stores]
    assert sorted(row for share in shares for row in share) == whole
    tasks = [{task for task, *_ in share} for share in shares]
    assert sum(map(len, tasks)) == TASKS
    assert max(map(len, tasks)) - min(map(len, tasks)) <= 1
    statuses = {Store(store).resolve().status for store in stores}
    assert statuses == {"done"}


async def test_trees_are_the_same_in_shards(tmp_path: Path) -> None:
    search = Josh(BeamSearch(beam=4))
    whole = scores((await play(tmp_path / "whole", search=search, tasks="4")).store.path)
    stores = await play_shards(tmp_path, (1, 2), 2, search=search, tasks="4")
    assert sorted(row for store in stores for row in scores(store)) == whole


async def test_a_task_that_is_played_again_stays_in_its_shard(tmp_path: Path) -> None:
    shares: list[set[str]] = []
    for number in (1, 2):
        async with Run(store=tmp_path / f"{number}", shard=f"{number}/2", seed=3) as run:
            world = run.world()
            cast, tasks = run.cast(world), run.tasks(world, "test", "5")
            first = await run.play(Rollout(), cast, tasks)
            again = await run.play(Rollout(), cast, tasks[::-1])
        assert {one.task_id for one in first} == {one.task_id for one in again}
        assert {one.trial for one in again} == {1}
        shares.append({one.task_id for one in first})
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) == 5


async def test_all_shards_have_one_id_that_follows_from_the_settings(tmp_path: Path) -> None:
    async def id_of(place: str, shard: str, **options: Any) -> str:
        return (await play(tmp_path / place, shard, tasks="1", trials=1, **options)).id

    first = await id_of("a", "1/2")
    assert first == await id_of("b", "2/2")
    assert first == await id_of("c", "2/2", concurrency=3)
    assert len({first, await id_of("d", "1/3"), await id_of("e", "1/2", name="other")}) == 3
    assert len({first, await id_of("f", "1/2", seed=4), await id_of("g", "1/2", config={"beam": 8})}) == 3


async def test_a_shard_that_is_given_again_goes_on(tmp_path: Path) -> None:
    run = await play_until(tmp_path, "1/2", 2)
    assert run.status == "interrupted"
    again = await play(tmp_path, "1/2")
    assert again.id == run.id
    assert (again.status, again.account.kept) == ("done", 2)
    assert again.account.planned == 8
    once_more = await play(tmp_path, "1/2")
    assert (once_more.account.kept, once_more.account.done) == (8, 0)


async def test_a_store_holds_one_shard_of_a_plan(tmp_path: Path) -> None:
    await play(tmp_path, "1/2")
    with pytest.raises(UsageError, match=r"holds shard 1/2 of this plan .* give each shard a --store of its own"):
        await play(tmp_path, "2/2")
    await play(tmp_path, "2/2", name="another")


async def test_a_run_with_stages_has_no_shards(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stages .*cannot be played in shards"):
        async with Run(store=tmp_path, shard="1/2") as run:
            run.part("one")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0"])
def test_there_is_no_such_shard(text: str) -> None:
    with pytest.raises(UsageError, match="shards are counted from 1"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["3", "3/", "a/b", "-1/4", "1/2/3", ""])
def test_a_shard_is_written_as_two_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="give a number and the number of shards"):
        Shard.parse(text)


@pytest.mark.parametrize(
    "recipe",
    ["run selftrain", "run scratch --out x", "train sft", "train grpo", "run finetune --base x", "run preserve"],
)
def test_recipes_that_do_more_than_play_tasks_have_no_shards(tmp_path: Path, recipe: str) -> None:
    result = CliRunner().invoke(app, [*recipe.split(), "--shard", "1/2", "--store", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert "cannot be played in shards" in result.output
    assert not (tmp_path / "store").exists()


def test_a_resumed_shard_stays_the_same_shard(tmp_path: Path) -> None:
    flags = ["--store", str(tmp_path), "--quiet"]
    assert CliRunner().invoke(app, ["run", "rollout", "--tasks", "3", "--shard", "1/2", *flags]).exit_code == 0
    assert CliRunner().invoke(app, ["resume", "last", *flags]).exit_code == 0
    assert Store(tmp_path).query("select count(*) from episodes").rows == [(2,)]
    other = CliRunner().invoke(app, ["resume", "last", "--shard", "2/2", *flags])
    assert "--shard was 1/2 and is 2/2" in other.output
