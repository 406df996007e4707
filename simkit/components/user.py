"""The contract of user simulators: what a user is asked, and what it replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar

from simkit.actors.actor import Request
from simkit.components.base import State
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user says, and whether the user hangs up with it.

    `flags` are the simulator's doubts about its own turn, as `kind: detail` (`unknown_value: south`); they are recorded
    with the message and change nothing else. `tokens` and `cost` are what the turn used, for limits.
    """

    text: str
    end: bool = False
    state: State = None
    flags: tuple[str, ...] = ()
    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Speak(Request[UserTurn]):
    """Asks the user for the next utterance; the conversation is empty for the opening.

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

    `interactive` says that a person answers at this terminal: a run then draws no progress over the conversation, and
    an answer may take as long as it likes.
    """

    name: ClassVar[str] = "user"
    forkable: ClassVar[bool] = True
    interactive: ClassVar[bool] = False
    concurrency: int | None = None
    """Requests it serves at once, None for no limit; further ones wait for their turn."""
    sessions: int | None = None
    """Conversations it holds open at once, None for no limit; further episodes wait before they begin."""

    def check_task(self, task: Task) -> None:  # noqa: B027 (nothing to check is the rule)
        """Say before a run whether it can play a task.

        Raises:
            UsageError: it cannot; the message says what to choose instead.
        """

    @abstractmethod
    async def speak(self, request: Speak) -> UserTurn:
        """The next utterance."""
