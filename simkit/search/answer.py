"""The user's answer on one branch: calls of the user's own tools, if the world gives it any, and then words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simkit.actors.actor import Stopwatch
from simkit.components import checks
from simkit.components.state import BranchState
from simkit.components.tools import CallTool
from simkit.components.user import Speak, UserResult, UserTurn
from simkit.core.boundary import boundary, location_text
from simkit.core.conversation import Conversation, Entry
from simkit.core.events import Outcome
from simkit.core.ids import TurnKey
from simkit.core.limits import USER_STEPS
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, ToolResult
from simkit.core.records import CallRecord, MessageRow
from simkit.errors import Fault, LimitHit, ToolFault, UserFault, Where
from simkit.search.consulting import consult, where
from simkit.search.episode import EpisodeContext, fault_outcome, grown

NOT_MADE = ToolResult(value="ERROR: not called, because the call before it ended the conversation.", error=True)
"""Result of calls that stand behind one that ended the conversation."""


@dataclass(frozen=True, slots=True)
class UserAnswer:
    """The user's answer to a turn as far as it has been given.

    Attributes:
        state: the branch after the last complete decision of the user; a faulted decision leaves no trace in it.
        messages, calls: messages and calls that the answer added.
        outcome: how the branch ended; None while it can continue.
        fault: the fault that ended it.
    """

    state: BranchState
    messages: tuple[MessageRow, ...] = ()
    outcome: Outcome | None = None
    fault: Fault | None = None
    calls: tuple[CallRecord, ...] = ()

    @property
    def error(self) -> str | None:
        """Message of the fault that ended it."""
        return None if self.fault is None else str(self.fault)

    def failed(self, fault: Fault) -> UserAnswer:
        """The answer as ended by a fault; complete decisions before it are kept for the record."""
        return replace(self, outcome=fault_outcome(fault), fault=fault)


async def ask_user(context: EpisodeContext, key: TurnKey, state: BranchState) -> UserAnswer:
    """The user's answer to the turn of `key`, or the opening at turn 0.

    A user with tools of its own may decide several times: each decision but the last calls tools, whose results it gets
    with the next question. A fault of the user or of its tools is not raised; it becomes the answer's outcome. The same
    is true of a limit that no model call fits into.
    """
    answer, results = UserAnswer(state), tuple[UserResult, ...]()
    steps = context.limits.user_steps or USER_STEPS
    place = where("user", context.cast.user, key)
    try:
        for step in range(steps):
            answer, results = await _decide(context, key, answer, results, step, place)
            if results is None:
                return answer
        raise UserFault(
            f"{location_text(place)}: called tools in {steps} decisions and said nothing; raise the limit "
            "(--user-steps), or let the user speak sooner"
        )
    except LimitHit as limit:
        return replace(answer, outcome=limit.outcome)
    except Fault as fault:
        return answer.failed(fault)


async def _decide(
    context: EpisodeContext,
    key: TurnKey,
    answer: UserAnswer,
    results: tuple[UserResult, ...],
    step: int,
    place: Where,
) -> tuple[UserAnswer, tuple[UserResult, ...] | None]:
    """Let the user decide once: words, or calls, which are made; or raise a fault.

    Returns the answer and the results for the user's next decision; None if there is none.
    """
    state = answer.state
    request = Speak(key, context.task, state.conversation, state.user, context.user_specs, results, step)
    said = await consult(context.cast.user, request, checks.user_turn, UserFault, place)
    if said.calls:
        return await _call_tools(context, key, answer, said, step, place)
    with boundary(UserFault, place):
        conversation, row = grown(state.conversation, Entry.user(said.text, key.turn, step))
    if said.flags:
        row = replace(row, flags=said.flags)
        context.watch.flag(said.flags)
    spent = state.spent.plus(tokens=said.tokens, cost=said.cost, messages=1)
    after = BranchState(conversation, state.agent, said.state, state.world, spent)
    ended: Outcome | None = "user_ended" if said.end else None
    outcome = spent.cut_off(context.limits) or ended  # as in tau2-bench, also if its last message is the end
    return UserAnswer(after, (*answer.messages, row), outcome, None, answer.calls), None


class _CallEffects:
    """Additions of one decision that calls tools; all of them are applied, or none if the decision faults."""

    __slots__ = ("calls", "conversation", "messages", "results", "turn", "world")

    def __init__(self, state: BranchState, key: TurnKey) -> None:
        self.conversation: Conversation = state.conversation
        self.world = state.world
        self.turn = key.turn
        self.messages: list[MessageRow] = []
        self.calls: list[CallRecord] = []
        self.results: list[UserResult] = []

    def write(self, message: Message, step: int, flags: tuple[str, ...] = ()) -> None:
        """Add an entry that only the record has."""
        entry = Entry(message, "user_tool", turn=self.turn, step=step)
        self.conversation, row = grown(self.conversation, entry)
        self.messages.append(replace(row, flags=flags) if flags else row)

    def give(self, call: ToolCall, result: ToolResult, step: int) -> None:
        """Add a result for the user's next decision."""
        self.write(ToolMessage.of(call.id, result.text), step)
        self.results.append(UserResult(call, result))


async def _call_tools(
    context: EpisodeContext, key: TurnKey, answer: UserAnswer, said: UserTurn, step: int, place: Where
) -> tuple[UserAnswer, tuple[UserResult, ...] | None]:
    """Make the calls of one decision of the user."""
    if not context.user_specs:
        raise UserFault(
            f"{location_text(place)}: called `{said.calls[0].name:.80}`, and this world gives its users no tools"
        )
    state, added, ended = answer.state, _CallEffects(answer.state, key), False
    with boundary(UserFault, place):
        added.write(AssistantMessage.of(None, said.calls), step, said.flags)
    if said.flags:
        context.watch.flag(said.flags)
    for call in said.calls:
        if ended:
            added.give(call, NOT_MADE, step)
        else:
            ended = await _call(context, key, added, call, step)
    errors = sum(call.error for call in added.calls)
    spent = state.spent.plus(tokens=said.tokens, cost=said.cost, errors=errors, messages=2)
    outcome: Outcome | None = "user_ended" if ended else spent.cut_off(context.limits) or spent.paid_up(context.limits)
    made = UserAnswer(
        state=BranchState(added.conversation, state.agent, said.state, added.world, spent),
        messages=(*answer.messages, *added.messages),
        outcome=outcome,
        calls=(*answer.calls, *added.calls),
    )
    return made, tuple(added.results) if outcome is None else None


async def _call(context: EpisodeContext, key: TurnKey, added: _CallEffects, call: ToolCall, step: int) -> bool:
    """Make one call of the user; returns whether it ended the conversation."""
    tools, stopwatch = context.cast.tools, Stopwatch()
    place = where("tools", tools, key, f", call {call.id} of `{call.name}` by the user")
    asked = CallTool(context.task, call, added.world, "user")
    reply = await consult(tools, asked, checks.tool_return, ToolFault, place, stopwatch)
    seconds, seq = stopwatch.seconds, len(added.conversation)
    with boundary(UserFault, place):
        added.give(call, reply.result, step)
    added.world = reply.state
    record = CallRecord.of(call, reply.result, step, reply.writes, seq=seq, seconds=seconds, by="user")
    added.calls.append(record)
    return reply.end
