"""Receivers of a run's events: the contract, and one that keeps them in memory."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from simkit.core.events import Event


class Recorder(Protocol):
    """Receiver of events. `record` never waits; events recorded before a `commit` that returned survive `kill -9`."""

    def record(self, event: Event) -> None:
        """Queue one event."""
        ...

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written.

        Raises:
            JournalFailed: writing failed; events acknowledged before are not lost.
        """
        ...


class MemoryRecorder:
    """A recorder that keeps its events in a list, for tests, notebooks and programs that need no files."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Append one event."""
        self.events.append(event)

    async def commit(self) -> None:
        """Return immediately."""
