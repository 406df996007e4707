"""Live counters of model calls, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass, field

from simkit.errors import ModelFault, RateLimited
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper, Usage


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for an endpoint: why, since when, and until when, in seconds since the epoch."""

    reason: str
    since: float
    until: float


@dataclass(slots=True)
class Health:
    """Availability of one endpoint, shared by all calls to it. Times are those of the clock's timer.

    Attributes:
        answered_at: time of the latest answer of any kind, including error responses.
        failing_since: time of the first failure after the latest answer.
        completed: whether a call has succeeded.
        wait: what the calls wait for, from the first failure until the next success.
    """

    answered_at: float | None = None
    failing_since: float | None = None
    completed: bool = False
    wait: Wait | None = None

    def answered(self, now: float) -> None:
        """Record an answer, including an error response."""
        self.answered_at, self.failing_since = now, None

    def failed(self, now: float, waited: float = 0.0) -> float:
        """Record an unreachable attempt that waited this long for a connection.

        Returns the seconds since the beginning of the first failure after the last answer.
        """
        if self.failing_since is None:
            self.failing_since = now - waited
        return max(waited, now - self.failing_since)

    def waits(self, reason: str, now: float, pause: float) -> None:
        """Record that calls wait; `now` is in seconds since the epoch."""
        self.wait = Wait(reason, now if self.wait is None else self.wait.since, now + pause)


@dataclass(slots=True)
class CallMetrics:
    """Counters since the start of the run; `in_flight`, `waiting` and `limit` are current values.

    Attributes:
        calls: calls answered by a model.
        in_flight: calls that hold a place under the concurrency limit.
        waiting: calls that wait for a place.
        limit: the current concurrency limit, summed over all endpoints.
        rate_limited: attempts answered with 429.
        failed: attempts that failed in any other way.
        replayed: calls answered from a recording.
        usage: tokens and cost, including those that servers reported with failed attempts.
        endpoints: availability of each endpoint.
        adjustments: how requests are adjusted to what endpoints accept, in words.
    """

    calls: int = 0
    in_flight: int = 0
    waiting: int = 0
    limit: int = 0
    rate_limited: int = 0
    failed: int = 0
    replayed: int = 0
    usage: Usage = field(default_factory=Usage)
    endpoints: list[Health] = field(default_factory=list[Health])
    adjustments: list[str] = field(default_factory=list[str])

    def answered(self, usage: Usage) -> None:
        """Count an answered call."""
        self.calls += 1
        self.usage = self.usage.plus(usage)

    def fault(self, fault: ModelFault) -> None:
        """Count a failed attempt."""
        if isinstance(fault, RateLimited):
            self.rate_limited += 1
        else:
            self.failed += 1
        if fault.usage is not None:
            self.usage = self.usage.plus(Usage(*fault.usage))


class MeteredModel(ModelWrapper):
    """Counts the calls of a model without an endpoint; `RetryingModel` counts those of the others."""

    def __init__(self, model: ChatModel, metrics: CallMetrics) -> None:
        super().__init__(model)
        self._metrics = metrics

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The answer of the model.

        Raises:
            ModelFault: what the model raises.
        """
        try:
            response = await self._model.complete(request, key)
        except ModelFault as fault:
            self._metrics.fault(fault)
            raise
        self._metrics.answered(response.usage)
        return response
