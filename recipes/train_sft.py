"""Train a model to imitate good conversations: supervised fine-tuning on the harvest."""

from __future__ import annotations

from typing import Annotated, Literal

from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.dev import DevChoice
from simkit.training.presets import preset as settings
from simkit.training.steps import NO_ENDPOINT, ExampleChoice, GuardChoice, TrainingRequest, train_on_examples


@without_flags(*NO_ENDPOINT)
async def train_sft(
    run: Run,
    *,
    data: training.Data = "last",
    source: Annotated[
        Literal["golden", "episodes"],
        "Of runs: the golden conversations of trees, or the final conversation of any episode (filter with --where).",
    ] = "golden",
    where: training.Where = None,
    max_per_task: training.MaxPerTask = None,
    limit: training.Limit = None,
    reasoning: training.ReasoningFlag = None,
    dev: DevChoice = DevChoice(),
    held_out: training.HeldOut = "test",
    allow_incomplete: training.AllowIncomplete = False,
    preset: training.PresetFlag = "paper",
    out: training.Out = None,
    learning_rate: training.LearningRate = None,
    epochs: training.Epochs = None,
    max_steps: training.MaxSteps = None,
    batch: training.Batch = None,
    micro_batch: training.MicroBatch = None,
    max_length: training.MaxLength = None,
    schedule: training.Schedule = None,
    lora_rank: training.LoraRank = None,
    lora_alpha: training.LoraAlpha = None,
    keep_adapter: training.KeepAdapter = False,
    guard: GuardChoice = GuardChoice(),
    threads: training.Threads = 0,
) -> Summary:
    """Train a model to imitate golden conversations (SFT), guarded on dev goals.

    --model names the model to train: a folder, or a model on the Hugging Face hub. Examples come from a run or a file,
    are checked for held-out tasks, and are rendered as in play; the loss counts the agent's tokens. A guard plays dev
    goals during training, stops when tool calls or success fall, and rolls back. The final report names the new model
    for --model; metrics are in the table `metrics`. A stopped run continues with `resume`.

    Preset paper: learning rate 2e-5, 3 epochs, batch 16, all weights; cpu: 1e-4, 2 epochs, batch 8, LoRA of rank 16;
    tiny: 6e-4, 3 epochs, batch 8, all weights.

    Examples:

        simkit run train_sft --model models/base --data last --preset tiny --out models/tuned
        simkit run train_sft --model Qwen/Qwen3-0.6B --data "my harvest" --preset cpu --guard 20
        simkit run train_sft --model models/base --source episodes --where "reward >= 1" --limit 200 --preset tiny
    """
    request = TrainingRequest(
        kind="sft",
        chosen=ExampleChoice(
            data=data,
            source=source,
            where=where,
            max_per_task=max_per_task,
            limit=limit,
            held_out=held_out,
            allow_incomplete=allow_incomplete,
            reasoning=reasoning,
        ),
        dev=dev,
        guard=guard,
        preset=settings(preset, "sft").overridden(
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=max_steps,
            batch=batch,
            micro_batch=micro_batch,
            max_length=max_length,
            schedule=schedule,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        ),
        out=out,
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return await train_on_examples(run, request)
