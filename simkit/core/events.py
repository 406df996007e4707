"""What happens in a run, as flat frozen records: the journal is a sequence of these, the tables are made from them.

Times are seconds since the epoch, for people to read: clocks step back, so nothing is ordered by them.
A record names the run, episode and branch it belongs to, so that records of
different workers need no order among each other; within one episode they are written in the order of events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Outcome: TypeAlias = Literal[
    "user_ended",  # the user hung up
    "agent_ended",  # the agent ended the conversation
    "goals_done",  # every goal was reached
    "turn_limit",
    "token_limit",
    "cost_limit",
    "time_limit",
    "context_limit",  # the conversation outgrew the context of the agent's model: the agent has failed
    "dropped",  # a sibling won, this leaf was cut
    "agent_fault",
    "user_fault",
    "tool_fault",
    "model_fault",
    "reward_fault",
    "no_goals",  # the task has no goal: not run, left out of averages
    "cancelled",  # the run was stopped
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run began, or went on; `config` is what it was asked to do, as JSON.

    `attempt` counts the starts of this run from 0, `number` those of all runs of the store: order follows from them,
    never from `at`. Runs of versions before these numbers have none.
    """

    run_id: str
    name: str
    recipe: str
    seed: int
    config: Mapping[str, Any]
    version: str
    at: float
    attempt: int = 0
    number: int | None = None


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task a run works on, recorded once per run and journal."""

    run_id: str
    task_id: str
    world: str
    split: str
    instructions: str
    goals: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class PlannedUnit:
    """One unit of a plan: a task and its trial; `kept` when an earlier part of the run has finished it."""

    task_id: str
    trial: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class UnitsPlanned:
    """Some of the units a run means to play in this part of it; a long plan is several of these."""

    run_id: str
    attempt: int
    units: tuple[PlannedUnit, ...]
    at: float


@dataclass(frozen=True, slots=True)
class UnplayedUnit:
    """One unit that was planned and not played to its end, and why."""

    task_id: str
    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class UnitsNotPlayed:
    """Units that this part of a run planned and did not play to their end."""

    run_id: str
    attempt: int
    units: tuple[UnplayedUnit, ...]
    at: float


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """Code that did not await held up every conversation of the run for so many seconds.

    `place` is `file:line in function`, of the innermost frame that is neither Python's own nor a library's; `stack`
    holds the frames around it, the innermost last. Empty where it could not be seen.
    """

    run_id: str
    seconds: float
    place: str
    stack: str
    at: float


@dataclass(frozen=True, slots=True)
class ToolsetSeen:
    """Tool definitions, recorded once per journal and named by their digest."""

    toolset_id: str
    tools: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EpisodeStarted:
    """One conversation (or one tree of them) began; `attempt` counts the starts of this episode from 0."""

    episode_id: str
    run_id: str
    task_id: str
    trial: int
    supervisor: str
    toolset_id: str
    goals: tuple[str, ...]
    at: float
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One entry of a conversation. `seq` is its index from the root, `prompt` the hex digest of all before it.

    `flags` are a user simulator's doubts about its own words (`simkit.components.user.UserTurn`).
    """

    seq: int
    turn: int
    step: int
    author: str
    message: Mapping[str, Any]
    heard: str | None
    prompt: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallRow:
    """One tool call of a branch: `seq` is that of the message with its result, `arguments` is the model's text."""

    seq: int
    step: int
    call_id: str
    name: str
    arguments: str
    result: Any
    error: bool
    writes: tuple[Mapping[str, Any], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A goal reached in a branch, and what earned it; `credited` when the search took it."""

    goal: str
    evidence: str
    step: int
    credited: bool


@dataclass(frozen=True, slots=True)
class BranchAdded:
    """One turn of one path: the agent's part of it. The root (turn 0) holds the system prompt and the opening.

    `parent_id` is None for the root alone. `outcome` is set when the branch ended in this turn, else later by
    `BranchEnded`; branches that were continued keep None.
    """

    branch_id: str
    episode_id: str
    parent_id: str | None
    path: str
    turn: int
    messages: tuple[MessageRow, ...]
    tool_calls: tuple[ToolCallRow, ...]
    rewards: tuple[RewardRow, ...]
    outcome: str | None
    error: str | None
    at: float


@dataclass(frozen=True, slots=True)
class BranchExtended:
    """The user's answer, added to the branch it answers."""

    branch_id: str
    messages: tuple[MessageRow, ...]


@dataclass(frozen=True, slots=True)
class BranchEnded:
    """How a leaf ended, when that is known only after its turn."""

    branch_id: str
    outcome: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TreeHarvested:
    """A reward was taken: who won, which goals it took, and which branches are marked by it."""

    episode_id: str
    harvest: int
    winner_id: str
    goals: tuple[str, ...]
    successful: tuple[str, ...]
    golden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One attempt of a model call; `key` repeats for retries, `attempt` counts from 0."""

    episode_id: str
    branch_id: str
    role: str
    step: int
    attempt: int
    model: str
    request_hash: str
    request: Mapping[str, Any] | None
    response: Mapping[str, Any] | None
    error: str | None
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class EpisodeFinished:
    """An episode ended. `reward` is None when it must be left out of averages (no goals, fault of a rollout).

    `calls` counts tool calls; a reward of `full_reward` is a success.
    """

    episode_id: str
    reward: float | None
    outcome: str
    achieved: tuple[str, ...]
    parts: tuple[Mapping[str, Any], ...]
    final_branch_id: str | None
    turns: int
    branches: int
    faults: int
    error: str | None
    at: float
    calls: int = 0
    full_reward: float = 1.0


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run ended.

    `done`, `failed`, `interrupted` by a person, or `stopped` by a budget or an endpoint; `error` says what by, `stats`
    what it took (model calls, tokens, money, lag).
    """

    run_id: str
    status: Literal["done", "failed", "interrupted", "stopped"]
    summary: Mapping[str, Any]
    at: float
    error: str | None = None
    stats: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers of a stage at a step (loss after 20 steps of training, success on dev goals after round 1).

    A stage that is done again replaces, number by number, what it measured before.
    """

    run_id: str
    stage: str
    step: int
    values: Mapping[str, float]
    at: float


@dataclass(frozen=True, slots=True)
class ItemScored:
    """One item of an evaluation that is no conversation: a question of a suite, judged or counted.

    `item` names the same question in every run, so that runs can be compared pair by pair; `detail` is JSON.
    """

    run_id: str
    suite: str
    item: str
    metric: str
    value: float
    at: float
    trial: int = 0
    detail: Mapping[str, Any] | None = None


Event: TypeAlias = (
    RunStarted
    | TaskSeen
    | UnitsPlanned
    | UnitsNotPlayed
    | LoopBlocked
    | ToolsetSeen
    | EpisodeStarted
    | BranchAdded
    | BranchExtended
    | BranchEnded
    | TreeHarvested
    | ModelCall
    | EpisodeFinished
    | Measured
    | ItemScored
    | RunFinished
)


class Recorder(Protocol):
    """Takes events. `record` never waits; what was recorded before a `commit` returned survives `kill -9`."""

    def record(self, event: Event) -> None:
        """Queue one event."""
        ...

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written.

        Raises:
            JournalFailed: it could not be; nothing acknowledged before is lost.
        """
        ...


class MemoryRecorder:
    """A recorder that keeps its events in a list: for tests, notebooks and programs that want no files."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Keep one event."""
        self.events.append(event)

    async def commit(self) -> None:
        """Nothing to wait for."""
