"""Train a model on pairs of answers to the same prompt: DPO on the harvest."""

from __future__ import annotations

from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.dev import DevChoice
from simkit.training.steps import (
    NO_ENDPOINT,
    ExampleChoice,
    GuardChoice,
    PreferencePreset,
    TrainingRequest,
    train_on_examples,
)


@without_flags(*NO_ENDPOINT)
async def train_dpo(
    run: Run,
    *,
    examples: ExampleChoice = ExampleChoice(),
    dev: DevChoice = DevChoice(),
    settings: PreferencePreset = PreferencePreset(),
    out: training.Out = None,
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
        chosen=examples,
        dev=dev,
        guard=guard,
        preset=settings.of("dpo"),
        out=out,
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return await train_on_examples(run, request)
