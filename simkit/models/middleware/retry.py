"""Retries of model calls. The error says whether a call may be retried; the policy says how often and how long.

One odd answer ends nothing: if an endpoint that has completed calls refuses the key or the model, the call is made once
more, because gateways answer so during restarts.

An attempt at an unreachable endpoint counts against a call only if the endpoint has answered another call meanwhile.
While the endpoint answers no call, all calls wait: a restart of twenty seconds loses nothing, and a lasting outage
stops the run with one error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, retry_if_exception

from simkit.core.limits import Clock
from simkit.errors import AuthFailed, EndpointDown, ModelFault, ModelNotServed, ModelTimeout, Unreachable
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.models.config import RetryPolicy
from simkit.models.middleware.budget import Amount, Budget
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.metrics import CallMetrics, Health


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
        metrics: counts failed attempts and answered calls.
        concurrency: the concurrency limit, which shrinks when the endpoint answers 429.
        budget: is charged with the usage of failed attempts.
        clock: time source.
    """

    def __init__(
        self,
        model: ChatModel,
        policy: RetryPolicy | None = None,
        *,
        health: Health | None = None,
        metrics: CallMetrics | None = None,
        concurrency: ConcurrencyLimit | None = None,
        budget: Budget | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(model)
        self._policy = policy or RetryPolicy()
        self._health = health or Health()
        self._metrics = metrics or CallMetrics()
        self._concurrency = concurrency
        self._budget = budget
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
            pause = self._judge(call)
            if fault.trouble == "fatal" or self._over(call, pause):
                raise
        except (AuthFailed, ModelNotServed) as refusal:
            if not self._health.completed or self._policy.max_retries == 0:
                raise
            call = _Call(request, key, began, ModelFault(str(refusal)), made=1)
            pause = self._policy.longest
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
        if self._budget is not None and (used := call.fault.usage) is not None:
            await self._budget.charge(Amount(used.prompt_tokens + used.completion_tokens, used.cost), call.key)
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
        health = self._health
        health.answered(self._clock.timer())
        health.completed, health.wait = True, None
        self._metrics.answered(response.usage)

    def _judge(self, call: _Call) -> float:
        """Record a failed attempt. Returns the seconds to wait before the next one.

        Raises:
            EndpointDown: the endpoint has been unreachable for too long.
        """
        now, fault, pause = self._clock.timer(), call.fault, self._pause(call)
        self._metrics.fault(fault)
        if self._concurrency is not None and fault.trouble == "rate_limit":
            self._concurrency.cut()
        if fault.trouble != "fatal":
            self._health.waits(str(fault), self._clock.now(), pause)
        if not isinstance(fault, Unreachable):
            call.counted += 1
            if not isinstance(fault, ModelTimeout):  # after a timeout the endpoint's state is unknown
                self._health.answered(now)
            return pause
        seconds = self._health.failed(now, fault.waited)
        answered_at = self._health.answered_at
        call.counted += answered_at is not None and answered_at >= call.tried_at
        if answered_at is None and not fault.busy:
            if seconds >= self._policy.last_attempt:
                raise EndpointDown(
                    f"{fault}. It has not answered since this run began, so the run stops here; everything so far is "
                    "stored. Start the endpoint, or correct the base URL, then resume the run; --wait-for-endpoint "
                    "SECONDS waits for one that is still loading"
                ) from fault
        elif seconds >= self._policy.down_after:
            raise EndpointDown(
                f"{fault}. It has not answered any call for {seconds:.0f} s, so the run stops here; everything so far "
                "is stored. Start the endpoint, or correct the base URL, then resume the run"
            ) from fault
        return pause

    def _pause(self, call: _Call) -> float:
        """Seconds to wait before the next attempt; for an endpoint that has never answered, not beyond its time."""
        pause, health, fault = self._policy.pause(call.made - 1, call.fault, call.key), self._health, call.fault
        if health.answered_at is not None or not isinstance(fault, Unreachable) or fault.busy:
            return pause
        now = self._clock.timer()
        since = now if health.failing_since is None else health.failing_since
        return min(pause, max(0.0, since + self._policy.last_attempt - now))

    def _over(self, call: _Call, pause: float) -> bool:
        """Whether retries end here; the next attempt would begin after a pause in seconds."""
        policy, fault = self._policy, call.fault
        if fault.retries is not None and call.made > fault.retries:
            return True
        late = self._clock.timer() + pause - call.began > policy.max_seconds
        return late or policy.max_retries == 0 or call.counted > policy.max_retries
