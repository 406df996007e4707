"""One agent turn on one branch: decisions until the agent speaks, and its tool calls; scoring of turns and answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from simkit.actors.actor import Stopwatch
from simkit.components import checks
from simkit.components.agent import Act, Decision
from simkit.components.reward import Hit, ScoreTurn
from simkit.components.state import BranchState, State
from simkit.components.tools import CallTool
from simkit.core.boundary import boundary, location_text
from simkit.core.conversation import Author, Entry
from simkit.core.events import Outcome
from simkit.core.ids import TurnKey
from simkit.core.limits import STEPS, TURNS, Spent
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolResult, UserMessage
from simkit.core.records import CallRecord, MessageRow
from simkit.core.tasks import Goal
from simkit.errors import AgentFault, Fault, LimitHit, RewardFault, ToolFault, UserFault, Where
from simkit.search.answer import NOT_MADE, UserAnswer
from simkit.search.consulting import consult, consult_agent, where
from simkit.search.episode import EpisodeContext, fault_outcome, grown

OUT_OF_STEPS = "(The agent did not answer.)"
"""Utterance of the runtime to the user when a turn runs out of decisions; never used for training."""

NOBODY_THERE = "There is no user in this conversation: nobody reads this text. Call a tool"
"""What an agent that works alone is told when it speaks."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn, or the part of it that belongs to a branch, as far as it has been played.

    Attributes:
        key: key of the turn.
        state: the branch after the last complete decision; a faulted decision leaves no trace in it.
        steps: decisions made in this turn, including those of the parent's part.
        messages, calls: messages and calls that this part added, for the record and for the reward.
        over: the agent has spoken, ended the conversation, faulted or run out of steps.
        outcome: how the branch ended; None while it can continue.
        fault: the fault that ended it.
    """

    key: TurnKey
    state: BranchState
    steps: int
    messages: tuple[MessageRow, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    over: bool = False
    outcome: Outcome | None = None
    fault: Fault | None = None

    @property
    def error(self) -> str | None:
        """Message of the fault that ended it."""
        return None if self.fault is None else str(self.fault)

    def failed(self, fault: Fault) -> Turn:
        """The turn as ended by a fault; complete decisions before it are kept for the record."""
        return replace(self, over=True, outcome=fault_outcome(fault), fault=fault)


class _DecisionEffects:
    """Additions of one decision to its branch; either all are applied, or none if the decision faults."""

    __slots__ = ("calls", "conversation", "errors", "messages", "turn", "world")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.conversation = turn.state.conversation
        self.world = turn.state.world
        self.messages = list(turn.messages)
        self.calls = list(turn.calls)
        self.errors = 0

    def write(self, message: Message, author: Author, heard: str | None = None, flags: tuple[str, ...] = ()) -> None:
        """Add an entry for this decision."""
        entry = Entry(message, author, turn=self.turn.key.turn, step=self.turn.steps, heard=heard)
        self.conversation, row = grown(self.conversation, entry)
        self.messages.append(replace(row, flags=flags) if flags else row)

    def taken(self, agent: State, spent: Spent, *, over: bool, outcome: Outcome | None) -> Turn:
        """The turn after this decision, with everything that was added."""
        return Turn(
            key=self.turn.key,
            state=BranchState(self.conversation, agent, self.turn.state.user, self.world, spent),
            steps=self.turn.steps + 1,
            messages=tuple(self.messages),
            calls=tuple(self.calls),
            over=over,
            outcome=outcome,
        )


async def play_turn(
    context: EpisodeContext, key: TurnKey, state: BranchState, *, step: int, at_most: int | None
) -> Turn:
    """Play a turn from decision number `step`: up to `at_most` decisions, or until it is over.

    A fault is not raised; it becomes the turn's outcome. The same is true of a limit that no model call fits into.
    """
    turn = Turn(key, state, steps=step)
    steps = context.limits.steps or (STEPS * TURNS if context.solo else STEPS)
    last = steps if at_most is None else min(steps, step + at_most)
    try:
        while not turn.over and turn.steps < last:
            turn = await _decide(context, turn)
    except LimitHit as limit:
        return replace(turn, over=True, outcome=limit.outcome)
    except Fault as fault:
        return turn.failed(fault)
    return _run_out(context, turn) if not turn.over and turn.steps >= steps else turn


def _run_out(context: EpisodeContext, turn: Turn) -> Turn:
    if context.solo:  # nobody is there to say something else
        return replace(turn, over=True, outcome="decision_limit")
    added, state = _DecisionEffects(turn), turn.state
    added.write(AssistantMessage.of(OUT_OF_STEPS), "runtime", heard=OUT_OF_STEPS)
    return added.taken(state.agent, state.spent.plus(turns=1), over=True, outcome=None)


async def _decide(context: EpisodeContext, turn: Turn) -> Turn:
    """Make one decision with all its calls, completely, or raise a fault."""
    state, agent = turn.state, context.cast.agent
    request = Act(turn.key, state.conversation, context.specs, state.agent, turn.steps)
    place = where("agent", agent, turn.key)
    decision = await consult_agent(agent, request, checks.decision, place)
    added = _DecisionEffects(turn)
    spoken = None if context.solo else decision.say
    with boundary(AgentFault, place):
        added.write(decision.message, "agent", heard=spoken, flags=decision.flags)
        if decision.flags:
            context.watch.flag(decision.flags)
        if decision.note is not None:
            added.write(decision.note, "tool")
    if spoken is not decision.say and not decision.end:
        added.write(_nobody_there(context), "tool")
    ended = decision.end
    for place, call in enumerate(decision.calls):
        if await _call(context, added, decision, call):
            ended = True
            _leave_out(context, added, decision, decision.calls[place + 1 :])
            break
    spent = state.spent.plus(
        tokens=decision.tokens,
        cost=decision.cost,
        decisions=1,
        errors=added.errors,
        messages=_sent(context, state, decision, ended),
    )
    outcome: Outcome | None = spent.cut_off(context.limits)
    if outcome is None:
        outcome = "agent_ended" if ended else spent.exceeded(context.limits) if spoken is None else None
    over = spoken is not None or outcome is not None
    return added.taken(decision.state, spent.plus(turns=1) if over else spent, over=over, outcome=outcome)


def _sent(context: EpisodeContext, state: BranchState, decision: Decision, ended: bool) -> int:
    """The messages that a decision and its results count as, if anybody waits for them.

    The first message of an agent alone is the opening.
    """
    begins = context.solo and not state.spent.decisions
    return 1 + bool(decision.calls and not ended) - begins


def _nobody_there(context: EpisodeContext) -> Message:
    done = ", or `done` if everything is finished" if any(spec.name == "done" for spec in context.specs) else ""
    return UserMessage.of(f"({NOBODY_THERE}{done}.)")


async def _call(context: EpisodeContext, added: _DecisionEffects, decision: Decision, call: ToolCall) -> bool:
    """Make one call; returns whether it ended the conversation."""
    tools, turn, stopwatch = context.cast.tools, added.turn, Stopwatch()
    place = where("tools", tools, turn.key, f", call {call.id} of `{call.name}`")
    asked = CallTool(context.task, call, added.world)
    reply = await consult(tools, asked, checks.tool_return, ToolFault, place, stopwatch)
    seconds, seq = stopwatch.seconds, len(added.conversation)
    _observe(context, added, decision, call, reply.result)
    added.world = reply.state
    added.errors += reply.result.error
    added.calls.append(CallRecord.of(call, reply.result, turn.steps, reply.writes, seq=seq, seconds=seconds))
    return reply.end


def _observe(
    context: EpisodeContext, added: _DecisionEffects, decision: Decision, call: ToolCall, result: ToolResult
) -> None:
    place = where("agent", context.cast.agent, added.turn.key, f", reading the result of `{call.name}`")
    with boundary(AgentFault, place):
        added.write(checks.message(decision.observe(call, result), "`observe` gave"), "tool")


def _leave_out(
    context: EpisodeContext, added: _DecisionEffects, decision: Decision, calls: tuple[ToolCall, ...]
) -> None:
    """Answer the calls behind one that ended the conversation, which are not made: each call needs a result."""
    for call in calls:
        _observe(context, added, decision, call, NOT_MADE)


async def score_turn(context: EpisodeContext, turn: Turn, remaining: tuple[Goal, ...]) -> tuple[Turn, tuple[Hit, ...]]:
    """Score a turn; returns the turn and its hits. There are none if the turn or its reward component faulted.

    There are none either if the conversation exceeded the context of the agent's model: it is not a good example.
    """
    if turn.fault is not None or turn.outcome == "context_limit":
        return turn, ()
    try:
        return turn, await _hits(context, turn.key, remaining, turn.calls, turn.state)
    except Fault as fault:
        return turn.failed(fault), ()


async def score_answer(
    context: EpisodeContext, key: TurnKey, answer: UserAnswer, remaining: tuple[Goal, ...]
) -> tuple[UserAnswer, tuple[Hit, ...]]:
    """Score an answer with calls of the user; returns the answer and its hits, like `score_turn`."""
    try:
        return answer, await _hits(context, key, remaining, answer.calls, answer.state)
    except Fault as fault:
        return answer.failed(fault), ()


async def _hits(
    context: EpisodeContext,
    key: TurnKey,
    remaining: tuple[Goal, ...],
    calls: tuple[CallRecord, ...],
    state: BranchState,
) -> tuple[Hit, ...]:
    """The goals that some calls reached.

    Raises:
        RewardFault: the reward component raised an error, or its reply is invalid.
    """
    reward = context.cast.reward
    place = where("reward", reward, key)
    request = ScoreTurn(context.task, remaining, calls, state.conversation, state.world, key)
    hits = await consult(reward, request, checks.hits, RewardFault, place)
    without(remaining, hits, place)
    return hits


def without(goals: tuple[Goal, ...], hits: tuple[Hit, ...], place: Where = "reward") -> tuple[Goal, ...]:
    """The remaining goals after each hit has removed one copy of its goal.

    Raises:
        RewardFault: a goal has more hits than copies.
    """
    left = list(goals)
    for hit in hits:
        found = next((index for index, goal in enumerate(left) if goal.key == hit.goal), None)
        if found is None:
            raise RewardFault(
                f"{location_text(place)}: hit `{hit.goal:.80}`, of which no copy remains; return each remaining copy "
                "once"
            )
        del left[found]
    return tuple(left)


def fork_branch(state: BranchState, key: TurnKey) -> BranchState:
    """The state for one more branch; a failing `fork()` is a fault of its component.

    Raises:
        Fault: a `fork()` raised an error or returned no state.
    """
    parts: list[State] = []
    for fault, part in ((AgentFault, state.agent), (UserFault, state.user), (ToolFault, state.world)):
        with boundary(fault, partial(_forking, key)):
            parts.append(checks.forked(part))
    agent, user, world = parts
    if agent is state.agent and user is state.user and world is state.world:
        return state
    return BranchState(state.conversation, agent, user, world, state.spent)


def kept_world(state: BranchState, key: TurnKey) -> State:
    """A copy of the current world of a branch, for scoring after the branch has continued.

    Raises:
        ToolFault: its `fork()` raised an error or returned no state.
    """
    with boundary(ToolFault, partial(_forking, key)):
        return checks.forked(state.world)
    raise AssertionError("a boundary lets nothing pass silently")


def _forking(key: TurnKey) -> str:
    return f"forking for turn {key.turn} of {key.task_id} at {key.path or 'the root'}"
