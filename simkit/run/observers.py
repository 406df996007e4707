"""Observation of a run: event-loop lag, and taps that receive every event as it is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import anyio

from simkit.core.boundary import described
from simkit.core.events import EndpointAdjusted, Event, RunStarted
from simkit.core.recorder import LineRecorder
from simkit.errors import UsageError
from simkit.store.encoding import decode

EVERY = 0.1
"""Seconds between two measurements."""


@dataclass(slots=True)
class Lag:
    """Event-loop lag: seconds by which a wake-up was late.

    The cause is work between two awaits: a component that computes or reads a file instead of awaiting.
    """

    now: float = 0.0
    worst: float = 0.0
    total: float = 0.0
    looks: int = 0

    @property
    def mean(self) -> float:
        """Mean of all measurements, in seconds."""
        return self.total / self.looks if self.looks else 0.0

    def look(self, late: float) -> None:
        """Record one measured delay in seconds."""
        self.now = max(0.0, late)
        self.worst = max(self.worst, self.now)
        self.total += self.now
        self.looks += 1

    async def watch(self, beat: Callable[[], None] = lambda: None) -> None:
        """Measure every tenth of a second until cancelled; `beat` is called after each measurement."""
        while True:
            began = perf_counter()
            await anyio.sleep(EVERY)
            self.look(perf_counter() - began - EVERY)
            beat()

    def to_json(self) -> dict[str, Any]:
        """Values in seconds, as stored."""
        return {"mean": round(self.mean, 6), "worst": round(self.worst, 6)}


class Tap(Protocol):
    """Callback for every event of a run, in the order of recording. It must return quickly and must not raise."""

    def __call__(self, event: Event) -> None:
        """Receive an event that was recorded."""
        ...


class DeferredRecorder:
    """A recorder that holds back the start of a run, and what follows from its configuration alone.

    It records them when another event is recorded or a commit is requested.

    Until then the run can be forgotten without leaving a trace.
    """

    def __init__(self, recorder: LineRecorder, *, hold: bool = True) -> None:
        self._recorder = recorder
        self._hold = hold
        self._held: list[Event] = []
        self._forgotten = False

    def record(self, event: Event) -> None:
        """Queue one event."""
        if self._forgotten:
            return
        if self._hold and isinstance(event, (RunStarted, EndpointAdjusted)):
            self._held.append(event)
            return
        self._release()
        self._recorder.record(event)

    def record_lines(self, lines: Sequence[bytes]) -> None:
        """Queue events that a worker has encoded."""
        if not self._forgotten:
            self._release()
            self._recorder.record_lines(lines)

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written."""
        if self._forgotten:
            return _nothing()
        self._release()
        return self._recorder.commit()

    def forget(self) -> bool:
        """Discard the held start and all later events; False if it is too late for that."""
        self._forgotten = bool(self._held)
        return self._forgotten

    def _release(self) -> None:
        for event in self._held:
            self._recorder.record(event)
        self._held, self._hold = [], False


class TappedRecorder:
    """A recorder that passes every event to taps as well."""

    def __init__(self, recorder: LineRecorder, taps: Sequence[Tap]) -> None:
        self._recorder = recorder
        self._taps = tuple(taps)

    def record(self, event: Event) -> None:
        """Queue one event and pass it to the taps."""
        self._recorder.record(event)
        self._tap(event)

    def record_lines(self, lines: Sequence[bytes]) -> None:
        """Queue events that a worker has encoded, and pass them to the taps."""
        self._recorder.record_lines(lines)
        for line in lines:
            self._tap(decode(line))

    def _tap(self, event: Event) -> None:
        for tap in self._taps:
            try:
                tap(event)
            except (Exception, KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # must not look like a cancellation or the end of the program
                raise UsageError(f"a tap failed at {type(event).__name__}: {described(error)}") from error

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written."""
        return self._recorder.commit()


async def _nothing() -> None:
    pass
