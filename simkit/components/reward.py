"""The contract of rewards: which goals a turn reached, and what an episode is worth."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar

from simkit.actors.actor import Request
from simkit.components.base import State
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

    def serve(self, reward: Reward, /) -> tuple[Goal, ...]:
        """Ask a reward."""
        return reward.goals(self.task)


@dataclass(frozen=True, slots=True)
class ScoreTurn(Request[tuple[Hit, ...]]):
    """Asks which of the remaining goals the calls of one turn reached: each copy once, in the order of the calls."""

    task: Task
    remaining: tuple[Goal, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation

    def serve(self, reward: Reward, /) -> Awaitable[tuple[Hit, ...]]:
        """Ask a reward."""
        return reward.score_turn(self)


@dataclass(frozen=True, slots=True)
class ScoreEpisode(Request[EpisodeReward]):
    """Asks for the reward of a finished episode; `calls` are those on the way from the root to the final leaf."""

    task: Task
    goals: tuple[Goal, ...]
    achieved: tuple[Hit, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation
    world: State

    def serve(self, reward: Reward, /) -> Awaitable[EpisodeReward]:
        """Ask a reward."""
        return reward.score_episode(self)


class Reward:
    """Says what counts, in one turn and over an episode.

    `range` holds the least and the greatest reward an episode can get; a reward outside it is a fault. An episode that
    gets the greatest is a success.
    """

    name: ClassVar[str] = "reward"
    range: tuple[float, float] = (0.0, 1.0)
    concurrency: int | None = None
    """Requests it serves at once, None for no limit; further ones wait for their turn."""
    sessions: int | None = None
    """Conversations it holds open at once, None for no limit; further episodes wait before they begin."""

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The sparse goals of a task; by default those it comes with."""
        return task.goals

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        """The goals reached in one turn; none by default."""
        return ()

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        """The episode's reward; by default the weight of the goals reached over the weight of all."""
        return goal_share(request.goals, request.achieved)


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
