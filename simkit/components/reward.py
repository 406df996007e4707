"""The contract of rewards: which goals a turn reached, and what an episode is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simkit.actors.actor import Request
from simkit.components.base import State, unhandled
from simkit.core.conversation import Conversation
from simkit.core.events import CallRecord
from simkit.core.tasks import Goal, Task


@dataclass(frozen=True, slots=True)
class Hit:
    """A goal that was reached, and what earned it: the id of a tool call, or words."""

    goal: str
    evidence: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class RewardPart:
    """One named part of an episode's reward."""

    name: str
    value: float
    weight: float = 1.0
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeReward:
    """The reward of an episode, within the `range` its reward declares (0 to 1), with its parts."""

    value: float
    parts: tuple[RewardPart, ...] = ()


@dataclass(frozen=True, slots=True)
class ListGoals(Request[tuple[Goal, ...]]):
    """Asks a reward for the sparse goals of a task."""

    task: Task


@dataclass(frozen=True, slots=True)
class ScoreTurn(Request[tuple[Hit, ...]]):
    """Asks which of the remaining goals the calls of one turn reached: each copy once, in the order of the calls."""

    task: Task
    remaining: tuple[Goal, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class ScoreEpisode(Request[EpisodeReward]):
    """Asks for the reward of a finished episode; `calls` are those on the way from the root to the final leaf."""

    task: Task
    goals: tuple[Goal, ...]
    achieved: tuple[Hit, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation
    world: State


class Reward:
    """Says what counts, in one turn and over an episode.

    `range` holds the least and the greatest reward an episode can get; a reward outside it is a fault. An episode that
    gets the greatest is a success.
    """

    name: ClassVar[str] = "reward"
    range: tuple[float, float] = (0.0, 1.0)

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The sparse goals of a task; by default those it comes with."""
        return task.goals

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        """The goals reached in one turn; none by default."""
        return ()

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        """The episode's reward; by default the weight of the goals reached over the weight of all."""
        return goal_share(request.goals, request.achieved)

    async def handle(self, message: object) -> object:
        """Dispatch for the actor runtime."""
        match message:
            case ScoreTurn():
                return await self.score_turn(message)
            case ScoreEpisode():
                return await self.score_episode(message)
            case ListGoals():
                return self.goals(message.task)
            case _:
                raise unhandled(self, message)


def goal_share(goals: tuple[Goal, ...], achieved: tuple[Hit, ...]) -> EpisodeReward:
    """Weight of the goals reached over the weight of all goals; each copy of a goal needs a hit of its own."""
    left = list(achieved)
    parts: list[RewardPart] = []
    for goal in goals:
        hit = next((hit for hit in left if hit.goal == goal.key), None)
        if hit is not None:
            left.remove(hit)
        parts.append(RewardPart(goal.key, float(hit is not None), goal.weight, hit.evidence if hit else ""))
    total = sum(part.weight for part in parts)
    return EpisodeReward(sum(part.value * part.weight for part in parts) / total if total else 0.0, tuple(parts))
