"""Parameter groups of recipes that play: frozen dataclasses whose fields become flags.

async def brisk(run: Run, *, tasks: TaskChoice = TaskChoice(split="test"), cast: CastChoice = CastChoice()): ...
    await tasks.play(run, Rollout(tasks.limits), cast)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simkit.core.limits import Limits
from simkit.plugins import flags

if TYPE_CHECKING:
    from simkit.run.run import Run
    from simkit.search.base import Episode, Search


@dataclass(frozen=True, slots=True, kw_only=True)
class CastChoice:
    """Players by name; None for the world's default."""

    agent: flags.Agent = None
    user: flags.User = None
    reward: flags.Reward = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChoice:
    """Task selection: world, split, tasks, number of trials and maximum number of turns."""

    world: flags.World = "builtin"
    variant: flags.Variant = None
    split: flags.Split = "train"
    tasks: flags.Tasks = "all"
    trials: flags.Trials = 1
    max_turns: flags.MaxTurns = 15

    @property
    def limits(self) -> Limits:
        """Limits of one episode."""
        return Limits(turns=self.max_turns)

    async def play(self, run: Run, search: Search, cast: CastChoice) -> tuple[Episode, ...]:
        """Play the tasks with a search; raises what `Run.play` raises, and UsageError for an unknown name."""
        world = run.world(self.world, variant=self.variant)
        players = run.cast(world, agent=cast.agent, user=cast.user, reward=cast.reward)
        return await run.play(search, players, run.tasks(world, self.split, self.tasks), trials=self.trials)
