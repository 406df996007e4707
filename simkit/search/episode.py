"""Episodes: their components and initial state, and the start and end that are common to all searches."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar, cast

import anyio

from simkit.components import checks
from simkit.components.agent import StartAgent
from simkit.components.cast import Cast
from simkit.components.reward import EpisodeReward, ExplainGoals, Hit, ListGoals, ScoreEpisode
from simkit.components.state import BranchState, State
from simkit.components.tools import StartTools
from simkit.core.conversation import Conversation, Entry
from simkit.core.events import Episode, EpisodeStarted, FaultTraced, GoalsExplained, Outcome, ToolsetSeen
from simkit.core.ids import TurnKey
from simkit.core.limits import Limits
from simkit.core.messages import JsonText, ToolSpec, sorted_json
from simkit.core.recorder import Recorder
from simkit.core.records import CallRecord, Counts, MessageRow
from simkit.core.tasks import Goal
from simkit.core.tracebacks import traceback_of
from simkit.errors import (
    Fault,
    LimitHit,
    RewardFault,
    StoreError,
    ToolFault,
    UsageError,
)
from simkit.search.base import Watch, WorkUnit
from simkit.search.consulting import consult, consult_agent, where

if TYPE_CHECKING:
    from simkit.core.tasks import Task

R = TypeVar("R")

LAST_COMMIT_SECONDS = 5.0
"""Maximum seconds that a cancelled episode may take to write its recorded events."""


@dataclass(frozen=True, slots=True)
class EpisodeContext:
    """Components, limits and services of an episode; the same for all its branches.

    Attributes:
        goals: the sparse goals at the start.
        specs, user_specs: the tools of the agent, and those of the user.
        solo: there is no user.
        start: the world state before the first utterance, for the reward; None if states change in place.
    """

    cast: Cast
    unit: WorkUnit
    limits: Limits
    recorder: Recorder
    watch: Watch
    goals: tuple[Goal, ...] = ()
    specs: tuple[ToolSpec, ...] = ()
    user_specs: tuple[ToolSpec, ...] = ()
    solo: bool = False
    start: State = None

    @property
    def task(self) -> Task:
        """The task that is played."""
        return self.unit.task

    def key(self, path: str, turn: int) -> TurnKey:
        """Key of one turn at one position in the tree."""
        return TurnKey(self.unit.run_seed, self.unit.task.id, self.unit.trial, path, turn)


@dataclass(frozen=True, slots=True)
class FinalBranch:
    """End of the path that an episode is scored by."""

    branch_id: str | None
    conversation: Conversation
    world: State = None
    calls: tuple[CallRecord, ...] = ()
    path: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of an episode before scoring; `scored` is False if a fault made the episode unusable.

    If `failed`, the episode gets the reward of a failure, regardless of achieved goals, and the reward component is not
    asked. It is not asked either if `reward` is already set.
    """

    outcome: Outcome
    final: FinalBranch
    achieved: tuple[Hit, ...] = ()
    counts: Counts = field(default_factory=Counts)
    error: str | None = None
    scored: bool = True
    failed: bool = False
    reward: EpisodeReward | None = None


@dataclass(frozen=True, slots=True)
class PreparedEpisode:
    """A prepared episode: the state before the first utterance. `fault` or `limit` is set if preparation failed."""

    context: EpisodeContext
    state: BranchState = field(default_factory=lambda: BranchState(Conversation()))
    fault: Fault | None = None
    limit: LimitHit | None = None


def fault_outcome(fault: Fault) -> Outcome:
    """Outcome in the store of a branch that this fault ended."""
    return cast("Outcome", f"{fault.component}_fault")


def record_fault(context: EpisodeContext, branch: str | None, fault: Fault | None) -> None:
    """Record where the fault that ended a branch was raised; `branch` is None before the first turn.

    Nothing is recorded without a fault, or if no code of a component raised it.
    """
    if fault is None:
        return
    context.watch.fault(fault)
    unit, trace = context.unit, traceback_of(fault)
    if trace:
        component, now = fault.component, time.time()
        context.recorder.record(FaultTraced(unit.run_id, unit.episode_id, branch, component, str(fault), trace, now))


