"""Limits of a conversation, and what is left of them.

A limit that hits ends a branch with an outcome of its own and is scored like any other ending; it is not an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from simkit.errors import UsageError

LimitOutcome: TypeAlias = Literal["turn_limit", "token_limit", "cost_limit"]

ASK_TIMEOUT = 600.0
"""Seconds a component may take for one answer, if nothing else was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one episode.

    Attributes:
        turns: agent turns at most, counted from the root to the leaf (the paper: 15 for ToolWOZ, 30 for tau-bench).
        steps: decisions (model calls, as a rule) at most in one agent turn.
        wall_seconds: seconds for the whole episode, None for no bound.
        tokens: tokens at most from the root to the leaf, None for no bound.
        cost: money at most (US dollars) from the root to the leaf, None for no bound.
    """

    turns: int = 15
    steps: int = 3
    wall_seconds: float | None = None
    tokens: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("turns", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"the limit `{name}` is {getattr(self, name)}; it must be at least 1")
        for name in ("wall_seconds", "tokens", "cost"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"the limit `{name}` is {value}; it must be positive, or None for no bound")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a branch has used since the root; a child starts from its parent's."""

    turns: int = 0
    tokens: int = 0
    cost: float = 0.0

    def plus(self, *, turns: int = 0, tokens: int = 0, cost: float = 0.0) -> Spent:
        """The same with more used."""
        return Spent(self.turns + turns, self.tokens + tokens, self.cost + cost)

    def exceeded(self, limits: Limits) -> LimitOutcome | None:
        """The outcome of the first limit that is used up, None while there is room."""
        if self.turns >= limits.turns:
            return "turn_limit"
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return "token_limit"
        if limits.cost is not None and self.cost >= limits.cost:
            return "cost_limit"
        return None
