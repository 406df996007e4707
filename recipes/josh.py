"""Harvest training data: let conversations branch until some branch reaches a goal, and keep what made the difference.

JOSH is beam search over simulated conversations (arXiv 2409.04617). The winner of every reward becomes the new root,
the turns that led to it are golden, and turns tried at the same point that led nowhere are what not to do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.run.summary import Summary, harvest_summary
from simkit.search.josh import BeamSearch, Josh


async def josh(
    run: Run,
    *,
    tasks: TaskChoice = TaskChoice(tasks="50"),
    cast: CastChoice = CastChoice(),
    beam: Annotated[int, "Live leaves at most; the paper uses 8."] = 8,
    factor: Annotated[int, "Children of every leaf when the tree expands."] = 2,
    winner: Annotated[
        Literal["first", "earliest", "most_goals"], "Which rewarded leaf goes on; `first` (leftmost) is the paper's."
    ] = "first",
    branch_by: Annotated[
        Literal["turn", "action"], "What a branch adds: a whole agent turn (the paper), or one decision of it."
    ] = "turn",
    eager: Annotated[bool, "The first reward cancels its siblings: cheaper, with fewer negatives."] = False,
) -> Summary:
    """Harvest training data with JOSH: branch conversations, keep what earned the reward and what did not.

    The tree doubles until the beam is full; all live leaves take their turns at the same time. The summary counts
    golden and failed branches and the SFT, KTO and DPO examples that `simkit export` writes.

    Examples:

        simkit run josh --tasks 50 --beam 8
        simkit run josh --world toolwoz --split val --tasks 100 --beam 8 --seed 7
        simkit run josh --tasks 10-20 --agent my_agent.py:MyAgent --name "first harvest"
    """
    search = BeamSearch(factor=factor, beam=beam, branch_by=branch_by, winner=winner, eager=eager)
    await tasks.play(run, Josh(search, tasks.limits), cast)
    return await harvest_summary(run)
