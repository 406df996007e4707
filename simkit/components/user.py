"""The contract of user simulators: their requests and replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar, Generic

from simkit.actors.actor import Request
from simkit.components.state import NO_STATE, Stateful, StateT, StateT_co
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class UserResult:
    """A call that the user made, with its result."""

    call: ToolCall
    result: ToolResult


@dataclass(frozen=True, slots=True)
class UserTurn(Stateful[StateT_co]):
    """An utterance of the user, and whether it ends the conversation; or calls of the user's own tools.

    With `calls`, the text is empty and `end` is false: the calls are made, and the user is asked again with their
    results. `flags` are the simulator's doubts about its own turn, as `kind: detail` (`unknown_value: south`); they are
    recorded with the message and change nothing else. `tokens` and `cost` (US dollars) are its usage, for limits.
    """

    text: str
    end: bool = False
    state: StateT_co = NO_STATE
    flags: tuple[str, ...] = ()
    tokens: int = 0
    cost: float = 0.0
    calls: tuple[ToolCall, ...] = ()

    @staticmethod
    def call(*calls: ToolCall, state: StateT = NO_STATE) -> UserTurn[StateT]:
        """Call the user's own tools, before anything is said."""
        return UserTurn("", state=state, calls=calls)


@dataclass(frozen=True, slots=True)
class Speak(Stateful[StateT_co], Request[UserTurn[StateT_co]]):
    """Request for the user's next utterance, or for calls of the user's own tools before it.

    A user hears only `conversation.heard()`, which is empty for the opening, unless the world begins with words of its
    own. `state` is None when the user is asked for the first time.

    Attributes:
        tools: the user's own tools; empty in most worlds.
        results: the calls that the user's last decision made, with their results; empty for the first decision.
        step: number of the decision within this answer, from 0.
    """

    key: TurnKey
    task: Task
    conversation: Conversation
    state: StateT_co | None
    tools: tuple[ToolSpec, ...] = ()
    results: tuple[UserResult, ...] = ()
    step: int = 0

    def serve(self, user: User[StateT_co], /) -> Awaitable[UserTurn[StateT_co]]:
        """Ask a user."""
        return user.speak(self)


class User(ABC, Generic[StateT]):
    """Plays the customer.

    `interactive` means that a person answers at this terminal: the run then shows no progress display, and answers have
    no deadline.
    """

    name: ClassVar[str] = "user"
    forkable: ClassVar[bool] = True
    interactive: ClassVar[bool] = False
    calls_tools: ClassVar[bool] = False
    """Whether it can call tools of its own. Worlds that give their users tools are refused for users that cannot."""
    concurrency: int | None = None
    """Maximum number of concurrent requests, None for no limit; further requests wait."""
    sessions: int | None = None
    """Maximum number of concurrently open conversations, None for no limit; further episodes wait before they start."""

    def check_task(self, task: Task) -> None:
        """Check before a run that the user can play a task.

        Raises:
            UsageError: it cannot; the message says what to choose instead.
        """

    @abstractmethod
    async def speak(self, request: Speak[StateT]) -> UserTurn[StateT]:
        """The next utterance."""