def grown(before: Conversation, entry: Entry) -> tuple[Conversation, MessageRow]:
    """The conversation with one more entry, and the entry's row for the store, with the digest of earlier entries."""
    row = MessageRow(
        seq=len(before),
        turn=entry.turn,
        step=entry.step,
        author=entry.author,
        message=JsonText(entry.message.to_json()),
        heard=entry.heard,
        prompt=before.digest.hex(),
    )
    return before.append(entry), row


def toolset(specs: tuple[ToolSpec, ...]) -> ToolsetSeen:
    """Tool definitions with an id derived from their contents; computed once for episodes that share them."""
    return _toolset(tuple([spec.to_json() for spec in specs]))


@lru_cache(64)
def _toolset(specs: tuple[bytes, ...]) -> ToolsetSeen:
    tools = tuple(ToolSpec.model_validate_json(spec).to_openai() for spec in specs)
    digest = blake2b(sorted_json(tools), digest_size=8)
    return ToolsetSeen(toolset_id=digest.hexdigest(), tools=tools)


async def prepare_episode(context: EpisodeContext, search: str) -> PreparedEpisode:
    """Prepare the components and record the start of the episode.

    Raises:
        UsageError: a component requires something from the caller first (such as missing data).
    """
    prepared = await _set(context)
    tools = toolset(prepared.context.specs)
    context.recorder.record(tools)
    users = toolset(prepared.context.user_specs) if prepared.context.user_specs else None
    if users is not None:
        context.recorder.record(users)
    context.recorder.record(
        EpisodeStarted(
            episode_id=context.unit.episode_id,
            run_id=context.unit.run_id,
            task_id=context.task.id,
            trial=context.unit.trial,
            supervisor=search,
            toolset_id=tools.toolset_id,
            goals=tuple(goal.key for goal in prepared.context.goals),
            at=time.time(),
            attempt=context.unit.attempt,
            user_toolset_id=None if users is None else users.toolset_id,
        )
    )
    return prepared


async def _set(context: EpisodeContext) -> PreparedEpisode:
    try:
        return await _start_components(context)
    except Fault as fault:
        if isinstance(fault.__cause__, UsageError):
            raise fault.__cause__ from fault.__cause__.__cause__  # `from fault` would make the chain a circle
        return PreparedEpisode(context, fault=fault)


async def _start_components(context: EpisodeContext) -> PreparedEpisode:
    players, key = context.cast, context.key("", 0)
    place = where("tools", players.tools, key)
    tools = await consult(players.tools, StartTools(context.task), checks.tools_start, ToolFault, place)
    if tools.user_specs and not players.user_calls:
        names = ", ".join(f"`{spec.name}`" for spec in tools.user_specs[:5])
        raise UsageError(
            f"{context.task.id} gives its user tools ({names}{', ...' if len(tools.user_specs) > 5 else ''}), and the "
            f"user `{players.user.name}` cannot call any; choose a user that can (`calls_tools = True` in its class)"
        )
    place = where("reward", players.reward, key)
    listing = ListGoals(context.task, tools.specs + tools.user_specs)
    goals = await consult(players.reward, listing, checks.goals, RewardFault, place)
    place = where("agent", players.agent, key)
    limits = context.limits.or_else(players.limits)
    ready = replace(
        context,
        limits=limits,
        goals=goals,
        specs=tools.specs,
        user_specs=tools.user_specs,
        solo=tools.solo,
        start=None if hasattr(tools.state, "fork") else tools.state,
    )
    try:
        asked = StartAgent(tools.specs, tools.policy)
        agent = await consult_agent(players.agent, asked, checks.agent_start, place)
    except LimitHit as limit:
        return PreparedEpisode(ready, BranchState(Conversation(), world=tools.state), limit=limit)
    system = () if agent.system is None else (Entry.system(agent.system),)
    conversation = Conversation(system + tools.opening)
    return PreparedEpisode(ready, BranchState(conversation, agent=agent.state, world=tools.state))


