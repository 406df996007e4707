"""The contract of user simulators: what a user is asked, and what it replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from simkit.actors.actor import Request
from simkit.components.base import State, unhandled
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


class User(ABC):
    """Plays the customer.

    `interactive` says that a person answers at this terminal: a run then has one conversation at a time and draws no
    progress over it.
    """

    name: ClassVar[str] = "user"
    forkable: ClassVar[bool] = True
    interactive: ClassVar[bool] = False

    def check_task(self, task: Task) -> None:  # noqa: B027 (nothing to check is the rule)
        """Say before a run whether it can play a task.

        Raises:
            UsageError: it cannot; the message says what to choose instead.
        """

    @abstractmethod
    async def speak(self, request: Speak) -> UserTurn:
        """The next utterance."""

    async def handle(self, message: object) -> object:
        """Dispatch for the actor runtime."""
        match message:
            case Speak():
                return await self.speak(message)
            case _:
                raise unhandled(self, message)
