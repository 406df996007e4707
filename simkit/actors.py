"""Interim: replaced by the actor runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import anyio

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class Request(Generic[R_co]):
    """A frozen message whose type parameter names its reply."""

    __slots__ = ()


class Actor(Protocol):
    """Any object with `handle`."""

    async def handle(self, message: Any, /) -> object:
        """Answer one message."""
        ...


class ActorRef:
    """The only address of an actor."""

    def __init__(self, actor: Actor, name: str) -> None:
        self._actor = actor
        self.name = name

    async def ask(self, message: Request[R], *, timeout: float | None = None) -> R:
        """Send a message and wait for its reply."""
        with anyio.fail_after(timeout):
            return await self._actor.handle(message)  # type: ignore[return-value]


class Scope:
    """Owns actors."""

    def spawn(self, actor: Actor, *, name: str | None = None, mailbox: int = 64, concurrency: int = 1) -> ActorRef:
        """Start an actor and return its address."""
        return ActorRef(actor, name or type(actor).__name__)


@asynccontextmanager
async def open_scope() -> AsyncGenerator[Scope]:
    """A scope of actors; leaving it ends them."""
    yield Scope()
