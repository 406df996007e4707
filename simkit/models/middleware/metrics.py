"""Live counters of model calls, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass, field

from simkit.errors import ModelFault, RateLimited
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage


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
        usage: tokens and cost.
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
        """Count an answered call."""
        self.calls += 1
        self.usage = self.usage.plus(usage)

    def fault(self, fault: ModelFault) -> None:
        """Count a failed attempt."""
        if isinstance(fault, RateLimited):
            self.rate_limited += 1
        else:
            self.failed += 1


class MeteredModel:
    """Counts the calls of a model without an endpoint; `RetryingModel` counts those of the others."""

    def __init__(self, model: ChatModel, meter: CallMetrics) -> None:
        self._model = model
        self._meter = meter

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._model.name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The answer of the model.

        Raises:
            ModelFault: what the model raises.
        """
        try:
            response = await self._model.complete(request, key)
        except ModelFault as fault:
            self._meter.fault(fault)
            raise
        self._meter.answered(response.usage)
        return response
