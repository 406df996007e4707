"""An agent and a user that follow a list, for testing recipes without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, TypeAlias, final

from simkit.components.agent import Act, Agent, Decision
from simkit.components.user import Speak, User, UserTurn
from simkit.core.messages import JsonObject, ToolCall
from simkit.errors import UsageError

Line: TypeAlias = str | tuple[str, JsonObject] | Decision
"""One step of a fixed agent: a text to say, one tool call (name, arguments), or a decision."""

UserLine: TypeAlias = str | tuple[str, JsonObject] | UserTurn
"""One step of a fixed user: a text to say, one call of a tool of its own (name, arguments), or a turn."""


@final
class FixedAgent(Agent[int]):
    """Takes its decisions from a list, one after another, and repeats the last; the state is the position.

    Raises:
        UsageError: the list is empty.
    """

    name: ClassVar[str] = "fixed"

    def __init__(self, decisions: Sequence[Line]) -> None:
        if not decisions:
            raise UsageError("a fixed agent needs at least one decision")
        self._lines = tuple(decisions)

    async def act(self, request: Act[int]) -> Decision[int]:
        """The next decision of the list."""
        position: int = request.state or 0
        line = self._lines[min(position, len(self._lines) - 1)]
        match line:
            case Decision():
                return replace(line, state=position + 1)
            case str():
                return Decision.speak(line, state=position + 1)
            case (tool, arguments):
                call = ToolCall.of(f"call_{position}", tool, arguments)
                return Decision.call(call, state=position + 1)


@final
class FixedUser(User[int]):
    """Follows a list, calls of its own tools included, and hangs up with the last line; the state is the position.

    Raises:
        UsageError: the list is empty, or ends with a call.
    """

    name: ClassVar[str] = "fixed"
    calls_tools: ClassVar[bool] = True

    def __init__(self, lines: Sequence[UserLine]) -> None:
        if not lines:
            raise UsageError("a fixed user needs at least one line")
        if not isinstance(lines[-1], str) and (isinstance(lines[-1], tuple) or lines[-1].calls):
            raise UsageError("the last line of a fixed user is a call; let it say something afterwards")
        self._lines = tuple(lines)

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        """The next line of the list."""
        position = min(request.state or 0, len(self._lines) - 1)
        line = self._lines[position]
        match line:
            case UserTurn():
                return replace(line, state=position + 1)
            case str():
                return UserTurn(line, end=position == len(self._lines) - 1, state=position + 1)
            case (tool, arguments):
                return UserTurn[int].call(ToolCall.of(f"user_{position}", tool, arguments), state=position + 1)


def fixed_agent(decisions: Sequence[Line]) -> FixedAgent:
    """An agent that follows a list of texts, `(tool, arguments)` pairs and decisions."""
    return FixedAgent(decisions)


def fixed_user(lines: Sequence[UserLine]) -> FixedUser:
    """A user that follows a list of texts, `(tool, arguments)` pairs and turns, and hangs up with the last text."""
    return FixedUser(lines)
