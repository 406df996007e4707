"""Train a model to imitate good conversations: supervised fine-tuning on the harvest."""

from __future__ import annotations

from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.dev import DevChoice
from simkit.training.steps import (
    NO_ENDPOINT,
    GuardChoice,
    PresetChoice,
    SftExampleChoice,
    TrainingRequest,
    train_on_examples,
)


@without_flags(*NO_ENDPOINT)
async def train_sft(
    run: Run,
    *,
    examples: SftExampleChoice = SftExampleChoice(),
    dev: DevChoice = DevChoice(),
    settings: PresetChoice = PresetChoice(),
    out: training.Out = None,
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
        chosen=examples,
        dev=dev,
        guard=guard,
        preset=settings.of("sft"),
        out=out,
        keep_adapter=keep_adapter,
        threads=threads,
    )
    return await train_on_examples(run, request)
