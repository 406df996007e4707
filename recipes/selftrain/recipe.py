"""Self-training from start to end: a model plays, JOSH harvests rewarded turns, and the model learns from them.

It tests the claim of "Sparse Rewards Can Self-Train Dialogue Agents" (arXiv 2409.04617) in one experiment, with
held-out goals, several seeds, two temperatures, and a control that learns from as much unfiltered data.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread

from simkit.errors import UsageError
from simkit.plugins.extras import check_installed
from simkit.recipes.selftrain.experiment import ExperimentPlan
from simkit.recipes.selftrain.outcome import conditions, read_outcome
from simkit.recipes.selftrain.seeds import play_seeds
from simkit.run import choices
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training import flags as training
from simkit.training.process import LIBRARIES
from simkit.training.scratch import DialogueSource, ScratchSettings

TOWN = "builtin,most_goals=2,restaurants=24,hotels=24,attractions=24,departures=4"
DEMONSTRATOR = "scripted,error_rate=0.1,habits=drop:people:0.75"


async def selftrain(
    run: Run,
    *,
    world: Annotated[str, "World with the splits train, val (dev goals) and test (held-out goals)."] = TOWN,
    user: choices.User = None,
    reward: choices.Reward = None,
    method: Annotated[Literal["sft", "kto", "dpo"], "Training method."] = "sft",
    rounds: Annotated[int, "Number of rounds of harvest and training."] = 1,
    seeds: Annotated[int, "Number of independent repetitions, whose results are pooled."] = 3,
    seeds_at_once: Annotated[int, "Seeds processed at once, each in a process with one thread."] = 3,
    tasks: Annotated[int, "Training tasks per round."] = 160,
    beam: Annotated[int, "Maximum number of live leaves."] = 8,
    heldout: Annotated[int, "Held-out tasks on which every model is evaluated."] = 260,
    dev: Annotated[int, "Dev goals (split val) that the guard plays during training."] = 40,
    config: Annotated[str, "Settings of the training: a preset, or a YAML file."] = "tiny-cpu",
    learning_rate: training.LearningRate = None,
    epochs: training.Epochs = None,
    demonstrator: Annotated[str, "Without --model: agent whose dialogues train the first model."] = (DEMONSTRATOR),
    lessons: Annotated[int, "Without --model: number of these dialogues."] = 1500,
    lesson_steps: Annotated[int, "Without --model: optimiser steps of the first model."] = 700,
    max_turns: choices.MaxTurns = 15,
    reply_tokens: training.MaxTokens = 160,
    allow_incomplete: training.AllowIncomplete = False,
) -> Summary:
    """Train a model on its own harvest, and compare before, after and a control on held-out goals.

    Every seed trains a tiny model on dialogues of a scripted agent with slips and a bad habit (or takes --model, a
    folder or a Hugging Face name), measures it, harvests with JOSH on train goals, trains on the harvest under a guard,
    and measures again, at T = 1 and T = 0. The control trains in the same way on as much data, unfiltered or with
    shuffled labels. The result is a table with intervals and p-values, and a plot in the store, in a folder named like
    the run. Every stage is a run of its own (`simkit ls --parts`), and `simkit resume` continues where it stopped.

    Examples:

        simkit run selftrain
        simkit run selftrain --method dpo --learning-rate 1e-4
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
        method=method,
        config=config,
        learning_rate=learning_rate,
        epochs=epochs,
        rounds=rounds,
        tasks=tasks,
        beam=beam,
        held_out=heldout,
        dev=dev,
        max_turns=max_turns,
        max_tokens=reply_tokens,
    )
    await play_seeds(run, plan, seeds, seeds_at_once, allow_incomplete=allow_incomplete)
    run.progress.note = "comparing"
    outcome = await anyio.to_thread.run_sync(
        lambda: read_outcome(
            run.store, run.id, seeds=seeds, rounds=rounds, method=method, allow_incomplete=allow_incomplete
        )
    )
    conditions_of_run = conditions(run, f"simkit {shlex.join(sys.argv[1:])}")
    picture, report, _ = await anyio.to_thread.run_sync(outcome.write, run.store.path / run.id, conditions_of_run)
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
