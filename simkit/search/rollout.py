"""Rollout: one conversation from start to end, which is then scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from simkit.components.cast import Cast
from simkit.core.events import Episode
from simkit.core.limits import Limits
from simkit.core.recorder import Recorder
from simkit.core.records import Counts
from simkit.search.base import Watch, WorkUnit
from simkit.search.episode import Ending, EpisodeContext, PreparedEpisode, play_episode
from simkit.search.playout import Playout, ending_of, play_out
from simkit.search.tree import open_tree


@dataclass(frozen=True, slots=True)
class Rollout:
    """Plays one conversation until the user or the agent ends it, a limit is reached, or a component fails.

    It continues after the last goal, as is common in evaluations: the end of a conversation is part of the measurement,
    and rewards based on the final state can still be lost. A conversation that ended by a fault of any component,
    including the agent, has no reward: it is counted in `faults` and left out of averages. A conversation that exceeds
    the context of the agent's model is the agent's failure: its outcome is `context_limit` and its reward 0. A task
    without sparse goals is played if the reward judges how the conversation ends.
    """

    name: ClassVar[str] = "rollout"
    limits: Limits = field(default_factory=Limits)

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one work unit to its end.

        Raises:
            StoreError: events cannot be recorded.
        """
        context = EpisodeContext(cast, unit, self.limits, recorder, watch)
        return await play_episode(context, self.name, self._play, without_goals=True)

    async def _play(self, prepared: PreparedEpisode) -> Ending:
        context = prepared.context
        context.watch.live(1)
        try:
            leaf, closed = await open_tree(prepared)
            opened = Playout(leaf, context.goals, closed=closed, counts=Counts(calls=len(leaf.calls)))
            return ending_of(context, await play_out(context, opened))
        finally:
            context.watch.live(-1)
