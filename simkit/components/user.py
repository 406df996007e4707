"""The contract of user simulators: their requests and replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar

from simkit.actors.actor import Request
from simkit.components.state import State
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class UserTurn:
    """An utterance of the user, and whether it ends the conversation.

    `flags` are the simulator's doubts about its own turn, as `kind: detail` (`unknown_value: south`); they are recorded
    with the message and change nothing else. `tokens` and `cost` (US dollars) are the turn's usage, for limits.
    """

    text: str
    end: bool = False
    state: State = None
    flags: tuple[str, ...] = ()
    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Speak(Request[UserTurn]):
    """Request for the user's next utterance; the conversation is empty for the opening.

    A user hears only `conversation.heard()`. `state` is None at the opening.
    """

    key: TurnKey
    task: Task
    conversation: Conversation
    state: State

    def serve(self, user: User, /) -> Awaitable[UserTurn]:
        """Ask a user."""
        return user.speak(self)


class User(ABC):
    """Plays the customer.

    `interactive` means that a person answers at this terminal: the run then shows no progress display, and answers have
    no deadline.
    """

    name: ClassVar[str] = "user"
    forkable: ClassVar[bool] = True
    interactive: ClassVar[bool] = False
    concurrency: int | None = None
    """Maximum number of concurrent requests, None for no limit; further requests wait."""
    sessions: int | None = None
    """Maximum number of concurrently open conversations, None for no limit; further episodes wait before they start."""

    def check_task(self, task: Task) -> None:  # noqa: B027 (no check by default)
        """Check before a run that the user can play a task.

        Raises:
            UsageError: it cannot; the message says what to choose instead.
        """

    @abstractmethod
    async def speak(self, request: Speak) -> UserTurn:
        """The next utterance."""
