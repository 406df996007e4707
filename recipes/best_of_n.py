"""Harvest training data without a tree: play each task several times and keep the conversations with the best reward.

Rejection sampling, the baseline of JOSH: the same harvest from independent rollouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from simkit import CastChoice, Ending, Run, SearchTree, Summary, TaskChoice, TreeSearch, harvest_summary, shardable


@dataclass(frozen=True, kw_only=True)
class BestOfN(TreeSearch):
    """Plays `n` rollouts from one opening. The best reward counts for the episode; the best rollouts are golden."""

    name: ClassVar[str] = "best_of_n"
    n: int = 8

    @property
    def conversations(self) -> int:
        """Number of concurrent conversations of a task: all its rollouts."""
        return self.n

    async def explore(self, tree: SearchTree) -> Ending:
        """Play all rollouts concurrently, and harvest those with the best reward."""
        rollouts = await tree.score(*await tree.play_out(*tree.fork(tree.root, self.n)))
        best = max(rollouts, key=lambda rollout: rollout.value)
        rewarded = [rollout for rollout in rollouts if rollout.rewarded]
        for rollout in reversed(rewarded):
            if rollout.value == best.value:
                tree.harvest(rollout, *rewarded)
        return tree.ending(best)


@shardable
async def best_of_n(
    run: Run,
    *,
    tasks: TaskChoice = TaskChoice(tasks="50"),
    cast: CastChoice = CastChoice(),
    n: Annotated[int, "Rollouts of each task; they share the user's opening."] = 8,
) -> Summary:
    """Harvest training data by rejection sampling: play each task n times, keep the conversations with the best reward.

    The reward of an episode is the best of its rollouts, so it is never compared with that of single rollouts. The
    summary counts golden and failed branches and the SFT, KTO and DPO examples that `simkit export` writes.

    Examples:

        simkit run best_of_n --tasks 50 --n 8
        simkit run best_of_n --world toolwoz --split val --tasks 100 --name "rejection sampling"
    """
    await tasks.play(run, BestOfN(n=n, limits=tasks.limits), cast)
    return await harvest_summary(run)
