"""Train a model on single good and bad answers: KTO on the harvest, as in the paper."""

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
    KtoPreset,
    TrainingRequest,
    train_on_examples,
)


@without_flags(*NO_ENDPOINT)
async def train_kto(
    run: Run,
    *,
    examples: ExampleChoice = ExampleChoice(),
    dev: DevChoice = DevChoice(),
    settings: KtoPreset = KtoPreset(),
    out: training.Out = None,
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
        chosen=examples,
        dev=dev,
        guard=guard,
        preset=settings.of("kto"),
        out=out,
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return await train_on_examples(run, request)
