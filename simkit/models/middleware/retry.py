"""Asking again: what may be asked again is a property of the error, how often and how long is a policy.

Attempts count against a call only while its endpoint answers somebody. When it answers nobody, all calls wait for it:
a restart of twenty seconds delays and loses nothing, and one that lasts stops the run with one error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from simkit.core.ids import derive_seed
from simkit.errors import EndpointDown, ModelFault, ModelTimeout, Unreachable, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.models.clock import Clock
from simkit.models.middleware.concurrency_limit import Gate
from simkit.models.middleware.metrics import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long to ask again.

    Attributes:
        max_retries: attempts after the first, at most.
        max_seconds: no attempt begins later than this after the first.
        first: seconds before the first retry; doubled for each further one up to `longest`; less a jitter of half.
        longest: seconds between two attempts at most, unless the server asks for more (`Retry-After`).
        down_after: an endpoint that has not answered anybody for so many seconds is down, and stops the run.
        down_at_start: the same for one that has never answered at all.
    """

    max_retries: int = 8
    max_seconds: float = 1800.0
    first: float = 0.5
    longest: float = 10.0
    down_after: float = 120.0
    down_at_start: float = 45.0

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise UsageError(f"--max-retries is {self.max_retries}; 0 asks once, more asks again that often")

    def pause(self, attempt: int, fault: ModelFault, key: CallKey) -> float:
        """Seconds to wait after attempt number `attempt` (from 0) failed; a function of the call, not of a clock."""
        chance = derive_seed(key.seed, "retry", attempt) / (1 << 63)
        if fault.retry_after is not None:
            return fault.retry_after * (1 + 0.1 * chance)
        return min(self.longest, self.first * 2.0 ** min(attempt, 30)) * (1 - 0.5 * chance)


@dataclass(slots=True)
class Health:
    """What all calls to one endpoint know of it. Times are those of the clock's timer."""

    answered_at: float | None = None
    failing_since: float | None = None

    def answered(self, now: float) -> None:
        """It answered somebody, if only with a refusal."""
        self.answered_at, self.failing_since = now, None

    def failed(self, now: float) -> float:
        """It answered nobody this time; returns for how many seconds that has been so."""
        if self.failing_since is None:
            self.failing_since = now
        return now - self.failing_since


@dataclass(slots=True)
class _Call:
    """One call while it is retried: `made` counts its attempts, `counted` those the endpoint had a part in."""

    request: ChatRequest
    key: CallKey
    began: float
    fault: ModelFault
    made: int = 0
    counted: int = 0
    tried_at: float = 0.0


class Watcher(Protocol):
    """Somebody who wants to know how attempts go: a meter, a gate, both."""

    def fault(self, fault: ModelFault) -> None:
        """An attempt failed."""
        ...

    def answered(self, usage: Usage) -> None:
        """A call was answered."""
        ...


class Watching:
    """Tells a meter of everything, and a gate of what should make it narrower."""

    def __init__(self, meter: Meter | None = None, gate: Gate | None = None) -> None:
        self._meter = meter
        self._gate = gate

    def fault(self, fault: ModelFault) -> None:
        """An attempt failed."""
        if self._meter is not None:
            self._meter.fault(fault)
        if self._gate is not None and fault.trouble == "rate_limit":
            self._gate.cut()

    def answered(self, usage: Usage) -> None:
        """A call was answered."""
        if self._meter is not None:
            self._meter.answered(usage)


class RetryingModel:
    """Asks `model` again when that may help.

    Args:
        policy: how often and how long.
        health: what is known of the endpoint; share it between the models of one endpoint.
        watching: who is told how attempts go.
    """

    def __init__(
        self,
        model: ChatModel,
        policy: RetryPolicy | None = None,
        *,
        health: Health | None = None,
        watching: Watcher | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._model = model
        self._policy = policy or RetryPolicy()
        self._health = health or Health()
        self._watching = watching or Watching()
        self._clock = clock or Clock()

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self._model.name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, after as many attempts as the policy allows.

        Raises:
            ModelFault: the last attempt's, when it is not to be tried again or the policy is used up.
            EndpointDown: the endpoint answers nobody.
        """
        began = self._clock.timer()
        try:
            response = await self._model.complete(request, key)
        except ModelFault as fault:
            call = _Call(request, key, began, fault, made=1, tried_at=began)
            self._judge(call)
        else:
            self._answered(response)
            return response
        return await self._again(call)

    async def _again(self, call: _Call) -> ChatResponse:
        """Go on after the first attempt; tenacity keeps the loop, and meets the first fault as its first attempt."""
        first: list[ModelFault] = [call.fault]

        async def attempt() -> ChatResponse:
            if first:
                raise first.pop()
            return await self._attempt(call)

        retrying = AsyncRetrying(
            stop=lambda state: self._over(call, state),
            wait=lambda state: self._policy.pause(call.made - 1, call.fault, call.key),
            retry=retry_if_exception(lambda error: isinstance(error, ModelFault) and error.trouble != "fatal"),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return await retrying(attempt)

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
        self._watching.answered(response.usage)

    def _judge(self, call: _Call) -> None:
        """Take note of a failed attempt.

        Raises:
            EndpointDown: it was one too many for the endpoint.
        """
        now, fault = self._clock.timer(), call.fault
        self._watching.fault(fault)
        if not isinstance(fault, Unreachable):
            call.counted += 1
            if not isinstance(fault, ModelTimeout):  # silence says nothing about the endpoint: it may be a long answer
                self._health.answered(now)
            return
        seconds = self._health.failed(now)
        answered_at = self._health.answered_at
        call.counted += answered_at is not None and answered_at >= call.tried_at
        if seconds >= (self._policy.down_at_start if answered_at is None else self._policy.down_after):
            raise EndpointDown(
                f"{fault}. It has not answered anybody for {seconds:.0f} s, so the run stops here; everything so far "
                "is stored. Start the endpoint, or mend the base URL, then resume the run"
            ) from fault

    def _over(self, call: _Call, state: RetryCallState) -> bool:
        policy = self._policy
        late = self._clock.timer() + state.upcoming_sleep - call.began > policy.max_seconds
        return late or policy.max_retries == 0 or call.counted > policy.max_retries
