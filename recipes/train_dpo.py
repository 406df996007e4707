"""Train a model on pairs of answers to the same prompt: DPO on the harvest."""

from __future__ import annotations

from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.dev import DevChoice
from simkit.training.presets import preset as settings
from simkit.training.steps import NO_ENDPOINT, ExampleChoice, GuardChoice, TrainingRequest, train_on_examples


@without_flags(*NO_ENDPOINT)
async def train_dpo(
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
    lora_rank: training.LoraRank = None,
    lora_alpha: training.LoraAlpha = None,
    keep_adapter: training.KeepAdapter = False,
    guard: GuardChoice = GuardChoice(),
    threads: training.Threads = 0,
) -> Summary:
    """Train a model to prefer answers that led to the goal over siblings that did not (DPO), guarded on dev goals.

    --model names the model to train: a folder, or a model on the Hugging Face hub. Pairs come from the trees of a
    `josh` run: two answers to the same prompt, one golden, one failed. The guard plays dev goals during training,
    stops when tool calls or success fall, and rolls back.

    Preset paper: as its KTO without the weights (the paper has no DPO): learning rate 5e-7, 1 epoch, batch 16,
    beta 0.1, QLoRA of rank 64; cpu: 5e-6, LoRA of rank 16; tiny: 2e-4, all weights.

    Examples:

        simkit run train_dpo --model models/base --data last --preset tiny --out models/dpo
        simkit run train_dpo --model models/base --data pairs.jsonl --held-out none --preset tiny
    """
    request = TrainingRequest(
        kind="dpo",
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
        preset=settings(preset, "dpo").overridden(
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=max_steps,
            batch=batch,
            micro_batch=micro_batch,
            max_length=max_length,
            schedule=schedule,
            beta=beta,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        ),
        out=out,
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return await train_on_examples(run, request)
