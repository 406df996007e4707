"""Train a model by practice: GRPO on whole conversations, online, with a simulated user."""

from __future__ import annotations

from typing import Annotated

from simkit.plugins.recipe import without_flags
from simkit.run import choices
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.dev import DevChoice
from simkit.training.grpo import GrpoJob
from simkit.training.presets import preset as settings
from simkit.training.steps import NO_ENDPOINT, GuardChoice, carried_out, folder_of, model_of, summary_of


@without_flags(*NO_ENDPOINT)
async def grpo(
    run: Run,
    *,
    dev: DevChoice = DevChoice(),
    split: Annotated[str, "Split of the world that the practice tasks are taken from."] = "train",
    tasks: choices.Tasks = "all",
    preset: training.PresetFlag = "paper",
    out: training.Out = None,
    steps: Annotated[int, "Optimiser steps."] = 60,
    group: Annotated[int, "Group size: conversations with a common opening whose rewards are compared."] = 8,
    batch: Annotated[int | None, "Conversations per step: a multiple of the group."] = None,
    micro_batch: training.MicroBatch = None,
    learning_rate: training.LearningRate = None,
    schedule: training.Schedule = None,
    beta: training.Beta = None,
    max_length: training.MaxLength = None,
    lora_rank: training.LoraRank = None,
    lora_alpha: training.LoraAlpha = None,
    keep_adapter: training.KeepAdapter = False,
    heat: Annotated[float, "Sampling temperature of the training conversations, above 0."] = 1.0,
    guard: GuardChoice = GuardChoice(),
    threads: training.Threads = 0,
) -> Summary:
    """Train a model on the rewards of its own conversations with simulated users (GRPO), guarded on dev goals.

    In every step the current model plays groups of whole conversations: the user opens once, and each branch of the
    tree is played to its end. The reward of a conversation relative to its group is the advantage of all tokens that
    the model sampled; tokens of users and tools are masked. Practice goals are from --split, dev goals from
    --guard-split.

    Preset paper: its KTO's adapters with learning rate 5e-7 (the paper has no GRPO); cpu: 1e-5, LoRA of rank 16; tiny:
    3e-4, 32 conversations a step, all weights.

    Examples:

        simkit run grpo --model models/base --preset tiny --steps 40 --out models/practised
        simkit run grpo --model Qwen/Qwen3-0.6B --preset cpu --tasks 50 --batch 16 --group 4
    """
    how = settings(preset, "grpo").overridden(
        max_steps=steps,
        batch=batch,
        micro_batch=micro_batch,
        learning_rate=learning_rate,
        schedule=schedule,
        beta=beta,
        max_length=max_length,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
    )
    job = GrpoJob(
        model=model_of(run),
        place=dev.place(split, tasks),
        preset=how,
        out=folder_of(run, out),
        group=group,
        temperature=heat,
        seed=run.seed,
        guard=guard.of(dev, steps, run.seed),
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return summary_of(run, await carried_out(run, job))
