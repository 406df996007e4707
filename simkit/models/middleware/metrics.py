"""Counters of model calls while a run goes: what a progress display reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from simkit.errors import ModelFault, RateLimited
from simkit.models.base import Usage


@dataclass(slots=True)
class Meter:
    """Counts since the beginning, except `in_flight` and `waiting`, which are of this moment.

    Attributes:
        calls: model calls that were answered by an endpoint.
        in_flight: calls that hold a place under the concurrency limit.
        waiting: calls that wait for one.
        limit: the concurrency limit as it is now, of all endpoints together.
        rate_limited: attempts answered with 429.
        failed: attempts that failed in any other way.
        replayed: calls answered from a recording.
        usage: tokens and money.
    """

    calls: int = 0
    in_flight: int = 0
    waiting: int = 0
    limit: int = 0
    rate_limited: int = 0
    failed: int = 0
    replayed: int = 0
    usage: Usage = field(default_factory=Usage)

    def answered(self, usage: Usage) -> None:
        """A call was answered."""
        self.calls += 1
        self.usage = self.usage.plus(usage)

    def fault(self, fault: ModelFault) -> None:
        """An attempt failed."""
        if isinstance(fault, RateLimited):
            self.rate_limited += 1
        else:
            self.failed += 1
