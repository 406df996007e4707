"""Self-training from start to end: a model plays, harvests the conversations that succeed, and learns from them.

It tests the claim of "Sparse Rewards Can Self-Train Dialogue Agents" (arXiv 2409.04617) in one experiment, with
held-out goals, several seeds, two temperatures, rejection sampling for as many tokens, and an unfiltered control.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import anyio.to_thread

from simkit.plugins.extras import check_installed
from simkit.recipes.selftrain.outcome import conditions, read_outcome
from simkit.recipes.selftrain.plan import ExperimentChoice
from simkit.recipes.selftrain.seeds import play_seeds
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.training.launch import LIBRARIES
from simkit.training.steps import model_of


async def selftrain(run: Run, *, chosen: ExperimentChoice = ExperimentChoice()) -> Summary:
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
    check_installed("train", *LIBRARIES, "matplotlib")
    plan = chosen.plan(_start(run.models.model))
    await play_seeds(run, plan)
    run.progress.note = "comparing"
    outcome = await anyio.to_thread.run_sync(read_outcome, run.store, run.id, plan)
    said = conditions(run, f"simkit {shlex.join(sys.argv[1:])}")
    picture, report, _ = await anyio.to_thread.run_sync(outcome.write, run.store.path / run.id, said)
    return run.summary(**outcome.to_summary(), picture=str(picture), report=str(report))


def _start(spec: str | None) -> str | None:
    """The model to start from; None to make one."""
    if spec is None:
        return None
    name, _ = model_of(spec)
    return str(Path(name).absolute()) if Path(name).is_dir() else name
