from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from simkit.core.messages import AssistantMessage
from simkit.data.examples import DpoExample, Example, ExampleSet, Kind, KtoExample, SftExample
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training.config_files import load_config
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob, TrainingMetrics
from simkit.training.launch import train_in_process
from simkit.training.trainer import train
from support.training_runs import looked, trained, trained_by

if TYPE_CHECKING:
    from conftest import Bench

for module in ("torch", "transformers", "trl"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[train]'")


def examples(bench: Bench, kind: Kind) -> ExampleSet:
    """One example for every answer of the conversation; what is wrong about the wrong ones is their words."""
    (known,) = bench.known.demonstrations
    places = [place for place, message in enumerate(known.messages) if isinstance(message, AssistantMessage)]
    made: list[Example] = []
    for number, place in enumerate(places):
        prompt, answer, wrong = known.messages[:place], known.messages[place], AssistantMessage.of("name name")
        match kind:
            case "sft":
                made.append(SftExample(messages=known.messages[: place + 1], tools=known.tools))
            case "kto":
                completion = (answer,) if number % 2 else (wrong,)
                made.append(KtoExample(prompt=prompt, completion=completion, label=bool(number % 2), tools=known.tools))
            case "dpo":
                made.append(DpoExample(prompt=prompt, chosen=(answer,), rejected=(wrong,), tools=known.tools))
    return ExampleSet(kind, tuple(made))


def job(bench: Bench, out: Path, kind: Kind = "sft", *, guard: Guard | None = None, **settings: Any) -> TrainingJob:
    few = {"per_device_train_batch_size": 2, "max_steps": 4, "learning_rate": 1e-3}
    how = {**load_config("tiny-cpu", kind), **few, **settings}
    return TrainingJob(
        method=kind, model=str(bench.model), examples=examples(bench, kind), config=how, out=out, guard=guard
    )


def lora(rank: int) -> dict[str, Any]:
    return {"use_peft": True, "lora_r": rank, "lora_target_modules": ["all-linear"]} if rank else {}


def guarded(bench: Bench, every: int = 2) -> Guard:
    return Guard(place=bench.place, every=every)


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = require("safetensors.torch", "train").load_file(folder / "model.safetensors")
    return found


def equal(left: Path, right: Path, tolerance: float = 0.0) -> bool:
    torch, first, second = require("torch", "train"), weights(left), weights(right)
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first)


@pytest.mark.parametrize(("kind", "rank"), [("sft", 0), ("kto", 0), ("dpo", 4)])
def test_a_few_steps_of_every_method_make_a_model_that_plays(
    bench: Bench, tmp_path: Path, kind: Kind, rank: int
) -> None:
    heard: list[TrainingMetrics] = []
    found = train(job(bench, tmp_path / "out", kind, **lora(rank)), heard.append)
    assert (found.steps, found.kept, found.stopped) == (4, 4, None)
    assert [each.step for each in heard if each.stage == "train"] == [1, 2, 3, 4]
    assert found.loss_start == pytest.approx(heard[0].values["loss"])
    assert not equal(bench.model, tmp_path / "out")
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_training_lowers_the_loss_of_what_is_trained_on(bench: Bench, tmp_path: Path) -> None:
    found = train(job(bench, tmp_path / "out", "dpo", max_steps=8))
    assert found.loss_start == pytest.approx(0.6931, abs=1e-3)  # log 2: the model is its own reference at first
    assert found.loss_end < found.loss_start - 0.05


def test_one_seed_gives_one_model_and_a_finished_training_is_not_done_again(bench: Bench, tmp_path: Path) -> None:
    first = train(job(bench, tmp_path / "a"))
    train(job(bench, tmp_path / "b"))
    train(replace(job(bench, tmp_path / "c"), seed=1))
    assert equal(tmp_path / "a", tmp_path / "b")
    assert not equal(tmp_path / "a", tmp_path / "c")
    heard: list[TrainingMetrics] = []
    assert train(job(bench, tmp_path / "a"), heard.append) == first
    assert heard == []


