"""Harvest training data: branch conversations until a branch reaches a goal, and keep the turns that differ.

JOSH is beam search over simulated conversations (arXiv 2409.04617). The winner of each reward becomes the new root. The
turns that led to it are golden; failed turns at the same point are negative examples.
"""

from __future__ import annotations

from typing import Annotated

from simkit.plugins.recipe import shardable
from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.run.summary import Summary, harvest_summary
from simkit.search.josh import BeamSearch, BranchBy, Josh, Winner


@shardable
async def josh(
    run: Run,
    *,
    tasks: TaskChoice = TaskChoice(tasks="50"),
    cast: CastChoice = CastChoice(),
    beam: Annotated[int, "Maximum number of live leaves; the paper uses 8."] = 8,
    factor: Annotated[int, "Children of each leaf when the tree expands."] = 2,
    winner: Annotated[
        Winner,
        "Rewarded leaf from which the search continues; the paper uses `first` (leftmost).",
    ] = "first",
    branch_by: Annotated[
        BranchBy, "Length of a branch: a whole agent turn (the paper), or one decision of it."
    ] = "turn",
    eager: Annotated[bool, "The first reward cancels siblings in flight: cheaper, fewer negative examples."] = False,
) -> Summary:
    """Harvest training data with JOSH: branch conversations, and keep the turns that led to a reward or failed.

    The tree grows until the beam is full; all live leaves are played concurrently. The summary counts golden and failed
    branches and the SFT, KTO and DPO examples that `simkit export` writes.

    Examples:

        simkit run josh --tasks 50 --beam 8
        simkit run josh --world toolwoz --split val --tasks 100 --beam 8 --seed 7
        simkit run josh --tasks 10-20 --agent my_agent.py:MyAgent --name "first harvest"
    """
    search = BeamSearch(factor=factor, beam=beam, branch_by=branch_by, winner=winner, eager=eager)
    await tasks.play(run, Josh(search, tasks.limits), cast)
    return await harvest_summary(run)
