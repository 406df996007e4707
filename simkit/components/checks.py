"""Checks of components' replies against the contracts in `simkit.components`: types, inner types and limits.

Each check takes a reply and returns it as the contract defines it, so that callers see only plain values. Checks run
where an exception is attributed to the component. Their messages follow the words "was answered with".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from math import isfinite
from sys import float_info
from typing import Any, TypeAlias, TypeVar, cast

from simkit.components.agent import AgentStart, Decision, observe_as_tool
from simkit.components.reward import EpisodeReward, Hit, RewardPart
from simkit.components.state import State, fork_state
from simkit.components.tools import ToolReturn, ToolsStart
from simkit.components.user import UserTurn
from simkit.core.conversation import Entry
from simkit.core.messages import (
    AssistantMessage,
    ContentPart,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from simkit.core.tasks import Goal
from simkit.core.values import branch_state, count, number, plain_json, plain_object, shown
from simkit.errors import UsageError, WrongValue

V = TypeVar("V")
Range: TypeAlias = tuple[float, float]

SHARE: Range = (0.0, 1.0)
"""Default range of a reward."""

ROUNDING = 1e-9
"""Tolerance of a reward's range, relative for bounds above 1: sums of shares are not exact."""

BEGINNING = 1_000
"""Number of characters shown of a result that is too large."""

_MOST = float_info.max
_NARROWEST = 1e-6  # a smaller range would be within rounding errors
_STEPS = (1 << 31) - 1
_MESSAGES = (AssistantMessage, UserMessage, ToolMessage, SystemMessage)


# --- agent ------------------------------------------------------------------------------------------------------------


def agent_start(reply: object) -> AgentStart:
    """Check an agent's initial values.

    Raises:
        WrongValue: it is something else.
    """
    start = _exact(reply, AgentStart)
    if start.system is not None:
        _text(start.system, "an AgentStart with the system prompt")
    branch_state(start.state)
    return start


def decision(reply: object) -> Decision:
    """Check an agent's decision.

    Raises:
        WrongValue: it is something else.
    """
    made = reply if type(reply) is Decision else _exact(reply, Decision)
    calls = made.calls
    if type(calls) is not tuple:
        _all(calls, "a Decision with the calls", tool_call)
    for call in calls:
        tool_call(call, "a Decision with the calls")
    message(made.message, "a Decision with the message", checked=calls)
    if made.note is not None:
        message(made.note, "a Decision with the note")
    if made.say is not None and type(made.say) is not str:
        _text(made.say, "a Decision that says")
    if made.end is not True and made.end is not False:
        _flag(made.end, "a Decision with `end`")
    if made.observe is not observe_as_tool and not callable(made.observe):
        raise WrongValue(f"a Decision with `observe` {shown(made.observe)}; give a function of call and result")
    if made.state is not None:
        branch_state(made.state)
    if type(made.flags) is not tuple or made.flags:
        _all(made.flags, "a Decision with the flags", _text)
    tokens = count(made.tokens, "a Decision with `tokens`")
    cost = number(made.cost, "a Decision with `cost`", 0.0, _MOST)
    return made if tokens is made.tokens and cost is made.cost else replace(made, tokens=tokens, cost=cost)


def message(value: object, what: str = "the message", checked: object = None) -> Message:
    """Check a message of a conversation; `checked` are calls that were already checked.

    Raises:
        WrongValue: it is something else.
    """
    if type(value) not in _MESSAGES and not isinstance(value, _MESSAGES):
        raise WrongValue(f"{what} {shown(value)}; give an AssistantMessage, UserMessage, ToolMessage or SystemMessage")
    given = cast("Message", value)
    content: object = given.content
    if content is not None and type(content) is not str:
        _all(content, f"{what} of the content", _part)
    if isinstance(given, AssistantMessage):
        calls = given.tool_calls
        if calls is not None and calls is not checked:
            _all(calls, f"{what} of the calls", tool_call)
    return given


def _part(value: object) -> ContentPart:
    if not isinstance(value, ContentPart):
        raise WrongValue(f"{shown(value)}; give texts, or ContentParts")
    return value


def tool_call(value: object, what: str = "") -> ToolCall:
    """Check a tool call as a model wrote it; `what` starts the error message.

    Raises:
        WrongValue: it is something else.
    """
    if not isinstance(value, ToolCall):
        raise WrongValue(f"{what} {shown(value)}; give ToolCalls".lstrip())
    function = value.function
    if type(value.id) is not str or type(function.name) is not str or type(function.arguments) is not str:
        _text(value.id, f"{what} a call with the id".lstrip())
        _text(function.name, f"{what} a call of the tool".lstrip())
        _text(function.arguments, f"{what} a call with the arguments".lstrip())
    return value


# --- user -------------------------------------------------------------------------------------------------------------