class Killed(Exception):
    """Stands for whatever ends a process."""


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(bench: Bench, tmp_path: Path) -> None:
    def kill(metrics: TrainingMetrics) -> None:
        if metrics.step == 5:
            raise Killed

    long: dict[str, Any] = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    train(job(bench, tmp_path / "whole", **long))
    with pytest.raises(Killed):
        train(job(bench, tmp_path / "parts", **long), kill)
    heard: list[TrainingMetrics] = []
    found = train(job(bench, tmp_path / "parts", **long), heard.append)
    assert [each.step for each in heard if each.stage == "train"] == [5, 6]
    assert found.steps == 6
    assert equal(tmp_path / "whole", tmp_path / "parts", tolerance=1e-6)


def test_a_folder_with_something_else_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    train(job(bench, tmp_path / "out"))
    with pytest.raises(UsageError, match=r"trained otherwise \(not the same: config\)"):
        train(job(bench, tmp_path / "out", learning_rate=5e-3))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not empty"):
        train(job(bench, tmp_path / "full"))


def test_a_guard_without_a_run_that_plays_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody plays the conversations"):
        train(job(bench, tmp_path / "out", guard=guarded(bench)))


def test_a_guard_sees_the_model_as_it_is_in_memory_and_keeps_what_is_good(bench: Bench, tmp_path: Path) -> None:
    found = trained(tmp_path / "store", job(bench, tmp_path / "out", guard=guarded(bench), learning_rate=1e-5))
    assert list(found.guard) == [0, 2, 4]
    assert found.guard[0].success == 1.0
    assert found.guard[0].valid_calls == 1.0
    assert found.stopped is None
    assert found.kept == 4


@pytest.mark.parametrize("rank", [0, 4])
def test_a_learning_rate_that_wrecks_the_model_is_stopped_and_rolled_back(
    bench: Bench, tmp_path: Path, rank: int
) -> None:
    wrecking = job(bench, tmp_path / "out", "kto", guard=guarded(bench), learning_rate=0.5, max_steps=50, **lora(rank))
    found = trained(tmp_path / "store", wrecking)
    assert found.stopped is not None
    assert found.steps == 2
    assert found.kept == 0
    assert found.guard[2].valid_calls < 0.95
    assert equal(bench.model, tmp_path / "out")


def test_roll_back_goes_to_the_best_sound_weights_not_only_to_the_first(bench: Bench, tmp_path: Path) -> None:
    """The learning rate rises until it wrecks the model: what was sound before is kept."""
    rising: dict[str, Any] = {"learning_rate": 0.2, "max_steps": 400, "warmup_steps": 400}
    found = trained(tmp_path / "store", job(bench, tmp_path / "out", guard=guarded(bench, every=4), **rising))
    assert found.stopped is not None
    assert 0 < found.kept < found.steps
    assert found.guard[found.kept].success == 1.0


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, of transformers
def test_adapters_are_merged_and_kept(bench: Bench, tmp_path: Path) -> None:
    transformers, peft = require("transformers", "train"), require("peft", "train")
    train(job(bench, tmp_path / "out", **lora(4)))
    base = transformers.AutoModelForCausalLM.from_pretrained(bench.model)
    merged = peft.PeftModel.from_pretrained(base, tmp_path / "out" / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert equal(tmp_path / "merged", tmp_path / "out", tolerance=1e-6)


def test_the_trained_folder_plays_as_a_local_model(bench: Bench, tmp_path: Path) -> None:
    from simkit.local.engine import LocalEngine
    from simkit.local.model import LocalModel
    from simkit.local.worker import Worker

    train(job(bench, tmp_path / "out", learning_rate=1e-5))
    worker = Worker(LocalEngine.open(tmp_path / "out"))
    try:
        score = anyio.run(looked, tmp_path / "store", bench.place, LocalModel(worker, "trained"))
    finally:
        worker.close()
    assert score.success == 1.0


def test_a_process_of_its_own_gives_the_same_weights_and_tells_as_it_goes(bench: Bench, tmp_path: Path) -> None:
    heard: list[TrainingMetrics] = []
    here = train(job(bench, tmp_path / "here"))
    there = anyio.run(trained_by, train_in_process, tmp_path / "store", job(bench, tmp_path / "there"), heard.append)
    assert [each.step for each in heard] == [1, 2, 3, 4]
    assert there == replace(here, path=tmp_path / "there")
    assert equal(tmp_path / "here", tmp_path / "there")


def test_what_a_process_refuses_is_refused_here(bench: Bench, tmp_path: Path) -> None:
    nowhere = replace(job(bench, tmp_path / "out"), model=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no tokenizer at"):
        anyio.run(trained_by, train_in_process, tmp_path / "store", nowhere, print)
