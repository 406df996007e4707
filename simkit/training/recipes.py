"""Recipes behind `simkit train METHOD`: select examples or practice goals, train by TRL, and record what happens."""

from __future__ import annotations

from typing import Annotated

from simkit.models.sampling import Sampling
from simkit.plugins.recipe import with_other_flags, without_flags
from simkit.run import choices
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training.steps import (
    ExampleChoice,
    SftExampleChoice,
    TrainingChoice,
    carried_out,
    job_of,
    summary_of,
    train_on_examples,
)

OMITTED = tuple(Sampling.model_fields)
"""Flags of every run that a training takes as TRL's: how the model in training samples."""

UNUSED = ("replay", "workers", "engine", "shard", "fail_fast", "max_faults")
"""Flags of every run without effect in a training."""


@with_other_flags("trl", *OMITTED)
@without_flags(*UNUSED)
async def train_sft(
    run: Run,
    *,
    examples: SftExampleChoice = SftExampleChoice(),
    how: TrainingChoice = TrainingChoice(),
) -> Summary:
    """Train a model to imitate golden conversations (SFT, by TRL), guarded on dev goals.

    --model names the model to train: a folder, or a model at Hugging Face. Examples come from a run or a file and are
    checked for held-out tasks. The guard plays dev goals during training, stops when tool calls or success fall, and
    rolls back. Any field of TRL's SFTConfig and ModelConfig is a flag, too: --help-trl lists them. The final report
    names the new model for --model. A stopped training continues with `simkit resume`.

    Examples:

        simkit train sft --model models/base --data last --config tiny-cpu --out models/tuned
        simkit train sft --config qwen3-8b-lora --data "my harvest" --guard 20 --learning_rate 2e-4
        simkit train sft --config qwen3-8b-lora --data last --launcher "accelerate launch --num_processes 8"
        simkit train sft --model models/base --source episodes --where "reward >= 1" --limit 200 --config my.yaml
    """
    return await train_on_examples(run, "sft", examples, how)


@with_other_flags("trl", *OMITTED)
@without_flags(*UNUSED)
async def train_kto(
    run: Run,
    *,
    examples: ExampleChoice = ExampleChoice(),
    how: TrainingChoice = TrainingChoice(),
) -> Summary:
    """Train a model on answers that led to the goal and answers that did not (KTO, by TRL), guarded on dev goals.

    --model names the model to train: a folder, or a model at Hugging Face. Examples come from the trees of a `josh` run
    or from a file, such as the authors' .zip. A learning rate that is slightly too high destroys tool calls before the
    loss shows it; the guard detects this, stops, and rolls back. Any field of TRL's KTOConfig and ModelConfig is a
    flag, too: --help-trl lists them.

    Examples:

        simkit train kto --model models/base --data last --config tiny-cpu --out models/kto
        simkit train kto --config paper-llama3-8b-kto --data llama3-josh-toolwoz-for-KTO.zip --world toolwoz
        simkit train kto --model models/base --config tiny-cpu --learning_rate 1e-3 --guard-every 5
    """
    return await train_on_examples(run, "kto", examples, how)


@with_other_flags("trl", *OMITTED)
@without_flags(*UNUSED)
async def train_dpo(
    run: Run,
    *,
    examples: ExampleChoice = ExampleChoice(),
    how: TrainingChoice = TrainingChoice(),
) -> Summary:
    """Train a model to prefer answers that led to the goal over siblings that did not (DPO, by TRL), guarded.

    --model names the model to train: a folder, or a model at Hugging Face. Pairs come from the trees of a `josh` run:
    two answers to the same prompt, one golden, one failed. The guard plays dev goals during training, stops when tool
    calls or success fall, and rolls back. Any field of TRL's DPOConfig and ModelConfig is a flag, too: --help-trl lists
    them.

    Examples:

        simkit train dpo --model models/base --data last --config tiny-cpu --out models/dpo
        simkit train dpo --model models/base --data pairs.jsonl --held-out none --config tiny-cpu
    """
    return await train_on_examples(run, "dpo", examples, how)


@with_other_flags("trl", *OMITTED)
@without_flags(*UNUSED)
async def train_grpo(
    run: Run,
    *,
    split: Annotated[str, "Split of the world that the practice tasks are taken from."] = "train",
    tasks: choices.Tasks = "all",
    how: TrainingChoice = TrainingChoice(),
) -> Summary:
    """Train a model on the rewards of its own conversations with simulated users (GRPO, by TRL), guarded on dev goals.

    In every step the current model plays groups of whole conversations: the user opens once, and each branch of the
    tree is played to its end. The reward of a conversation relative to its group is the advantage of all tokens that
    the model sampled; tokens of users and tools are masked. Practice goals are from --split, dev goals from
    --guard-split. Any field of TRL's GRPOConfig and ModelConfig is a flag, too: --help-trl lists them.

    Examples:

        simkit train grpo --model models/base --config tiny-cpu --max_steps 40 --out models/practised
        simkit train grpo --config qwen3-8b-lora --tasks 50 --num_generations 4
    """
    make = job_of(run, "grpo", how)
    return summary_of(run, await carried_out(run, make(practice=how.place(split, tasks, run.models.user_model))))
