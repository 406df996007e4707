"""Watching a run: how late its event loop is, and taps, which are told of every event as it is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import anyio

from simkit.core.boundary import described
from simkit.core.events import Event, Recorder, RunStarted
from simkit.errors import UsageError

EVERY = 0.1
"""Seconds between two looks at the clock."""


@dataclass(slots=True)
class Lag:
    """How much later than it should the event loop came back, in seconds.

    What holds it up is work between two awaits: a component that computes or reads a file where it should wait.
    """

    now: float = 0.0
    worst: float = 0.0
    total: float = 0.0
    looks: int = 0

    @property
    def mean(self) -> float:
        """Over all looks."""
        return self.total / self.looks if self.looks else 0.0

    def look(self, late: float) -> None:
        """The loop was so late."""
        self.now = max(0.0, late)
        self.worst = max(self.worst, self.now)
        self.total += self.now
        self.looks += 1

    async def watch(self, beat: Callable[[], None] = lambda: None) -> None:
        """Look every tenth of a second, until cancelled; `beat` is called at each look."""
        while True:
            began = perf_counter()
            await anyio.sleep(EVERY)
            self.look(perf_counter() - began - EVERY)
            beat()

    def to_json(self) -> dict[str, Any]:
        """In seconds, as the store keeps it."""
        return {"mean": round(self.mean, 6), "worst": round(self.worst, 6)}


class Tap(Protocol):
    """Told of every event of a run, in the order they are recorded: must return at once, and must not raise."""

    def __call__(self, event: Event) -> None:
        """An event was recorded."""
        ...


class HeldRecorder:
    """A recorder that keeps the beginning of a run to itself until something else is recorded or asked for.

    Until then the run can be forgotten, as if it had never been.
    """

    def __init__(self, recorder: Recorder, *, hold: bool = True) -> None:
        self._recorder = recorder
        self._hold = hold
        self._held: RunStarted | None = None
        self._forgotten = False

    def record(self, event: Event) -> None:
        """Queue one event."""
        if self._forgotten:
            return
        if self._hold and isinstance(event, RunStarted):
            self._held = event
            return
        self._release()
        self._recorder.record(event)

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written."""
        if self._forgotten:
            return _nothing()
        self._release()
        return self._recorder.commit()

    def forget(self) -> bool:
        """Record nothing, not even the beginning; False when that is too late."""
        self._forgotten = self._held is not None
        return self._forgotten

    def _release(self) -> None:
        if self._held is not None:
            self._recorder.record(self._held)
            self._held = None


class TappedRecorder:
    """A recorder that also tells taps."""

    def __init__(self, recorder: Recorder, taps: Sequence[Tap]) -> None:
        self._recorder = recorder
        self._taps = tuple(taps)

    def record(self, event: Event) -> None:
        """Queue one event, and tell the taps."""
        self._recorder.record(event)
        for tap in self._taps:
            try:
                tap(event)
            except (Exception, KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # must not pass for a cancellation, or for the end of the program
                raise UsageError(f"a tap failed at {type(event).__name__}: {described(error)}") from error

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written."""
        return self._recorder.commit()


async def _nothing() -> None:
    pass
