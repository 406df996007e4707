"""State of `AgentLoop`: what the loop has done so far in a branch, from which it can be run again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from simkit.core.conversation import Conversation
from simkit.core.messages import JsonObject
from simkit.models.base import ChatRequest, ChatResponse, request_hash


@dataclass(frozen=True, slots=True)
class Answered:
    """A model call of the loop: the hash of its request, and the response."""

    request: str
    response: ChatResponse

    @property
    def identity(self) -> tuple[str, str]:
        """What a repeated step has in common with this one."""
        return ("model", self.request)

    def __str__(self) -> str:
        return "a call of the model"


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call of the loop: its name, its arguments as JSON text, and the text of the result once it is known."""

    name: str
    arguments: str
    result: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What a repeated step has in common with this one."""
        return (f"call {self.name}", canonical(self.arguments))

    def __str__(self) -> str:
        return f"the call {self.name}({self.arguments:.200})"


@dataclass(frozen=True, slots=True)
class Replied:
    """A reply of the loop to the user, and what the user said then.

    Attributes:
        text: what the user heard.
        end: whether the reply ends the conversation.
        memory: what the loop wants to have when it is run again from here; None to run it from its beginning.
        result: the user's answer once it is known.
    """

    text: str
    end: bool = False
    memory: Any = None
    result: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What a repeated step has in common with this one."""
        return ("reply", self.text)

    def __str__(self) -> str:
        return f"the reply {self.text!r:.200}"


Pause: TypeAlias = Called | Replied
"""A step for which the loop waits until the run has carried it out."""

Step: TypeAlias = Answered | Called | Replied
"""A finished step of a loop."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a loop begins: the conversation so far, and its memory; None at the beginning of an episode."""

    conversation: Conversation
    memory: Any = None


@dataclass(frozen=True, slots=True)
class Trail:
    """The state of a branch.

    Attributes:
        policy: the world's rules for agents.
        beginning: where the loop began; None before the first turn.
        steps: its finished steps since then.
        pause: what it waits for.
        seen: number of entries of the conversation when it made its last decision.
        turn, calls: the current turn, and the number of model calls in it.
        held: refers to the loop that waits at this pause, if it still does.
    """

    policy: str = ""
    beginning: Beginning | None = None
    steps: tuple[Step, ...] = ()
    pause: Pause | None = None
    seen: int = 0
    turn: int = 0
    calls: int = 0
    held: object = field(default=None, compare=False, repr=False)


class Record:
    """Steps that a loop has to repeat before it does anything new.

    Steps that run at the same time may come in another order, so a step repeats the first equal one that is left.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = list(steps)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def take(self, identity: tuple[str, str]) -> Step | None:
        """Remove and return the first step with this identity before the next reply; None if there is none."""
        for place, step in enumerate(self._steps):
            if step.identity == identity:
                return self._steps.pop(place)
            if isinstance(step, Replied):
                return None
        return None

    def __str__(self) -> str:
        return str(self._steps[0]) if self._steps else "nothing"


def canonical(arguments: str) -> str:
    """JSON text with sorted keys; text that is no JSON is unchanged."""
    try:
        return orjson.dumps(orjson.loads(arguments), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        return arguments


def hash_of(request: ChatRequest) -> str:
    """Hash of a request, whatever its seed."""
    return request_hash("", request)


def written(arguments: JsonObject) -> str:
    """Arguments as JSON text.

    Raises:
        TypeError: they are no JSON values.
    """
    return orjson.dumps(dict(arguments)).decode()
