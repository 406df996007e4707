"""Retries of model calls. The error says whether a call may be retried; the policy says how often and how long.

An attempt at an unreachable endpoint counts against a call only if the endpoint has answered another call meanwhile.
While the endpoint answers no call, all calls wait: a restart of twenty seconds loses nothing, and a lasting outage
stops the run with one error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, retry_if_exception

from simkit.errors import EndpointDown, ModelFault, ModelTimeout, Unreachable
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.models.clock import Clock
from simkit.models.config import RetryPolicy
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.metrics import CallMetrics


@dataclass(slots=True)
class Health:
    """Availability of one endpoint, shared by all calls to it. Times are those of the clock's timer."""

    answered_at: float | None = None
    failing_since: float | None = None

    def answered(self, now: float) -> None:
        """Record an answer, including an error response."""
        self.answered_at, self.failing_since = now, None

    def failed(self, now: float) -> float:
        """Record an unreachable attempt. Returns the seconds since the first failure after the last answer."""
        if self.failing_since is None:
            self.failing_since = now
        return now - self.failing_since


@dataclass(slots=True)
class _Call:
    """State of a call between its retries: `made` counts all attempts, `counted` those charged to the call."""

    request: ChatRequest
    key: CallKey
    began: float
    fault: ModelFault
    made: int = 0
    counted: int = 0
    tried_at: float = 0.0


class RetryingModel(ModelWrapper):
    """Retries failed calls whose error allows it.

    Args:
        model: the model to call.
        policy: the retry policy.
        health: the endpoint's health, shared by its models.
        meter: counts failed attempts and answered calls.
        gate: the concurrency limit, which shrinks when the endpoint answers 429.
        clock: time source.
    """

    def __init__(
        self,
        model: ChatModel,
        policy: RetryPolicy | None = None,
        *,
        health: Health | None = None,
        meter: CallMetrics | None = None,
        gate: ConcurrencyLimit | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(model)
        self._policy = policy or RetryPolicy()
        self._health = health or Health()
        self._meter = meter or CallMetrics()
        self._gate = gate
        self._clock = clock or Clock()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with retries as the policy allows.

        Raises:
            ModelFault: the last attempt failed, and the error or the policy does not allow another.
            EndpointDown: the endpoint answers no call.
        """
        began = self._clock.timer()
        try:
            response = await self._model.complete(request, key)
        except ModelFault as fault:
            call = _Call(request, key, began, fault, made=1, tried_at=began)
            self._judge(call)
            pause = self._pause(call)
            if fault.trouble == "fatal" or self._over(call, pause):
                raise
        else:
            self._answered(response)
            return response
        await self._clock.sleep(pause)
        return await self._again(call)

    async def _again(self, call: _Call) -> ChatResponse:
        """The answer after retries. Most calls never get here and avoid the overhead of tenacity."""
        retrying = AsyncRetrying(
            stop=lambda state: self._over(call, state.upcoming_sleep),
            wait=lambda _: self._pause(call),
            retry=retry_if_exception(lambda error: isinstance(error, ModelFault) and error.trouble != "fatal"),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return await retrying(self._attempt, call)

    async def _attempt(self, call: _Call) -> ChatResponse:
        call.tried_at = self._clock.timer()
        number, call.made = call.made, call.made + 1
        try:
            response = await self._model.complete(call.request, replace(call.key, attempt=call.key.attempt + number))
        except ModelFault as fault:
            call.fault = fault
            self._judge(call)
            raise
        self._answered(response)
        return response

    def _answered(self, response: ChatResponse) -> None:
        self._health.answered(self._clock.timer())
        self._meter.answered(response.usage)

    def _judge(self, call: _Call) -> None:
        """Record a failed attempt.

        Raises:
            EndpointDown: the endpoint has been unreachable for too long.
        """
        now, fault = self._clock.timer(), call.fault
        self._meter.fault(fault)
        if self._gate is not None and fault.trouble == "rate_limit":
            self._gate.cut()
        if not isinstance(fault, Unreachable):
            call.counted += 1
            if not isinstance(fault, ModelTimeout):  # after a timeout the endpoint's state is unknown
                self._health.answered(now)
            return
        seconds = self._health.failed(now)
        answered_at = self._health.answered_at
        call.counted += answered_at is not None and answered_at >= call.tried_at
        if seconds >= (self._policy.down_at_start if answered_at is None else self._policy.down_after):
            raise EndpointDown(
                f"{fault}. It has not answered any call for {seconds:.0f} s, so the run stops here; everything so far "
                "is stored. Start the endpoint, or correct the base URL, then resume the run"
            ) from fault

    def _pause(self, call: _Call) -> float:
        return self._policy.pause(call.made - 1, call.fault, call.key)

    def _over(self, call: _Call, pause: float) -> bool:
        """Whether retries end here; the next attempt would begin after a pause in seconds."""
        policy = self._policy
        late = self._clock.timer() + pause - call.began > policy.max_seconds
        return late or policy.max_retries == 0 or call.counted > policy.max_retries