def user_turn(reply: object) -> UserTurn:
    """Check a user's turn.

    Raises:
        WrongValue: it is something else, or speaks and calls tools.
    """
    turn = _exact(reply, UserTurn)
    if turn.calls:
        _all(turn.calls, "a UserTurn with the calls", tool_call)
        if turn.text != "" or turn.end is not False:
            raise WrongValue(
                "a UserTurn that calls tools and speaks or ends; leave the text empty until the results are there"
            )
    _text(turn.text, "a UserTurn with the text")
    _flag(turn.end, "a UserTurn with `end`")
    if type(turn.flags) is not tuple or turn.flags:
        _all(turn.flags, "a UserTurn with the flags", _text)
    if turn.state is not None:
        branch_state(turn.state)
    tokens = count(turn.tokens, "a UserTurn with `tokens`")
    cost = number(turn.cost, "a UserTurn with `cost`", 0.0, _MOST)
    return turn if tokens is turn.tokens and cost is turn.cost else replace(turn, tokens=tokens, cost=cost)


# --- tools ------------------------------------------------------------------------------------------------------------


def tools_start(reply: object) -> ToolsStart:
    """Check the tools of an episode.

    Raises:
        WrongValue: it is something else.
    """
    start = _exact(reply, ToolsStart)
    _specs(start.specs, "a ToolsStart with the specs")
    _specs(start.user_specs, "a ToolsStart with the user's specs")
    _text(start.policy, "a ToolsStart with the policy")
    _flag(start.solo, "a ToolsStart with `solo`")
    _all(start.opening, "a ToolsStart with the opening", _opening_entry)
    if start.solo and start.user_specs:
        raise WrongValue("a ToolsStart that is `solo` and has tools for a user; offer them to the agent (`specs`)")
    branch_state(start.state)
    return start


def _specs(value: object, what: str) -> None:
    specs = _all(value, what, _spec)
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise WrongValue(f"{what}, of which two are called {shown(twice)}; give each a name of its own")


_OPENING_AUTHORS = ("user", "agent", "tool", "user_tool")


def _opening_entry(value: object) -> Entry:
    entry = _exact(value, Entry)
    if entry.author not in _OPENING_AUTHORS:
        raise WrongValue(
            f"an entry by {shown(entry.author)}; give entries by user, agent, tool or user_tool (rules for the agent "
            "belong to `policy`)"
        )
    message(entry.message)
    if entry.heard is not None:
        _text(entry.heard, "an entry with the heard text")
    if entry.turn != 0 or entry.step != 0:
        raise WrongValue(
            f"an entry of turn {shown(entry.turn)}, step {shown(entry.step)}; both must be 0 in an opening"
        )
    return entry


def _spec(value: object) -> ToolSpec:
    if not isinstance(value, ToolSpec):
        raise WrongValue(f"{shown(value)}; give ToolSpecs")
    if not _text(value.name, "a tool called"):
        raise WrongValue("a tool without a name; give it one")
    if value.function.description is not None:
        _text(value.function.description, "a tool with the description")
    if value.function.parameters is not None:
        try:
            plain_object(value.function.parameters)
        except WrongValue as wrong:
            raise WrongValue(f"the parameters of `{value.name:.80}`: {wrong}; give a JSON schema") from None
    return value


def tool_return(reply: object) -> ToolReturn:
    """Check a tool's answer; one that is too large becomes an error for the model, which contains its beginning.

    Raises:
        WrongValue: it is something else, or contains values that are not JSON within the limits.
    """
    found = _exact(reply, ToolReturn)
    result = _result(found.result)
    writes = found.writes
    if type(writes) is not tuple or writes:
        writes = _all(writes, "a ToolReturn with the writes", _write)
    _flag(found.end, "a ToolReturn with `end`")
    if found.state is not None:
        branch_state(found.state)
    if result is found.result and writes is found.writes:
        return found
    return ToolReturn(result, found.state, writes, found.end)


def _result(value: object) -> ToolResult:
    if not isinstance(value, ToolResult):
        raise WrongValue(f"a ToolReturn with the result {shown(value)}; give a ToolResult")
    _flag(value.error, "a ToolResult with `error`")
    try:
        plain, text = plain_json(value.value)
    except WrongValue as wrong:
        if wrong.too_large:
            return _too_large(value, wrong)
        raise WrongValue(f"a ToolResult that holds {wrong}; return JSON values") from None
    if plain is value.value and type(value) is ToolResult:
        return value.with_text(text)
    return ToolResult(value=plain, error=value.error).with_text(text)


def _too_large(result: ToolResult, wrong: WrongValue) -> ToolResult:
    """Error that the model gets instead, so that it does not mistake a part of the result for the whole."""
    notice = {"error": f"this result was left out: it is {wrong}. Ask for less"}
    beginning = {"beginning": result.value[:BEGINNING]} if isinstance(result.value, str) else {}
    return ToolResult(value={**notice, **beginning}, error=True)


def _write(value: object) -> Mapping[str, Any]:
    try:
        return plain_object(value)
    except WrongValue as wrong:
        raise WrongValue(f"{wrong}; give JSON objects") from None


def forked(state: State) -> State:
    """The state for one more branch.

    Raises:
        WrongValue: its `fork()` returned no valid state.
    """
    fork = fork_state(state)
    if fork is None and state is not None:
        raise WrongValue(f"{shown(state)} was forked into None; return the copy from `fork()`")
    return branch_state(fork)


# --- rewards ----------------------------------------------------------------------------------------------------------


