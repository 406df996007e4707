"""The guard: while a model trains it plays dev goals, and training stops and rolls back when it forgets its skills.

Preference losses sum log probabilities over completions that are nearly identical; a learning rate that is a little
too high destroys the syntax of tool calls long before the loss shows it. What the guard measures is what matters: the
share of valid tool calls, and how often the model succeeds when it decodes greedily.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from simkit.errors import UsageError
from simkit.training.dev import DevGoals, DevScore

Keep: TypeAlias = Literal["best", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is watched, and what may not be lost.

    Attributes:
        goals: the dev goals; neither trained on nor tested on.
        every: optimiser steps between two looks; there is one before the first step and one after the last.
        valid_floor: share of valid tool calls that must be left, as a share of what it was at the start.
        success_floor: greedy success that must be left, as a share of what it was at the start.
        keep: which weights are kept when nothing was lost: those of the `best` look, or the `last`.

    Raises:
        UsageError: a value that cannot be.
    """

    goals: DevGoals
    every: int = 50
    valid_floor: float = 0.95
    success_floor: float = 0.75
    keep: Keep = "best"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"the guard looks every {self.every} steps; give at least 1")
        for name in ("valid_floor", "success_floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"the guard's {name} is {getattr(self, name)}; it is a share of the start, 0 to 1")

    def to_json(self) -> dict[str, Any]:
        """The guard as JSON."""
        return {**{name: getattr(self, name) for name in self.__slots__ if name != "goals"}, **self.goals.to_json()}


@dataclass(frozen=True, slots=True)
class Watched:
    """What a guard has seen so far: scores by optimiser step, in order; step 0 is the model before training."""

    guard: Guard
    seen: Mapping[int, DevScore] = field(default_factory=dict[int, DevScore])

    def after(self, step: int, score: DevScore) -> Watched:
        """With one more look."""
        return replace(self, seen=dict(sorted({**self.seen, step: score}.items())))

    def broken(self, step: int) -> str | None:
        """What was lost at a step it has looked at, None when nothing was."""
        start, now = self.seen[0], self.seen[step]
        watched = (
            ("the share of valid tool calls", self.guard.valid_floor, start.valid_calls, now.valid_calls),
            ("success", self.guard.success_floor, start.success, now.success),
        )
        for what, share, before, after in watched:
            if after < share * before - 1e-9:
                floor = share * before
                return f"step {step}: {what} fell from {before:.2f} to {after:.2f}, below the floor of {floor:.2f}"
        return None

    @property
    def kept(self) -> int:
        """The step whose weights are to be kept: the last one, or the best of those at which nothing was lost."""
        sound = [step for step in self.seen if self.broken(step) is None]
        last = max(self.seen)
        if self.guard.keep == "last" and sound[-1] == last:
            return last
        return max(sound, key=lambda step: (*self.seen[step].rank, step))
