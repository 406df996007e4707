"""Self-training from start to end: a model plays, harvests the conversations that succeed, and learns from them.

It tests the claim of "Sparse Rewards Can Self-Train Dialogue Agents" (arXiv 2409.04617) in one experiment, with
held-out goals, several seeds, two temperatures, rejection sampling for as many tokens, and an unfiltered control.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread

from simkit.errors import UsageError
from simkit.plugins.extras import check_installed
from simkit.recipes.selftrain.outcome import conditions, read_outcome
from simkit.recipes.selftrain.plan import TEST_SEED, ExperimentPlan
from simkit.recipes.selftrain.seeds import play_seeds
from simkit.run import choices
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.process import LIBRARIES
from simkit.training.scratch import DEMONSTRATOR, TOWN, DialogueSource, ScratchSettings


async def selftrain(
    run: Run,
    *,
    full: Annotated[
        bool, "Also DPO after SFT, a second round (--then dpo --rounds 2), and T = 0.7, on other goals."
    ] = False,
    world: Annotated[str, "World with the splits train, val and test."] = TOWN,
    user: choices.User = None,
    reward: choices.Reward = None,
    then: Annotated[
        Literal["none", "dpo", "kto"] | None, "Training that continues the JOSH arm, as an arm of its own."
    ] = None,
    rounds: Annotated[int | None, "Number of rounds of harvest and training; default: 1, with --full 2."] = None,
    seeds: Annotated[int, "Number of independent repetitions, all from the same first model."] = 3,
    seeds_at_once: Annotated[int, "Seeds processed at once, each in a process with one thread."] = 3,
    tasks: Annotated[int, "Train goals of a JOSH harvest, per round."] = 160,
    beam: Annotated[int, "Maximum number of live leaves of a tree."] = 8,
    n: Annotated[int, "Rollouts of each goal in rejection sampling."] = 8,
    split: Annotated[Literal["test", "val"], "Split of the goals that every model is measured on."] = "test",
    heldout: Annotated[int, "Number of these goals."] = 300,
    config: Annotated[str, "Settings of the trainings: a preset, or a YAML file."] = "tiny-cpu",
    learning_rate: training.LearningRate = None,
    epochs: training.Epochs = None,
    demonstrator: Annotated[str, "Without --model: agent whose dialogues the first model learns."] = DEMONSTRATOR,
    lessons: Annotated[int, "Without --model: number of these dialogues."] = 3000,
    lesson_steps: Annotated[int, "Without --model: optimizer steps of the first model."] = 1400,
    max_turns: choices.MaxTurns = 15,
    reply_tokens: Annotated[int, "Maximum number of tokens of a reply."] = 160,
    allow_incomplete: training.AllowIncomplete = False,
) -> Summary:
    """Train a model on its own harvest, and compare JOSH, rejection sampling and a control on held-out goals.

    A tiny model learns from dialogues of a scripted agent with slips and a bad habit (or --model names a folder or a
    Hugging Face model). Every seed measures it, harvests with JOSH and, for as many tokens, by rejection sampling,
    trains on each harvest (SFT), and measures again, at T = 1 and T = 0. A control learns from unfiltered conversations
    on the same tasks. The result is a table with intervals over goals and over seeds, and a plot in the store, in a
    folder named like the run. Every stage is a run of its own (`simkit ls --parts`), and `simkit resume` continues
    where it stopped. Choose settings with --split val.

    Examples:

        simkit run selftrain
        simkit run selftrain --full
        simkit run selftrain --split val --tasks 80 --heldout 100 --seeds 1
        simkit run selftrain --model Qwen/Qwen3-0.6B --world toolwoz --config smollm2-135m --seeds 1 --rounds 3
    """
    check_installed("train", *LIBRARIES)
    plan = ExperimentPlan(
        world=world,
        user=user,
        reward=reward,
        model=_start(run),
        lessons=DialogueSource(world=world, demonstrator=demonstrator, tasks=str(lessons)),
        schooling=ScratchSettings(steps=lesson_steps),
        config=config,
        learning_rate=learning_rate,
        epochs=epochs,
        then=then or ("dpo" if full else "none"),
        rounds=rounds if rounds is not None else 2 if full else 1,
        temperatures=("t1", "t0.7", "t0") if full else ("t1", "t0"),
        tasks=tasks,
        beam=beam,
        n=n,
        split=split,
        held_out=heldout,
        goal_seed=TEST_SEED + full,
        max_turns=max_turns,
        max_tokens=reply_tokens,
    )
    await play_seeds(run, plan, seeds, seeds_at_once, allow_incomplete=allow_incomplete)
    run.progress.note = "comparing"
    outcome = await anyio.to_thread.run_sync(
        lambda: read_outcome(run.store, run.id, plan, seeds, allow_incomplete=allow_incomplete)
    )
    said = conditions(run, f"simkit {shlex.join(sys.argv[1:])}")
    picture, report, _ = await anyio.to_thread.run_sync(outcome.write, run.store.path / run.id, said)
    return run.summary(**outcome.to_summary(), picture=str(picture), report=str(report))


def _start(run: Run) -> str | None:
    """The model to start from; None to create one.

    Raises:
        UsageError: the model cannot be trained here.
    """
    spec = run.models.model
    if spec is None:
        return None
    name = spec.removeprefix("local/").partition(",")[0]
    if name.startswith(("openai/", "openai-responses/", "anthropic/", "scripted/")) or not name:
        raise UsageError(
            f"--model {spec} cannot be trained here; name a folder, or a model at Hugging Face, as local/NAME"
        )
    return str(Path(name).absolute()) if Path(name).is_dir() else name
