"""Flags and files reach TRL's classes unchanged; simkit's own defaults and refusals."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simkit.core.messages import AssistantMessage, UserMessage
from simkit.data.examples import ExampleSet, SftExample
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training import settings_names, trl_setup
from simkit.training.config_files import load_config, shipped_configs
from simkit.training.dev import ConversationSetup
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob
from simkit.training.launch import environment_of, launched
from simkit.training.trl_setup import TrlSettings, build_trainer, read_settings

for module in ("torch", "transformers", "trl"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[train]'")

EXAMPLES = ExampleSet("sft", (SftExample(messages=(UserMessage.of("a"), AssistantMessage.of("b")), tools=()),))


def job(*flags: str, config: dict[str, Any] | None = None, guard: bool = False) -> TrainingJob:
    return TrainingJob(
        method="sft",
        model="base",
        config=config or {},
        flags=flags,
        examples=EXAMPLES,
        out=Path("out"),
        seed=7,
        guard=Guard(place=ConversationSetup()) if guard else None,
    )


def read(asked: TrainingJob) -> TrlSettings:
    with warnings.catch_warnings(action="ignore"):
        return read_settings(asked)


def test_flags_are_fields_of_trls_classes_and_override_the_file() -> None:
    found = read(
        job(
            *("--learning_rate", "2e-5", "--packing", "--report_to", "tensorboard", "--attn_implementation", "eager"),
            *("--use_peft", "--lora-r", "8", "--lora_target_modules", "q_proj", "v_proj", "--load_in_4bit"),
            *("--dtype", "bfloat16", "--eval_strategy", "no", "--max_length", "99"),
            config={"learning_rate": "1e-4", "warmup_steps": 5},
        )
    )
    args, model = found.args, found.model
    assert (args.learning_rate, args.warmup_steps, args.packing, args.max_length) == (2e-5, 5, True, 99)
    assert args.report_to == ["tensorboard"]
    assert (model.use_peft, model.lora_r, model.lora_target_modules) == (True, 8, ["q_proj", "v_proj"])
    assert (model.load_in_4bit, model.dtype, model.attn_implementation) == (True, "bfloat16", "eager")


def test_what_is_not_asked_for_stays_on_this_machine() -> None:
    args = read(job()).args
    assert args.report_to == []
    assert args.push_to_hub is False
    assert (args.output_dir, args.seed, args.data_seed) == ("out", 7, 7)


def test_an_upload_or_a_tracker_that_is_asked_for_is_not_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    here = replace(job(), model=str(tmp_path))
    assert environment_of(here)["HF_HUB_OFFLINE"] == "1"
    for asked in (replace(here, flags=("--push-to-hub",)), replace(here, config={"push_to_hub": True})):
        assert "HF_HUB_OFFLINE" not in environment_of(asked)
    assert not {name for name in environment_of(here) if "WANDB" in name} - set(os.environ)


def test_a_training_on_a_cpu_is_not_in_bfloat16_unless_it_is_asked_for() -> None:
    args = read(job("--use_cpu")).args
    assert (args.use_cpu, args.bf16, args.gradient_checkpointing) == (True, False, False)
    assert read(job("--use_cpu", "--bf16", "true")).args.bf16 is True
    for name in ("tiny-cpu", "smollm2-135m"):
        assert read(job(config=load_config(name, "sft"))).args.bf16 is False


def test_every_preset_is_read_by_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl_setup, "_accelerated", lambda: False)
    for name in shipped_configs():
        assert read(job(config=load_config(name, "sft"))).args.learning_rate > 0


@pytest.mark.parametrize(
    ("flags", "config", "said"),
    [
        (("--learning_rat", "1"), {}, "did you mean --learning_rate"),
        (("--gaurd", "1"), {}, "no field of TRL's SFTConfig or ModelConfig"),
        ((), {"learning_rte": 1}, "the configuration sets `learning_rte`.*did you mean --learning_rate"),
        (("--output_dir", "x"), {}, "give --out"),
        ((), {"seed": 1}, "give --seed"),
        (("--resume_from_checkpoint", "x"), {}, "simkit resume RUN"),
        (("--max_steps", "many"), {}, "TRL does not accept"),
        (("--lr_scheduler_type", "zigzag"), {}, "TRL does not accept"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_advice(flags: tuple[str, ...], config: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(job(*flags, config=config))


def test_unknown_names_are_refused_by_trl_where_its_source_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_names, "SOURCES", ("trl/moved.py",))
    for asked in (job("--learning_rat", "1"), job(config={"learning_rte": 1})):
        with pytest.raises(UsageError, match=r"`(--learning_rat|learning_rte)` is neither"):
            read(asked)


def test_processes_wait_for_the_one_that_plays_unless_they_are_told_otherwise() -> None:
    found = [read(each).args.ddp_timeout for each in (job(), job(guard=True), job("--ddp_timeout", "60", guard=True))]
    assert found == [1800, 24 * 3600, 60]


def test_the_guard_and_trls_best_checkpoint_do_not_choose_both() -> None:
    with pytest.raises(UsageError, match="the guard chooses the kept weights"):
        read(job("--load_best_model_at_end", "--eval_strategy", "epoch", guard=True))


def test_adapters_and_quantization_reach_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Recorder:
        def __init__(self, **values: Any) -> None:
            given.update(values)

        def remove_callback(self, kind: object) -> None:
            """Nothing to remove."""

    monkeypatch.setattr(require("trl", "train"), "SFTTrainer", Recorder)
    asked = job("--use_peft", "--lora_target_modules", "all-linear", "--load_in_8bit", "--dtype", "bfloat16")
    settings = read(asked)
    build_trainer(asked, settings, [{"input_ids": [1, 2], "labels": [1, 2]}], [{"input_ids": [1], "labels": [1]}])
    assert given["peft_config"].target_modules == "all-linear"
    assert given["quantization_config"].load_in_8bit is True
    assert given["args"].model_init_kwargs["dtype"] == "bfloat16"
    assert len(given["eval_dataset"]) == 1


@pytest.mark.parametrize(
    ("command", "ranks"),
    [
        ("python launch --num_processes 8", 8),
        ("python -m torch.distributed.run --nproc-per-node=2", 2),
        ("python --nproc_per_node 4 x", 4),
        ("python launch", None),
        (None, 1),
    ],
)
def test_the_number_of_processes_is_that_of_the_launcher(command: str | None, ranks: int | None) -> None:
    words, found = launched(command)
    assert found == ranks
    assert bool(words) is (command is not None)


def test_a_launcher_that_is_not_installed_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no command `nolauncher`"):
        launched("nolauncher --num_processes 2")