async def play_episode(
    context: EpisodeContext,
    search: str,
    act: Callable[[PreparedEpisode], Awaitable[Ending]],
    conversations: int = 1,
    *,
    without_goals: bool = False,
) -> Episode:
    """Run one episode: set it up, call `act` if the task has goals, score and record the result.

    A task without goals is recorded with the outcome `no_goals` and not played, unless the search can do without and
    the reward judges how the episode ends.

    Args:
        context: components, limits and services of the episode.
        search: name of the search.
        act: plays from the opening to the ending.
        conversations: maximum number of concurrent conversations of the search. Before the components are asked
            anything, the episode waits for that number of sessions of each component that limits its sessions.
        without_goals: the search needs no sparse goals.

    Raises:
        UsageError: a component has fewer sessions.
    """
    async with context.cast.sessions(conversations), committed(context.recorder):
        prepared = await prepare_episode(context, search)
        if prepared.fault is not None:
            record_fault(prepared.context, None, prepared.fault)
            ending = broken(prepared.fault)
        elif not (prepared.context.goals or (without_goals and context.cast.final)):
            ending = Ending(outcome="no_goals", final=FinalBranch(None, prepared.state.conversation), scored=False)
        elif prepared.limit is not None:
            ending = Ending(
                outcome=prepared.limit.outcome, final=FinalBranch(None, prepared.state.conversation), failed=True
            )
        else:
            ending = await act(prepared)
        return await _finish(prepared.context, ending)


def broken(fault: Fault) -> Ending:
    """The ending of an episode that a fault stopped before its first turn."""
    final = FinalBranch(None, Conversation())
    return Ending(outcome=fault_outcome(fault), final=final, counts=Counts(faults=1), error=str(fault), scored=False)


async def _finish(context: EpisodeContext, ending: Ending) -> Episode:
    reward = ending.reward
    outcome, error, counts = ending.outcome, ending.error, ending.counts
    if ending.scored and reward is None:
        try:
            reward = await score_ending(context, ending)
        except Fault as fault:
            record_fault(context, ending.final.branch_id, fault)
            outcome, error, counts = fault_outcome(fault), str(fault), counts.plus(faults=1)
    await _explain(context, ending, reward)
    episode = Episode(
        episode_id=context.unit.episode_id,
        reward=None if reward is None else reward.value,
        outcome=outcome,
        achieved=tuple(hit.goal for hit in ending.achieved),
        parts=tuple(asdict(part) for part in reward.parts) if reward else (),
        final_branch_id=ending.final.branch_id,
        turns=counts.turns,
        branches=counts.branches,
        faults=counts.faults,
        error=error,
        calls=counts.calls,
        full_reward=context.cast.reward_range[1],
        goals=tuple(goal.key for goal in context.goals),
    )
    context.recorder.record(episode)
    return episode


async def _explain(context: EpisodeContext, ending: Ending, reward: EpisodeReward | None) -> None:
    """Record the reward's own explanations of missed goals; a failing explanation changes nothing but its traceback."""
    left = [hit.goal for hit in ending.achieved]
    missed = tuple(goal for goal in context.goals if goal.key not in left or left.remove(goal.key))
    if reward is None or ending.failed or not missed:
        return
    ref = context.cast.reward
    request = ExplainGoals(_scored(context, ending), missed)
    try:
        said = await consult(ref, request, checks.explanations, RewardFault, f"reward `{ref.name}`, explaining goals")
    except Fault as fault:
        record_fault(context, ending.final.branch_id, fault)
        return
    if said:
        context.recorder.record(GoalsExplained(context.unit.episode_id, tuple(said), tuple(said.values())))


def _scored(context: EpisodeContext, ending: Ending) -> ScoreEpisode:
    final = ending.final
    return ScoreEpisode(
        task=context.task,
        goals=context.goals,
        achieved=ending.achieved,
        calls=final.calls,
        conversation=final.conversation,
        world=final.world,
        outcome=ending.outcome,
        start=context.start,
        key=context.key(final.path, final.turn),
    )


async def score_ending(context: EpisodeContext, ending: Ending) -> EpisodeReward:
    """Score an ending with the reward component.

    Raises:
        RewardFault: the reward component raised an error, or its reply is invalid.
    """
    if ending.failed:
        return EpisodeReward(context.cast.failure_reward)
    reward, request = context.cast.reward, _scored(context, ending)
    place = f"reward `{reward.name}`, end of {context.task.id}"
    check = checks.reward_within(context.cast.reward_range)
    return await consult(reward, request, check, RewardFault, place)


@asynccontextmanager
async def committed(recorder: Recorder) -> AsyncGenerator[None]:
    """Commit on exit, also on cancellation. This is the only place where a cancelled episode still waits.

    A store error during cancellation is not reported here: the cancellation takes precedence.
    """
    try:
        yield
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(LAST_COMMIT_SECONDS, shield=True), suppress(StoreError):
            await recorder.commit()
        raise
    await recorder.commit()
