"""Records within events: flat, frozen values that become rows of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from simkit.core.messages import JsonObject, ToolCall, ToolResult, parse_call

BigInt: TypeAlias = Annotated[int, 63]
"""A whole number of up to 63 bits; a plain `int` has up to 31."""

HugeInt: TypeAlias = Annotated[int, 127]
"""A whole number of up to 127 bits."""

Side: TypeAlias = Literal["agent", "user"]
"""Who made a tool call. In most worlds only the agent can."""


@dataclass(frozen=True, slots=True)
class PlannedUnit:
    """One unit of a plan: a task and its trial; `kept` if an earlier attempt of the run finished it."""

    task_id: str
    trial: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class UnplayedUnit:
    """One planned unit that was not played to its end, with the reason."""

    task_id: str
    trial: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentLoad:
    """Load of a component that declares a limit.

    Attributes:
        concurrency, sessions: the declared limits; None for no limit.
        serving, waiting: number of requests being served, and of waiting requests.
        open, queued: number of sessions in use, and of episodes waiting for sessions.
        most_waiting, waited: longest queue of requests so far, and total seconds of waiting.
        most_queued, queued_seconds: the same for episodes that waited for sessions.
    """

    name: str
    concurrency: int | None = None
    serving: int = 0
    waiting: int = 0
    most_waiting: int = 0
    waited: float = 0.0
    sessions: int | None = None
    open: int = 0
    queued: int = 0
    most_queued: int = 0
    queued_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One entry of a conversation. `seq` is its index from the root, `prompt` the hex digest of all earlier entries.

    `flags` are doubts about it (`simkit.components`: `Decision.flags`, `UserTurn.flags`).
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
class CallRecord:
    """One tool call with its result, as read by rewards and kept in the store.

    Attributes:
        seq: index of the message with its result, from the root of the conversation.
        step: number of the decision that made it within its turn, or within the user's answer, from 0.
        arguments: the model's own text, which need not be JSON; `parameters` holds the parsed value.
        result: the JSON value that the tool returned; `error` if it is an error for the agent to read.
        writes: the rows that it changed in its branch of the world.
        seconds: duration of the call.
        by: who made it.
    """

    seq: int
    step: int
    call_id: str
    name: str
    arguments: str
    result: Any
    error: bool
    writes: tuple[JsonObject, ...]
    seconds: float
    by: Side = "agent"
    _parsed: JsonObject | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        call: ToolCall,
        result: ToolResult,
        step: int = 0,
        writes: tuple[JsonObject, ...] = (),
        *,
        seq: int = 0,
        seconds: float = 0.0,
        by: Side = "agent",
    ) -> CallRecord:
        """The record of a call with the result `result`."""
        function = call.function
        return cls(
            seq,
            step,
            call.id,
            function.name,
            function.arguments,
            result.value,
            result.error,
            writes,
            seconds,
            by,
            parse_call(call),
        )

    @property
    def parameters(self) -> JsonObject | None:
        """The arguments by name; None if they are not a JSON object."""
        return self._parsed


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A goal reached in a branch, with the evidence; `credited` if the search took it."""

    goal: str
    evidence: str
    step: int
    credited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of an episode: `turns` on the longest path; `branches`, `faults` and tool `calls` on all paths."""

    turns: int = 0
    branches: int = 0
    faults: int = 0
    calls: int = 0

    def plus(self, *, turn: int = 0, branches: int = 0, faults: int = 0, calls: int = 0) -> Counts:
        """The counts increased by the arguments; `turn` is the length of a path in turns."""
        return Counts(
            turns=max(self.turns, turn),
            branches=self.branches + branches,
            faults=self.faults + faults,
            calls=self.calls + calls,
        )
