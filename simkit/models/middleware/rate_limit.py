"""Rate limits in requests and tokens per minute: calls are spread out to stay within an endpoint's quota."""

from __future__ import annotations

from simkit.core.limits import Clock
from simkit.errors import UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.models.middleware.token_estimate import TokenEstimate


class RateLimiter:
    """Rate limiter of units per minute, as a virtual clock (GCRA). `take` returns the time to wait.

    Args:
        name: the flag that sets the rate, for error messages.
        per_minute: units per minute.
        burst: size of the burst allowed after a pause, in seconds' worth of units.

    Raises:
        UsageError: the rate is not positive.
    """

    def __init__(self, name: str, per_minute: float, *, burst: float = 1.0) -> None:
        if not per_minute > 0:
            raise UsageError(f"{name} is {per_minute:g}; it must be positive (omit it for no limit)")
        self._seconds = 60.0 / per_minute
        self._burst = burst
        self._next = float("-inf")

    def take(self, units: float, now: float) -> float:
        """Take units. Returns the seconds to wait before using them."""
        begin = max(self._next, now - self._burst)
        self._next = begin + units * self._seconds
        return max(0.0, begin - now)

    def adjust(self, units: float) -> None:
        """Correct by the units used beyond those taken; negative if fewer were used."""
        self._next += units * self._seconds


class RateLimits:
    """Rate limits of one endpoint and key. None means no limit.

    Args:
        rpm: requests per minute.
        tpm: tokens per minute, of prompts and replies together.
        reply_tokens: assumed length of a reply before it arrives; a smaller bound of the request takes precedence.
        clock: time source.
    """

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, reply_tokens: int = 256, clock: Clock | None = None
    ) -> None:
        self._requests = RateLimiter("--rpm", rpm) if rpm is not None else None
        self._tokens = RateLimiter("--tpm", tpm) if tpm is not None else None
        self._reply_tokens = reply_tokens
        self._estimate = TokenEstimate()
        self.clock = clock or Clock()

    async def wait(self, request: ChatRequest) -> float:
        """Wait until a request may be sent. Returns the tokens taken for it."""
        tokens = self.likely(request)
        delay = self.take(tokens)
        if delay > 0:
            await self.clock.sleep(delay)
        return tokens

    def likely(self, request: ChatRequest) -> float:
        """Likely tokens of a request and its reply; 0 without a limit of tokens."""
        if self._tokens is None:
            return 0.0
        bound = request.sampling.max_tokens
        reply = self._reply_tokens if bound is None else min(bound, self._reply_tokens)
        return self._estimate.likely(request) + reply

    def take(self, tokens: float) -> float:
        """Take one request of so many tokens. Returns the seconds to wait before it may be sent."""
        now, delay = self.clock.timer(), 0.0
        if self._requests is not None:
            delay = self._requests.take(1, now)
        if self._tokens is not None:
            delay = max(delay, self._tokens.take(tokens, now))
        return delay

    def correct(self, tokens: float) -> None:
        """Correct by the tokens used beyond those taken; negative if fewer were used."""
        if self._tokens is not None:
            self._tokens.adjust(tokens)

    def used(self, request: ChatRequest, taken: float, response: ChatResponse) -> None:
        """Correct the tokens taken for a request by the usage reported for it."""
        usage = response.usage
        if self._tokens is not None and usage.tokens:
            self._estimate.learn(request, usage.prompt_tokens)
            self.correct(usage.tokens - taken)


class RateLimitedModel(ModelWrapper):
    """Calls the model no faster than its endpoint's rates allow. It belongs inside the retries: each attempt counts."""

    def __init__(self, model: ChatModel, rates: RateLimits) -> None:
        super().__init__(model)
        self._rates = rates

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer."""
        taken = await self._rates.wait(request)
        response = await self._model.complete(request, key)
        self._rates.used(request, taken, response)
        return response
