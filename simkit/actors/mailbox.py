"""What travels between actors: typed requests, and the bounded mailbox they wait in."""

from __future__ import annotations

from collections import OrderedDict
from contextvars import Context
from typing import Any, Generic, TypeVar

import anyio

from simkit.errors import UsageError

R_co = TypeVar("R_co", covariant=True)


class Request(Generic[R_co]):
    """A frozen message whose type parameter names its reply: asking a `Request[Decision]` gives a `Decision`."""

    __slots__ = ()


class Letter:
    """A place in a mailbox. An ask waits here for its turn; a tell leaves its message, and the context it came from.

    `called` is set when an ask's turn has come, or when a tell that stood at the door is in.
    """

    __slots__ = ("called", "context", "message")

    def __init__(self, message: Any = None, context: Context | None = None) -> None:
        self.called = anyio.Event()
        self.message = message
        self.context = context


class Mailbox:
    """Letters in the order they came: at most `capacity` inside, later ones stand at the door.

    Only a tell minds standing at the door, because it is held up there; an ask waits for its reply wherever it stands.
    A letter can be taken back at any time, at the same small cost.

    Raises:
        UsageError: the capacity is below 1.
    """

    __slots__ = ("_capacity", "_door", "_inside")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise UsageError(f"a mailbox of {capacity} cannot hold a message; give it a capacity of at least 1")
        self._capacity = capacity
        self._inside: OrderedDict[Letter, None] = OrderedDict()
        self._door: OrderedDict[Letter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._inside) + len(self._door)

    def put(self, letter: Letter) -> bool:
        """Add a letter behind all others; True when it is inside, False when it stands at the door."""
        room = len(self._inside) < self._capacity
        (self._inside if room else self._door)[letter] = None
        return room

    def take(self) -> Letter | None:
        """The first letter, None when there is none; whoever stands at the door moves up."""
        if not self._inside:
            return None
        letter, _ = self._inside.popitem(last=False)
        self._admit()
        return letter

    def take_back(self, letter: Letter) -> None:
        """Remove a letter that has not been taken; one that has been is left alone."""
        if letter in self._inside:
            del self._inside[letter]
            self._admit()
        else:
            self._door.pop(letter, None)

    def _admit(self) -> None:
        if self._door:
            letter, _ = self._door.popitem(last=False)
            self._inside[letter] = None
            if letter.context is not None:
                letter.called.set()
