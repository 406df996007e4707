"""Concurrency limit per endpoint and key: fixed, or adaptive.

The adaptive limit works like congestion control (RFC 5681, in calls instead of segments): it doubles with every round
of answers until the endpoint's first 429, is then cut by a factor, and grows by one per round from there. It grows only
while it is the bottleneck. A cooldown follows each cut, because calls in flight were admitted under the old limit.
"""

from __future__ import annotations

from collections import deque

import anyio

from simkit.core.limits import Clock
from simkit.errors import UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.models.config import Adaptive
from simkit.models.middleware.metrics import CallMetrics


class ConcurrencyLimit:
    """Admits calls up to the concurrency limit; the others wait in order of arrival.

    Args:
        limit: a fixed number, or the parameters of an adaptive limit.
        metrics: receives the limit and the numbers of calls in flight and waiting.
        clock: time source.

    Raises:
        UsageError: the limit is below 1.
    """

    def __init__(self, limit: int | Adaptive, metrics: CallMetrics | None = None, clock: Clock | None = None) -> None:
        if isinstance(limit, int) and limit < 1:
            raise UsageError(f"--api-concurrency is {limit}; it must be at least 1, or `adaptive`")
        self._adaptive = None if isinstance(limit, int) else limit
        self._limit = float(limit if isinstance(limit, int) else limit.start)
        self._metrics = metrics or CallMetrics()
        self._clock = clock or Clock()
        self._in_flight = 0
        self._waiting: deque[anyio.Event] = deque()
        self._doubling = True
        self._calm_at = float("-inf")
        self._lent = 0
        self._metrics.limit += self.limit

    @property
    def limit(self) -> int:
        """Current limit of concurrent calls."""
        return int(self._limit)

    @property
    def adaptive(self) -> bool:
        """Whether the limit adapts to the endpoint."""
        return self._adaptive is not None

    @property
    def free(self) -> int:
        """Places that are neither taken nor lent to workers."""
        return self.limit - self._lent - self._in_flight

    def lend(self, places: int) -> None:
        """Lend free places to a worker; a negative number of them comes back."""
        self._lent += places
        self._metrics.limit -= places
        self._admit()

    async def enter(self) -> None:
        """Wait for a place. Every `enter` needs a `leave`."""
        if self.free > 0:  # implies that no call waits: `leave` fills every place
            self._count(1)
            return
        place = anyio.Event()
        self._waiting.append(place)
        self._metrics.waiting += 1
        try:
            await place.wait()
        except BaseException:
            if place.is_set():  # admitted and cancelled at the same time
                self.leave()
            else:
                self._waiting.remove(place)
            raise
        finally:
            self._metrics.waiting -= 1

    def leave(self, *, answered: bool = False) -> None:
        """Release the place. `answered` if the call succeeded."""
        if answered:
            self._grow()
        self._count(-1)
        self._admit()

    def cut(self) -> bool:
        """Reduce the adaptive limit after a 429. Returns whether it was reduced: it is not, soon after a cut."""
        policy, now = self._adaptive, self._clock.timer()
        if policy is None or now < self._calm_at:
            return False
        self._set(max(float(policy.least), self._limit * policy.cut))
        self._doubling = False
        self._calm_at = now + policy.cooldown
        return True

    def _grow(self) -> None:
        policy = self._adaptive
        if policy is None or self._in_flight < self.limit or self._clock.timer() < self._calm_at:
            return
        self._set(min(float(policy.most), self._limit + (1.0 if self._doubling else 1.0 / self._limit)))

    def _set(self, limit: float) -> None:
        self._metrics.limit += int(limit) - self.limit
        self._limit = limit

    def _admit(self) -> None:
        while self._waiting and self.free > 0:
            self._count(1)
            self._waiting.popleft().set()

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._metrics.in_flight += change


class ConcurrencyLimitedModel(ModelWrapper):
    """Waits for a place under the concurrency limit of its endpoint before each call."""

    def __init__(self, model: ChatModel, concurrency: ConcurrencyLimit) -> None:
        super().__init__(model)
        self._concurrency = concurrency

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer."""
        concurrency = self._concurrency
        await concurrency.enter()
        answered = False
        try:
            response = await self._model.complete(request, key)
            answered = True
            return response
        finally:
            concurrency.leave(answered=answered)
