"""Events of a run as flat, frozen records: the journal is a sequence of them, and the tables are built from them.

Times are seconds since the epoch, for display only: clocks can go backwards, so nothing is ordered by them.
A record names the run, episode and branch it belongs to, so that records of
different workers need no common order; within one episode they are written in the order of events.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from simkit.core.ids import task_of
from simkit.core.records import (
    BigInt,
    CallRecord,
    ComponentLoad,
    HugeInt,
    MessageRow,
    PlannedUnit,
    RewardRow,
    UnplayedUnit,
)

Outcome: TypeAlias = Literal[
    "user_ended",  # the user ended the conversation
    "agent_ended",  # the agent ended the conversation
    "goals_done",  # every goal was reached
    "turn_limit",
    "decision_limit",
    "token_limit",
    "cost_limit",
    "error_limit",  # too many tool results were errors
    "message_limit",
    "time_limit",
    "context_limit",  # the conversation exceeded the context of the agent's model: the agent failed
    "dropped",  # a sibling won, so this leaf was dropped
    "agent_fault",
    "user_fault",
    "tool_fault",
    "model_fault",
    "reward_fault",
    "worker_fault",  # it ended every worker that played it
    "no_goals",  # the task has no goals: not played, left out of averages
    "cancelled",  # the run was stopped
]


FLOOR, READS_MADE, WRITES_MADE = "floor", "reads_made", "writes_made"
"""Parts of a reward with the weight 0, which are reported as measures: the reward of an agent that does nothing, and
the shares of the calls of the task's solution that were made, of those that change nothing and of those that do."""

MEASURES = (FLOOR, READS_MADE, WRITES_MADE)

