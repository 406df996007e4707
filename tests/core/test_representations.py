"""Representations of values that people print in a notebook: short, and naming what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit import BeamSearch, Josh, ModelConfig, Rollout, Run, Store, load_world
from simkit.data.selection import Selection, select


@pytest.mark.anyio
async def test_a_run_shows_its_name_its_recipe_and_its_state(tmp_path: Path) -> None:
    run = Run(store=tmp_path, name="first", recipe="brisk")
    assert repr(run) == f"<Run {run.id} 'first', recipe brisk, not entered>"
    async with run:
        assert repr(run) == f"<Run {run.id} 'first', recipe brisk, running>"
    assert repr(run) == f"<Run {run.id} 'first', recipe brisk, done>"
    assert repr(Run.resume("first", store=tmp_path)) == "<Run of 'first', recipe python, not entered>"


@pytest.mark.anyio
async def test_results_and_tasks_are_not_printed_in_full(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        world = run.world("builtin")
        tasks = run.tasks(world, "train", 100)
        assert repr(tasks).startswith("TravelTasks(split='train', indices=range(0, 100), shape=TaskShape(")
        assert len(repr(tasks)) < 200
        assert repr(tasks[0]) == "Task(id='train-00000', world='builtin', split='train')"
        await run.play(Rollout(), run.cast(world), tasks[:2])
        found = await run.query("select task_id, trial from episodes")
    assert repr(found).startswith("<QueryResult of 2 rows, columns task_id, trial")


def test_worlds_and_stores_show_their_names(tmp_path: Path) -> None:
    assert repr(load_world("builtin")) == "<BuiltinWorld 'builtin'>"
    assert repr(Store(tmp_path)) == f"<Store {str(tmp_path)!r}>"


@pytest.mark.anyio
async def test_what_a_harvest_returns_is_not_printed_in_full(tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=1) as run:
        world = run.world("builtin")
        search = Josh(BeamSearch(beam=4))
        await run.play(search, run.cast(world, agent="scripted,error_rate=0.4"), run.tasks(world, "train", 3))
    with run.store.reading() as reader:
        trees = [reader.tree(run.id, f"train-0000{number}") for number in range(3)]
        transcripts = [reader.transcript(str(tree.final_branch_id)) for tree in trees]
        examples = select(run.store, "kto", Selection(runs=(run.id,)))
        values = [reader, reader.state, *trees, *transcripts, examples, *examples, world.ontology]
        assert max(len(repr(value)) for value in values) < 250
        assert repr(trees[0]).startswith(f"<EpisodeTree {run.id}/train-00000/0: ")
        assert repr(examples).startswith(f"<ExampleSet of {len(examples)} kto examples")
        assert repr(transcripts[0]).endswith(f"{len(transcripts[0].lines)} messages, {trees[0].outcome}>")


def test_a_configuration_shows_what_differs_from_its_defaults() -> None:
    config = ModelConfig(model="openai/x", base_url="https://user:secret@host/v1", temperature=0.0, max_retries=8)
    assert repr(config) == "ModelConfig(model='openai/x', temperature=0.0, max_retries=8)"
    assert repr(ModelConfig()) == "ModelConfig()"
    assert "sk-1" not in repr(ModelConfig.of({"api_key": "sk-1", "header": ["authorization=sk-1"]}))
