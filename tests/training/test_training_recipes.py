from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest

from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.recipes.rollout import rollout
from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.store import Store
from simkit.training import steps
from simkit.training.jobs import TrainingJob
from simkit.training.launch import LIBRARIES
from simkit.training.recipes import train_grpo, train_kto, train_sft
from simkit.training.steps import ExampleChoice, SftExampleChoice, TrainingChoice
from support.training_runs import train_here

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not all(map(find_spec, LIBRARIES)), reason="needs the extra: pip install '.[train]'"),
]

WORLD = "builtin,most_goals=2"
SFT: dict[str, Any] = {
    "examples": SftExampleChoice(source="episodes", where="reward >= 1", limit=3, held_out="none"),
    "how": TrainingChoice(
        config="tiny-cpu",
        trl=["--per_device_train_batch_size", "1", "--max_steps", "8"],
        world=WORLD,
        max_turns=1,
        reply_tokens=8,
        guard="1",
        guard_every=2,
        valid_floor=0.0,
    ),
}


async def played(store: Store, split: Literal["train", "val", "test"] = "train") -> str:
    async with Run(store=store, recipe="rollout", seed=0) as run:
        tasks = TaskChoice(world=WORLD, split=split, tasks="8")
        await rollout(run, tasks=tasks, cast=CastChoice(agent="scripted,error_rate=0"))
    return run.id


def training(store: Store, model: Path | str | None, **more: Any) -> Run:
    choices = ModelConfig(model=None if model is None else str(model))
    return Run(store=store, recipe="train_sft", models=choices, seed=3, **more)


async def test_a_training_is_stopped_resumed_and_recorded(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    source = await played(store)
    first = training(store, bench.model)
    async with first, anyio.create_task_group() as group:
        group.start_soon(_stop_at, first, "training: step 5")
        await train_sft(first, **SFT)
    assert first.status == "interrupted"
    assert store.query("select max(step) from metrics where run_id = ?", [first.id]).rows[0][0] < 8
    later = await played(store)  # what `last` meant at first is meant still
    monkeypatch.setattr(steps, "train_in_process", train_here)  # libraries that another process would import first
    async with training(store, bench.model, resume=first.id) as run:
        summary = await train_sft(run, **SFT)
    assert run.id == first.id
    assert (summary.extra["steps"], summary.extra["examples"]) == (8, 3)
    assert summary.extra["model"] == f"local/{tmp_path / 'models' / run.id}"
    rows = store.query("select stage, step, name from metrics where run_id = ?", [run.id]).rows
    assert {step for stage, step, name in rows if (stage, name) == ("train", "loss")} == set(range(1, 9))
    assert {step for stage, step, name in rows if (stage, name) == ("guard", "success")} == {0, 2, 4, 6, 8}
    times = store.query("select count(distinct measured_at) from metrics where run_id = ? and step = 2", [run.id])
    assert times.rows == [(2,)]  # one of the training, one of the guard: neither was done twice
    assert source != later


async def _stop_at(run: Run, words: str) -> None:
    while not run.progress.note.startswith(words):
        await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.01)
    run.stop()


async def test_without_a_model_it_says_which_flag(tmp_path: Path) -> None:
    async with training(Store(tmp_path), None) as run:
        with pytest.raises(UsageError, match="give --model FOLDER"):
            await train_sft(run)
        with pytest.raises(UsageError, match="give --model FOLDER"):
            await train_grpo(run)


async def test_a_model_behind_an_endpoint_is_not_ours_to_train(tmp_path: Path) -> None:
    async with training(Store(tmp_path), "openai/gpt-4o") as run:
        with pytest.raises(UsageError, match="simkit run finetune"):
            await train_sft(run)


async def test_without_anything_played_it_says_what_to_do_first(tmp_path: Path) -> None:
    async with training(Store(tmp_path), "model") as run:
        with pytest.raises(UsageError, match="harvest first"):
            await train_sft(run)


async def test_held_out_tasks_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await played(store, split="test")
    async with training(store, "model") as run:
        with pytest.raises(UsageError, match="must not be trained on"):
            await train_sft(run, how=TrainingChoice(world=WORLD), examples=SftExampleChoice(source="episodes"))


@pytest.mark.parametrize("held_out", ["test", "none"])
async def test_dev_goals_are_refused_as_training_data(tmp_path: Path, held_out: str) -> None:
    store = Store(tmp_path)
    await played(store, split="val")
    how = TrainingChoice(world=WORLD, guard="8")
    async with training(store, "model") as run:
        with pytest.raises(UsageError, match="the dev goals"):
            await train_sft(run, how=how, examples=SftExampleChoice(source="episodes", held_out=held_out))


async def test_a_file_of_another_kind_names_its_recipe(tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    async with training(Store(tmp_path / "store"), "model") as run:
        with pytest.raises(UsageError, match=r"these are sft examples, which cannot train by kto.*`simkit train sft`"):
            await train_kto(run, examples=ExampleChoice(data=str(file), held_out="none"))


@pytest.mark.parametrize(("asked", "found"), [("0.25", (6, 2)), ("FILE", (8, 1)), ("0.01", None), ("0.99", None)])
async def test_evaluation_examples_are_a_share_or_a_file(
    asked: str, found: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainingJob] = []

    async def caught(job: TrainingJob, _: object) -> None:
        jobs.append(job)
        raise UsageError("seen enough")

    monkeypatch.setattr(steps, "train_in_process", caught)
    (tmp_path / "eval.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    store = Store(tmp_path / "store")
    await played(store)
    examples = SftExampleChoice(
        source="episodes", held_out="none", eval_data=asked.replace("FILE", str(tmp_path / "eval.jsonl"))
    )
    async with training(store, "model") as run:
        with pytest.raises(UsageError, match="seen enough" if found else f"--eval-data {asked} of 8 examples leaves"):
            await train_sft(run, how=TrainingChoice(world=WORLD, guard="none"), examples=examples)
    assert [(len(job.examples or ()), len(job.evaluation or ())) for job in jobs] == ([found] if found else [])


async def test_data_whose_tasks_nobody_knows_must_be_allowed(tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    async with training(Store(tmp_path / "store"), "model") as run:
        with pytest.raises(UsageError, match="are unknown, so they cannot be checked"):
            await train_sft(run, examples=SftExampleChoice(data=str(file)))
