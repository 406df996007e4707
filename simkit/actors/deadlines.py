"""Deadlines of asks: an await that never returns is interrupted, and attributed to its component.

Asks have no timers. One task of the scope checks all running handlers, several times per shortest deadline and at most
twice a second, and counts its checks (ticks). An ask only stores the tick at which its service started, which costs
almost nothing. Time spent waiting for a turn, in a blocked event loop or on a sleeping machine does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

import anyio

from simkit.actors.handling import Job
from simkit.core.limits import ASK_TIMEOUT
from simkit.errors import UsageError

GRACE = 10.0
"""Seconds that a cancelled handler may take to end before it is abandoned."""

_LONGEST = 0.5
_SHARE = 10
"""Number of checks per deadline; determines its precision."""


@dataclass(frozen=True, slots=True)
class AskLimits:
    """Time limits of an ask.

    Attributes:
        seconds: maximum seconds for one answer, not counting time in the run's models; None for no limit.
        grace: seconds that a handler may continue after its cancellation before it is abandoned.

    Raises:
        UsageError: a time is not positive.
    """

    seconds: float | None = ASK_TIMEOUT
    grace: float = GRACE

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise UsageError(f"the deadline of an ask is {self.seconds:g} s; give a positive number, or None for none")
        if not self.grace > 0:
            raise UsageError(f"the grace for a cancelled ask is {self.grace:g} s; give a positive number of seconds")


class Sweeper:
    """Checks the asks of one scope: `run` it in a separate task.

    Args:
        limits: their time limits.
        serving: function that returns all jobs being handled.
    """

    def __init__(self, limits: AskLimits, serving: Callable[[], Iterable[Job]]) -> None:
        self.limits = limits
        self.tick = 0
        self.abandoned: list[str] = []
        self._serving = serving
        shortest = min(limits.grace, limits.seconds or limits.grace)
        self._pause = min(_LONGEST, shortest / _SHARE)
        self._most = None if limits.seconds is None else ceil(limits.seconds / self._pause)
        self._grace = ceil(limits.grace / self._pause)
        self._ends_at: int | None = None
        self._whole = anyio.CancelScope()
        self._after = anyio.CancelScope(shield=True)

    async def run(self) -> None:
        """Check until stopped; after a cancellation, wait for the grace period, then abandon unfinished handlers."""
        with self._whole:
            try:
                while True:
                    await anyio.sleep(self._pause)
                    self._look()
            except anyio.get_cancelled_exc_class():
                with self._after:
                    await self._end_everything()
                raise

    def stop(self) -> None:
        """Stop: no more messages are being handled."""
        self._whole.cancel()
        self._after.cancel()

    def ending(self) -> None:
        """Start the grace period: all handlers have been cancelled."""
        if self._ends_at is None:
            self._ends_at = self.tick + self._grace

    async def _end_everything(self) -> None:
        self.ending()
        while True:
            await anyio.sleep(self._pause)
            self._look()

    def _look(self) -> None:
        self.tick += 1
        for job in tuple(self._serving()):
            if self._ends_at is not None:
                if self.tick >= self._ends_at:
                    self._abandon(job)
            elif job.held:
                job.began += 1
            else:
                self._check(job)

    def _check(self, job: Job) -> None:
        if self._most is None or not job.actor.deadline:
            return
        if not job.overdue and self.tick - job.began > self._most:
            job.expire()
        elif job.overdue and self.tick - job.began > self._most + self._grace:
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        place = job.abandon()
        if place is not None:
            self.abandoned.append(f"`{job.actor.name}`" + (f" at {place}" if place else ""))