def reward_range(value: object, name: str) -> Range:
    """Check the range that a reward declares.

    Raises:
        UsageError: it is not a valid range.
    """
    match value:
        case (float() | int() as low, float() | int() as high) if _is_range(low, high):
            return float(low), float(high)
        case _:
            raise UsageError(
                f"the reward `{name}` declares the range {value!r:.80}; declare two finite numbers, the lower first "
                "and not all but equal: range = (-1.0, 1.0)"
            )


def _is_range(low: float, high: float) -> bool:
    return isfinite(low) and isfinite(high) and low + _NARROWEST <= high


def goals(reply: object) -> tuple[Goal, ...]:
    """Check the goals of a task; equal keys are copies.

    Raises:
        WrongValue: they are something else.
    """
    return _all(reply, "", _goal)


def _goal(value: object) -> Goal:
    goal = _exact(value, Goal)
    _text(goal.key, "a goal with the key")
    weight = number(goal.weight, f"the goal `{goal.key:.80}` with the weight", 0.0, _MOST)
    try:
        detail = plain_object(goal.detail)
    except WrongValue as wrong:
        raise WrongValue(f"the goal `{goal.key:.80}` with the detail {wrong}; give a JSON object") from None
    return goal if detail is goal.detail and weight is goal.weight else replace(goal, detail=detail, weight=weight)


def hits(reply: object) -> tuple[Hit, ...]:
    """Check the goals that a turn reached.

    Raises:
        WrongValue: they are something else.
    """
    return (
        () if type(reply) is tuple and not cast("tuple[object, ...]", reply) else _all(cast("object", reply), "", _hit)
    )


def _hit(value: object) -> Hit:
    hit = _exact(value, Hit)
    _text(hit.goal, "a hit of the goal")
    _text(hit.evidence, "a hit with the evidence")
    step = count(hit.step, "a hit in the step", _STEPS)
    return hit if step is hit.step else replace(hit, step=step)


def explanations(reply: object) -> dict[str, str]:
    """Check a reward's explanations of missed goals.

    Raises:
        WrongValue: they are not a mapping of texts.
    """
    if not isinstance(reply, Mapping):
        raise WrongValue(f"{shown(reply)}; give a mapping from the keys of goals to texts")
    found = {**cast("Mapping[object, object]", reply)}
    return {_text(goal, "the key of a goal"): _text(why, "an explanation") for goal, why in found.items()}


def reward_within(bounds: Range) -> Callable[[object], EpisodeReward]:
    """A check for rewards within `bounds`; a value outside by a rounding error is replaced by the bound."""
    low, high = bounds
    under, over = low - ROUNDING * max(1.0, abs(low)), high + ROUNDING * max(1.0, abs(high))

    def episode_reward(reply: object) -> EpisodeReward:
        found = _exact(reply, EpisodeReward)
        try:
            value = number(found.value, "an EpisodeReward of", under, over)
        except WrongValue as wrong:
            raise WrongValue(f"{wrong}, or declare another `range` in the reward's class") from None
        if not low <= value <= high:
            value = min(max(value, low), high)
        parts = found.parts
        if type(parts) is not tuple or parts:
            parts = _all(parts, "an EpisodeReward with the parts", _reward_part)
        return found if value is found.value and parts is found.parts else EpisodeReward(value, parts)

    return episode_reward


def _reward_part(value: object) -> RewardPart:
    part = _exact(value, RewardPart)
    name = _text(part.name, "a part with the name")
    worth = number(part.value, f"the part `{name:.80}` with the value", -_MOST, _MOST)
    weight = number(part.weight, f"the part `{name:.80}` with the weight", 0.0, _MOST)
    _text(part.evidence, f"the part `{name:.80}` with the evidence")
    return part if worth is part.value and weight is part.weight else replace(part, value=worth, weight=weight)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _exact(value: object, kind: type[V]) -> V:
    """A value of exactly this class; an instance of a subclass is copied field by field into a plain one."""
    if type(value) is kind:
        return value
    if not isinstance(value, kind):
        raise WrongValue(f"{shown(value)}; return a {kind.__name__}")
    return kind(**{each.name: getattr(value, each.name) for each in fields(cast("Any", kind))})


def _text(value: object, what: str = "") -> str:
    if type(value) is str:
        return value
    raise WrongValue(f"{what} {shown(value)}; give a plain text (str)".lstrip())


def _flag(value: object, what: str) -> None:
    if value is not True and value is not False:
        raise WrongValue(f"{what} {shown(value)}; give True or False")


def _all(value: object, what: str, check: Callable[[object], V]) -> tuple[V, ...]:
    """A tuple of checked items: the same tuple unless an item was replaced."""
    if type(value) is not tuple:
        raise WrongValue(f"{what} {shown(value)}; give a tuple".lstrip())
    items = cast("tuple[V, ...]", value)
    try:
        checked = tuple(map(check, items))
    except WrongValue as wrong:
        raise WrongValue(f"{what} {wrong}".lstrip()) from None
    same = all(map(_is, checked, items))
    return items if same else checked


def _is(left: object, right: object) -> bool:
    return left is right
