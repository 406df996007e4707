"""The guard: the model plays dev goals during training, which stops and rolls back if it loses skills.

Preference losses sum log probabilities over nearly identical completions. A learning rate that is slightly too high
destroys the syntax of tool calls long before the loss shows it. The guard therefore measures the share of valid tool
calls, and the success rate with greedy decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal, TypeAlias

from simkit.errors import UsageError
from simkit.training.dev import ConversationSetup, DevScore

LOOKS = 10
"""Default number of measurements during a training."""

Keep: TypeAlias = Literal["best", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Configuration of a guard: its measurements and their floors.

    Attributes:
        place: the dev goals and their players; the goals are used neither for training nor for testing.
        every: optimizer steps between two measurements; None for a tenth of the training. There is also one before the
            first step and one after the last.
        valid_floor: minimum share of valid tool calls, relative to the share before training.
        success_floor: minimum greedy success, relative to the success before training.
        keep: the weights to keep if no floor was missed: those of the `best` measurement, or the `last`.

    Raises:
        UsageError: a value is invalid.
    """

    place: ConversationSetup
    every: int | None = None
    valid_floor: float = 0.95
    success_floor: float = 0.75
    keep: Keep = "best"

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise UsageError(f"the guard looks every {self.every} steps; give at least 1")
        for name in ("valid_floor", "success_floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"the guard's {name} is {getattr(self, name)}; it is a share of the start, 0 to 1")

    def interval(self, steps: int) -> int:
        """Optimizer steps between two measurements in a training of `steps` steps."""
        return self.every or max(1, ceil(steps / LOOKS))


@dataclass(frozen=True, slots=True)
class GuardHistory:
    """Measurements of a guard: scores by optimizer step, in order. Step 0 is the model before training."""

    guard: Guard
    seen: Mapping[int, DevScore] = field(default_factory=dict[int, DevScore])

    def after(self, step: int, score: DevScore) -> GuardHistory:
        """A copy with one more measurement."""
        return replace(self, seen=dict(sorted({**self.seen, step: score}.items())))

    def broken(self, step: int) -> str | None:
        """The floor that was missed at a measured step; None if none was."""
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
        """The step whose weights to keep: the last one, or the best of those that met the floors."""
        sound = [step for step in self.seen if self.broken(step) is None]
        last = max(self.seen)
        if self.guard.keep == "last" and sound[-1] == last:
            return last
        return max(sound, key=lambda step: (*self.seen[step].rank, step))