IMPORTED = "import"
"""Recipe of runs whose conversations another program played (`simkit import`)."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run started or resumed; `config` is its configuration as JSON.

    `attempt` counts the starts of this run from 0, `number` those of all runs of the store; they define the order, not
    `at`. Runs of older versions lack these numbers.
    """

    run_id: str
    name: str
    recipe: str
    seed: HugeInt
    config: Mapping[str, Any]
    version: str
    at: float
    attempt: int | None = None
    number: BigInt | None = None


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task that a run plays, recorded once per run and journal."""

    run_id: str
    task_id: str
    world: str
    split: str
    instructions: str
    goals: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class UnitsPlanned:
    """Units that a run plans in this attempt; a long plan is split into several events."""

    run_id: str
    attempt: int
    units: tuple[PlannedUnit, ...]
    at: float


@dataclass(frozen=True, slots=True)
class UnitsNotPlayed:
    """Units that this attempt of a run planned and did not play to their end."""

    run_id: str
    attempt: int
    units: tuple[UnplayedUnit, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ShardPlanned:
    """The tasks of one play of a sharded run, recorded by each shard; a long plan is split into several events.

    Shard `shard` of `shards`, counted from 1, plays every `shards`-th task of the run, `trials` times. `play` counts
    the plays of the run from 0; `digest` is the digest of all tasks of the play, with their contents.
    """

    run_id: str
    attempt: int
    play: int
    shard: int
    shards: int
    trials: int
    digest: str
    tasks: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ShardMerged:
    """The end of the lines that were copied from the journal of a shard into that of the whole run.

    `lines` and `digest` are of all its lines so far; `plan` names trials and tasks of each play; `status` and `error`
    say how the shard ended (`running`: it had not).
    """

    run_id: str
    attempt: int
    shard: int
    shards: int
    lines: BigInt
    digest: str
    plan: str
    status: str
    error: str | None
    at: float


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """Code that did not await blocked every conversation of the run for `seconds`.

    `place` is `file:line in function`, of the innermost frame that is neither Python's own nor a library's; `stack`
    holds the frames around it, the innermost last. Both are empty if they could not be determined.
    """

    run_id: str
    seconds: float
    place: str
    stack: str
    at: float


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker was lost: it ended, or did not answer. Others play its `episodes`, which were open.

    `worker` is its number from 0, `place` its process and machine, `reason` what is known of its end.
    """

    run_id: str
    worker: int
    place: str
    episodes: tuple[str, ...]
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class EndpointAdjusted:
    """An adjustment to one model at an endpoint: of its requests, learned from a refusal, or of the default agent.

    `adjustment`, `setting` and `sent_as` are the fields of `simkit.models.adjustments.Adjustment`; `reason` is what
    the server said, or why the model cannot be given tools.
    """

    run_id: str
    endpoint: str
    model: str
    adjustment: str
    setting: str
    sent_as: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class ComponentsWaitedFor:
    """Loads of components that declare a limit, while requests or episodes wait for one, and when they have stopped.

    It is recorded every few seconds while that changes, for observers in other processes.
    """

    run_id: str
    attempt: int
    components: tuple[ComponentLoad, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ToolsetSeen:
    """Tool definitions, recorded once per journal and identified by their digest."""

    toolset_id: str
    tools: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EpisodeStarted:
    """An episode (one conversation or tree) started; `attempt` counts the starts of this episode from 0.

    `user_toolset_id` names the tools of the user, None if it has none.
    """

    episode_id: str
    run_id: str
    task_id: str
    trial: int
    supervisor: str
    toolset_id: str
    goals: tuple[str, ...]
    at: float
    attempt: int | None = None
    user_toolset_id: str | None = None


@dataclass(frozen=True, slots=True)
class BranchAdded:
    """One turn of one path: the agent's part of it. The root (turn 0) holds the system prompt and the opening.

    `parent_id` is None only for the root. `outcome` is set if the branch ended in this turn, otherwise later by
    `BranchEnded`; it stays None for branches that were continued.
    """

    branch_id: str
    episode_id: str
    parent_id: str | None
    path: str
    turn: int
    messages: tuple[MessageRow, ...]
    tool_calls: tuple[CallRecord, ...]
    rewards: tuple[RewardRow, ...]
    outcome: str | None
    error: str | None
    at: float


@dataclass(frozen=True, slots=True)
class BranchExtended:
    """The user's answer, added to the branch it answers, with the calls of the user's own tools and their rewards."""

    branch_id: str
    messages: tuple[MessageRow, ...]
    tool_calls: tuple[CallRecord, ...] = ()
    rewards: tuple[RewardRow, ...] = ()


@dataclass(frozen=True, slots=True)
class BranchEnded:
    """The end of a leaf, if it is known only after its turn."""

    branch_id: str
    outcome: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FaultTraced:
    """The traceback of a fault, recorded after the event that the fault ended.

    Attributes:
        episode_id, branch_id: the episode and the branch that it ended; None for a fault before the first turn, and for
            an error of a recipe, a search or a world, which ends the run.
        component: agent, user, tool, model, reward, or run.
        error: message of the fault.
        traceback: see `simkit.core.tracebacks`.
    """

    run_id: str
    episode_id: str | None
    branch_id: str | None
    component: str
    error: str
    traceback: str
    at: float


@dataclass(frozen=True, slots=True)
class GoalsExplained:
    """A reward's own explanations of the goals that an episode missed: `explanations[i]` belongs to `missed[i]`."""

    episode_id: str
    missed: tuple[str, ...]
    explanations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeHarvested:
    """A reward was taken: the winner, the goals taken, and the branches marked."""

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
    step: BigInt
    attempt: int
    model: str
    request_hash: str
    request: Mapping[str, Any] | None
    response: Mapping[str, Any] | None
    error: str | None
    prompt_tokens: BigInt
    completion_tokens: BigInt
    cost: float
    seconds: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """The result of a work unit, which a search records at its end (as the event `EpisodeFinished`) and returns.

    Attributes:
        reward: None if the episode must be left out of averages (no goals, fault of a rollout).
        outcome: one of `Outcome`.
        achieved: keys of the goals that were reached, out of the initial `goals`.
        parts: the parts of a composed reward.
        branches: agent turns played in all branches; `faults` of them ended in a fault.
        calls: tool calls made in all branches.
        full_reward: the highest attainable reward.
    """

    episode_id: str
    reward: float | None
    outcome: str
    achieved: tuple[str, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = ()
    final_branch_id: str | None = None
    turns: int = 0
    branches: int = 0
    faults: int = 0
    error: str | None = None
    at: float = field(default_factory=time.time)
    calls: int = 0
    full_reward: float = 1.0
    goals: tuple[str, ...] = ()

    @property
    def task_id(self) -> str:
        """The task that was played."""
        return task_of(self.episode_id)[0]

    @property
    def trial(self) -> int:
        """The number of the trial of its task, from 0."""
        return task_of(self.episode_id)[1]

    @property
    def success(self) -> bool | None:
        """Whether it got the full reward; None without a reward."""
        return None if self.reward is None else succeeded(self.reward, self.full_reward)


def succeeded(reward: float, full_reward: float) -> bool:
    """Whether a reward is the full one, with the store's tolerance: sums of weights are not exact."""
    return reward >= full_reward - 1e-9 * max(1.0, abs(full_reward))


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run ended.

    The status is `done`, `failed`, `interrupted` by a person, or `stopped` by a budget or an endpoint. `error` is the
    cause; `stats` holds the resources used (model calls, tokens, money, lag).
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

    A stage that is repeated replaces its earlier values one by one.
    """

    run_id: str
    stage: str
    step: BigInt
    values: Mapping[str, float]
    at: float


@dataclass(frozen=True, slots=True)
class ItemScored:
    """One item of a non-conversational evaluation: a question of a suite, judged or counted.

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
    | ShardPlanned
    | ShardMerged
    | LoopBlocked
    | WorkerGone
    | EndpointAdjusted
    | ComponentsWaitedFor
    | ToolsetSeen
    | EpisodeStarted
    | BranchAdded
    | BranchExtended
    | BranchEnded
    | FaultTraced
    | GoalsExplained
    | TreeHarvested
    | ModelCall
    | Episode
    | Measured
    | ItemScored
    | RunFinished
)


KINDS: Mapping[str, type[Event]] = {
    "EpisodeFinished" if kind is Episode else kind.__name__: kind for kind in get_args(Event)
}
"""Event types by their name in journals."""
