"""Receivers of a run's events: the contract, and one that keeps them in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
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


class LineRecorder(Recorder, Protocol):
    """A recorder that also takes events which a worker has encoded."""

    def record_lines(self, lines: Sequence[bytes]) -> None:
        """Queue encoded events, each a line of JSON."""
        ...


class MemoryRecorder:
    """A recorder that keeps its events in a list, for tests, notebooks and programs that need no files."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lines: list[bytes] = []

    def record(self, event: Event) -> None:
        """Append one event."""
        self.events.append(event)

    def record_lines(self, lines: Sequence[bytes]) -> None:
        """Append encoded events to a list of their own."""
        self.lines += lines

    async def commit(self) -> None:
        """Return immediately."""
