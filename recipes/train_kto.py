"""Train a model on single good and bad answers: KTO on the harvest, as in the paper."""

from __future__ import annotations

from typing import Annotated

from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.dev import DevChoice
from simkit.training.presets import preset as settings
from simkit.training.steps import NO_ENDPOINT, ExampleChoice, GuardChoice, TrainingRequest, train_on_examples


@without_flags(*NO_ENDPOINT)
async def train_kto(
    run: Run,
    *,
    data: training.Data = "last",
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
    beta: training.Beta = None,
    desirable_weight: Annotated[float | None, "Weight of the desirable answers."] = None,
    undesirable_weight: Annotated[float | None, "Weight of the undesirable ones."] = None,
    lora_rank: training.LoraRank = None,
    lora_alpha: training.LoraAlpha = None,
    keep_adapter: training.KeepAdapter = False,
    guard: GuardChoice = GuardChoice(),
    threads: training.Threads = 0,
) -> Summary:
    """Train a model on answers that led to the goal and answers that did not (KTO), guarded on dev goals.

    --model names the model to train: a folder, or a model on the Hugging Face hub. Examples come from the trees of a
    `josh` run or from a file, such as the authors' .zip. KTO sums log probabilities over nearly identical answers: a
    learning rate that is slightly too high destroys tool calls before the loss shows it. The guard detects this, stops,
    and rolls back.

    Preset paper: learning rate 5e-7, 1 epoch, batch 16, beta 0.1, weights 1.0 and 2.71, QLoRA of rank 64 (LoRA without
    bitsandbytes or a GPU); cpu: 5e-6, LoRA of rank 16; tiny: 2e-4, all weights.

    Examples:

        simkit run train_kto --model models/base --data last --preset tiny --out models/kto
        simkit run train_kto --model meta-llama/Meta-Llama-3-8B-Instruct --data llama3-josh-toolwoz-for-KTO.zip --world toolwoz
        simkit run train_kto --model models/base --preset tiny --learning-rate 1e-3 --guard-every 5
    """  # noqa: E501 - a command must be on one line
    request = TrainingRequest(
        kind="kto",
        chosen=ExampleChoice(
            data=data,
            where=where,
            max_per_task=max_per_task,
            limit=limit,
            held_out=held_out,
            allow_incomplete=allow_incomplete,
            reasoning=reasoning,
        ),
        dev=dev,
        guard=guard,
        preset=settings(preset, "kto").overridden(
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=max_steps,
            batch=batch,
            micro_batch=micro_batch,
            max_length=max_length,
            schedule=schedule,
            beta=beta,
            desirable_weight=desirable_weight,
            undesirable_weight=undesirable_weight,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        ),
        out=out,
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return await train_on_examples(run, request)
