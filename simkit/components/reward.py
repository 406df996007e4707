"""The contract of rewards: goals reached in a turn, and the reward of an episode."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

from simkit.actors.actor import Request
from simkit.components.state import NO_STATE, Stateful, StateT, StateT_co
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolSpec
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task


@dataclass(frozen=True, slots=True)
class Hit:
    """A goal that was reached, with the evidence: the id of a tool call, or text."""

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
    """The reward of an episode, within the declared `range` (0 to 1 by default), with its parts."""

    value: float
    parts: tuple[RewardPart, ...] = ()


@dataclass(frozen=True, slots=True)
class ListGoals(Request[tuple[Goal, ...]]):
    """Request for the sparse goals of a task, which is played with these tools, the agent's and the user's."""

    task: Task
    tools: tuple[ToolSpec, ...]

    def serve(self, reward: Reward, /) -> tuple[Goal, ...]:
        """Ask a reward."""
        reward.check_task(self.task, self.tools)
        return reward.goals(self.task)


@dataclass(frozen=True, slots=True)
class ScoreTurn(Stateful[StateT_co], Request[tuple[Hit, ...]]):
    """Request for the remaining goals that one turn reached: each copy once, in the order of the calls.

    `calls` are those of the turn, `conversation` and `world` the branch after it. The user's answer to a turn is scored
    for itself if the user called tools in it; `calls` are then the user's (`CallRecord.by`). `key` names the turn, for
    model calls.
    """

    task: Task
    remaining: tuple[Goal, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation
    world: StateT_co = NO_STATE
    key: TurnKey | None = None

    def serve(self, reward: Reward[StateT_co], /) -> Awaitable[tuple[Hit, ...]]:
        """Ask a reward."""
        return reward.score_turn(self)


@dataclass(frozen=True, slots=True)
class ScoreEpisode(Stateful[StateT_co], Request[EpisodeReward]):
    """Request for the reward of a finished episode; `calls` are those on the path from the root to the final leaf.

    They include calls of the user's own tools (`CallRecord.by`). `outcome` says how the episode ended (`user_ended`,
    `turn_limit`, ...; `simkit.core.events.Outcome`). `start` is the world state before the first utterance, None in
    worlds whose states are objects with a `fork()`, which change in place. `key` names the last turn, for model calls.
    """

    task: Task
    goals: tuple[Goal, ...]
    achieved: tuple[Hit, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation
    world: StateT_co
    outcome: str = ""
    start: StateT_co = NO_STATE
    key: TurnKey | None = None

    def serve(self, reward: Reward[StateT_co], /) -> Awaitable[EpisodeReward]:
        """Ask a reward."""
        return reward.score_episode(self)


@dataclass(frozen=True, slots=True)
class ExplainGoals(Stateful[StateT_co], Request[Mapping[str, str]]):
    """Request for explanations of the goals that a finished episode missed."""

    episode: ScoreEpisode[StateT_co]
    missed: tuple[Goal, ...]

    def serve(self, reward: Reward[StateT_co], /) -> Awaitable[Mapping[str, str]]:
        """Ask a reward."""
        return reward.explain_goals(self)


class Reward(Generic[StateT]):
    """Decides which goals a turn reached and what an episode is worth.

    `range` holds the lowest and the highest reward of an episode; a reward outside it is a fault. An episode with the
    highest reward is a success.
    """

    name: ClassVar[str] = "reward"
    final: bool = False
    """Whether it judges how an episode ends, so that tasks without sparse goals can be played by searches without
    branches."""
    range: tuple[float, float] = (0.0, 1.0)
    concurrency: int | None = None
    """Maximum number of concurrent requests, None for no limit; further requests wait."""
    sessions: int | None = None
    """Maximum number of concurrently open conversations, None for no limit; further episodes wait before they start."""

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        """Check before an episode that the goals of a task can be reached with these tools; no check by default.

        Raises:
            UsageError: they cannot; the message says what is wrong with the task.
        """

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The sparse goals of a task; by default the task's own."""
        return task.goals

    async def score_turn(self, request: ScoreTurn[StateT]) -> tuple[Hit, ...]:
        """The goals reached in one turn; none by default."""
        return ()

    async def score_episode(self, request: ScoreEpisode[StateT]) -> EpisodeReward:
        """The episode's reward; by default the weight of the goals reached over the weight of all."""
        return goal_share(request.goals, request.achieved)

    async def explain_goals(self, request: ExplainGoals[StateT]) -> Mapping[str, str]:
        """Reasons for missed goals, as a sentence for each key, for people who read the episode (`simkit show`).

        By default empty: the detail of a goal and the calls of the episode are shown.
        """
        return {}


def goal_share(goals: tuple[Goal, ...], achieved: tuple[Hit, ...]) -> EpisodeReward:
    """Weight of the goals reached over the weight of all goals; each copy of a goal needs its own hit."""
    left = list(achieved)
    parts: list[RewardPart] = []
    for goal in goals:
        hit = next((hit for hit in left if hit.goal == goal.key), None)
        if hit is not None:
            left.remove(hit)
        parts.append(RewardPart(goal.key, float(hit is not None), goal.weight, hit.evidence if hit else ""))
    total = sum(part.weight for part in parts)
    return EpisodeReward(sum(part.value * part.weight for part in parts) / total if total else 0.0, tuple(parts))
