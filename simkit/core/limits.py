"""Limits of a conversation, resources spent, and the clock that measures time.

Reaching a limit ends a branch with its own outcome. The branch is scored like any other; a limit is not an error.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

import anyio

from simkit.errors import UsageError

LimitOutcome: TypeAlias = Literal[
    "turn_limit", "decision_limit", "token_limit", "cost_limit", "error_limit", "message_limit"
]

TURNS, STEPS = 15, 3
"""Limits of turns, and of decisions in a turn, where neither the caller nor the world chooses any."""

USER_STEPS = 20
"""Limit of the user's decisions in one answer, where neither the caller nor the world chooses any."""

ASK_TIMEOUT = 600.0
"""Default maximum seconds that a component may take for one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one episode.

    Attributes:
        turns: maximum agent turns, counted from the root to the leaf; None for the world's (15 if it has none).
        steps: maximum decisions (usually model calls) in one agent turn; None for the world's (3 if it has none, 45 for
            an agent that works alone).
        decisions: maximum decisions from the root to the leaf; None for the world's (none, if it has none).
        user_steps: maximum decisions of a user with tools in one answer, of which the last has to speak; None for the
            world's (20 if it has none). A user that exceeds it has failed, so that this is the user's fault.
        errors: maximum tool results that are errors, of agent and user together, from the root to the leaf; None for
            the world's (none, if it has none).
        messages: maximum messages from the root to the leaf; None for the world's (none, if it has none). Each
            decision of the agent and of the user is one, and so are the results of its calls together. What opens the
            conversation does not count: the world's opening, or the first decision of an agent that works alone. The
            limits `errors` and `messages` are checked where no call waits for its result; a conversation that ends with
            the last message has reached its limit, as in tau2-bench.
        wall_seconds: maximum seconds for the whole episode; None for no limit.
        tokens: maximum tokens from the root to the leaf; None for no limit.
        cost: maximum cost in US dollars from the root to the leaf; None for no limit.
    """

    turns: int | None = None
    steps: int | None = None
    decisions: int | None = None
    user_steps: int | None = None
    errors: int | None = None
    messages: int | None = None
    wall_seconds: float | None = None
    tokens: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("turns", "steps", "decisions", "user_steps", "errors", "messages"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"the limit `{name}` is {value}; it must be at least 1")
        for name in ("wall_seconds", "tokens", "cost"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"the limit `{name}` is {value}; it must be positive, or None for no bound")

    def or_else(self, other: Limits) -> Limits:
        """These limits, with those of `other` where these are None."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(other, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Spent:
    """Resources that a branch has used since the root; a child starts with its parent's values."""

    turns: int = 0
    tokens: int = 0
    cost: float = 0.0
    decisions: int = 0
    errors: int = 0
    messages: int = 0

    def plus(
        self,
        *,
        turns: int = 0,
        tokens: int = 0,
        cost: float = 0.0,
        decisions: int = 0,
        errors: int = 0,
        messages: int = 0,
    ) -> Spent:
        """The values increased by the arguments."""
        return Spent(
            self.turns + turns,
            self.tokens + tokens,
            self.cost + cost,
            self.decisions + decisions,
            self.errors + errors,
            self.messages + messages,
        )

    def cut_off(self, limits: Limits) -> LimitOutcome | None:
        """The outcome of a limit that ends a conversation even between the agent's words and the user's answer."""
        if limits.errors is not None and self.errors >= limits.errors:
            return "error_limit"
        if limits.messages is not None and self.messages >= limits.messages:
            return "message_limit"
        return None

    def exceeded(self, limits: Limits) -> LimitOutcome | None:
        """The outcome of the first limit that is reached; None if no limit is."""
        if (outcome := self.cut_off(limits)) is not None:
            return outcome
        if self.turns >= (limits.turns or TURNS):
            return "turn_limit"
        if limits.decisions is not None and self.decisions >= limits.decisions:
            return "decision_limit"
        return self.paid_up(limits)

    def paid_up(self, limits: Limits) -> LimitOutcome | None:
        """The outcome of the limit of tokens or money, if it is reached; None otherwise."""
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return "token_limit"
        if limits.cost is not None and self.cost >= limits.cost:
            return "cost_limit"
        return None


@dataclass(frozen=True, slots=True)
class Clock:
    """Time functions: `now` in seconds since the epoch, `timer` in monotonic seconds, `sleep` for some seconds."""

    now: Callable[[], float] = time.time
    timer: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
