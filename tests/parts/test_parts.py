"""Stages of a run: done once, killed and gone on with, measured, and listed apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.extras import check_installed, require
from simkit.run.run import Run
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio


async def played(run: Run, stage: str, tasks: str = "3") -> float:
    async with run.part(stage, recipe="rollout") as part:
        world = part.world()
        await part.play(Rollout(), part.cast(world), part.tasks(world, "test", tasks))
        return float(part.summary(extra_number=7).episodes)


async def test_a_stage_is_a_run_of_its_own_that_is_done_once(tmp_path: Path) -> None:
    async with Run(store=tmp_path, name="whole", seed=1) as run:
        assert await run.finished("one") is None
        assert await played(run, "one") == 3
        done = await run.finished("one")
    assert done is not None
    assert done["episodes"] == 3
    assert done["extra_number"] == 7
    runs = run.store.runs()
    assert {(each.run_id, each.part_of) for each in runs} == {(run.id, None), (f"{run.id}.one", run.id)}
    assert run.store.resolve("last").run_id == run.id
    assert run.store.resolve("whole/one").episodes == 3


def test_a_run_touches_no_file_until_it_is_entered(tmp_path: Path) -> None:
    run = Run(store=tmp_path / "store", seed=1)
    again = Run.resume(run.id, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    with pytest.raises(AttributeError, match="`id` of a run is known once it is entered"):
        assert again.id


async def test_a_stage_of_a_resumed_run_goes_on(tmp_path: Path) -> None:
    async with Run(store=tmp_path, name="whole", seed=1) as run:
        await played(run, "seed0/one", "2")
    async with Run(store=tmp_path, resume="whole") as again:
        assert await again.finished("seed0/one") is not None
        async with again.part("seed0/one", recipe="rollout") as part:
            world = part.world()
            episodes = await part.play(Rollout(), part.cast(world), part.tasks(world, "test", "3"))
    assert again.id == run.id
    assert len(episodes) == 3
    assert run.store.query("select count(*) from episodes").rows == [(3,)]
    starts = (tmp_path / "journals" / f"{run.id}.seed0.one" / "main.jsonl").read_text().count('"EpisodeStarted"')
    assert starts == 3, "the two that were finished are not played again"


async def test_a_stage_begun_otherwise_is_refused(tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=1) as run:
        await played(run, "one")
        with pytest.raises(UsageError, match=r"--temperature was not given and is 0.5"):
            async with run.part("one", recipe="rollout", models=ModelConfig(temperature=0.5)):
                pass


@pytest.mark.parametrize("stage", ["", "a b", "/a", "../a", "A"])
async def test_a_stage_is_named_plainly(tmp_path: Path, stage: str) -> None:
    async with Run(store=tmp_path) as run:
        with pytest.raises(UsageError, match="cannot name a stage"):
            run.part(stage)


async def test_numbers_of_a_stage_are_in_the_store_the_latest_of_each(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        run.measure("train", 1, loss=2.0, rate=0.1)
        run.measure("train", 2, loss=float("nan"))
        found = await run.query("select step, name, value from metrics order by all")
        assert found.rows == [(1, "loss", 2.0), (1, "rate", 0.1), (2, "loss", None)]
        run.measure("train", 1, loss=1.5)
        run.measure("train", 1, loss=1.0)
        found = await run.query("select name, value from metrics where step = 1 order by all")
        assert found.rows == [("loss", 1.0), ("rate", 0.1)]


async def test_items_of_an_evaluation_are_in_the_store(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        run.score_item("mt", "q1", score=8.0, length=3, detail={"why": "good"})
        run.score_item("mt", "q1", trial=1, score=6.0)
        await run.query("from item_scores")
        run.score_item("mt", "q1", score=7.0)
        found = await run.query("select item, trial, metric, value, detail ->> 'why' from item_scores order by all")
    assert found.rows == [
        ("q1", 0, "length", 3.0, "good"),
        ("q1", 0, "score", 7.0, None),
        ("q1", 1, "score", 6.0, None),
    ]


async def test_a_run_of_parts_is_shown_with_what_it_reported_and_its_stages(tmp_path: Path) -> None:
    async with Run(store=tmp_path, name="whole", seed=1) as run:
        await played(run, "one")
        run.summary(gain={"value": 0.5, "low": 0.25, "high": 0.75}, picture="p.png")
    listed = CliRunner().invoke(app, ["ls", "--store", str(tmp_path)]).stdout
    assert "whole" in listed
    assert ".one" not in listed
    assert ".one" in CliRunner().invoke(app, ["ls", "--parts", "--store", str(tmp_path)]).stdout
    shown = CliRunner().invoke(app, ["show", "whole", "--store", str(tmp_path)]).stdout
    assert "gain: 0.500   95% interval 0.250 to 0.750" in shown
    assert "picture: p.png" in shown
    assert f"{run.id}.one" in shown
    assert "task/trial" not in shown


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(UsageError, match=r"pip install '.*\[train\]"):
        require("no_such_module_at_all", "train")


def test_a_missing_extra_is_found_without_an_import() -> None:
    check_installed("train", "json")
    with pytest.raises(UsageError, match=r"`no_such_module_at_all`.*pip install '.*\[train\]"):
        check_installed("train", "json", "no_such_module_at_all")
