"""Requests and tokens a minute: calls are spread out so that an endpoint's quota is never asked for too much."""

from __future__ import annotations

from simkit.errors import UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.models.clock import Clock
from simkit.models.middleware.token_estimate import TokenEstimate


class Flow:
    """So many units a minute, as a virtual clock (GCRA): taking some says how long to wait for them.

    Args:
        per_minute: units a minute.
        burst: seconds' worth of units that may be taken at once after a pause.
    """

    def __init__(self, name: str, per_minute: float, *, burst: float = 1.0) -> None:
        if not per_minute > 0:
            raise UsageError(f"{name} is {per_minute:g}; give a positive number a minute, or leave it out for no limit")
        self._seconds = 60.0 / per_minute
        self._burst = burst
        self._next = float("-inf")

    def take(self, units: float, now: float) -> float:
        """Take units; returns the seconds to wait before using them."""
        begin = max(self._next, now - self._burst)
        self._next = begin + units * self._seconds
        return max(0.0, begin - now)

    def adjust(self, units: float) -> None:
        """More (or, negative, fewer) units were used than had been taken."""
        self._next += units * self._seconds


class Rates:
    """The limits of one endpoint and key; None for no limit.

    Args:
        rpm: requests a minute.
        tpm: tokens a minute, of prompts and replies together.
        reply_tokens: how long a reply is taken to be before it is there, when the request does not bound it.
    """

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, reply_tokens: int = 256, clock: Clock | None = None
    ) -> None:
        self._requests = Flow("--rpm", rpm) if rpm is not None else None
        self._tokens = Flow("--tpm", tpm) if tpm is not None else None
        self._reply_tokens = reply_tokens
        self._estimate = TokenEstimate()
        self.clock = clock or Clock()

    async def wait(self, request: ChatRequest) -> float:
        """Wait for one request's turn; returns the tokens taken for it."""
        now, delay, tokens = self.clock.timer(), 0.0, 0.0
        if self._requests is not None:
            delay = self._requests.take(1, now)
        if self._tokens is not None:
            bound = request.sampling.max_tokens
            reply = self._reply_tokens if bound is None else min(bound, self._reply_tokens)
            tokens = self._estimate.likely(request) + reply
            delay = max(delay, self._tokens.take(tokens, now))
        if delay > 0:
            await self.clock.sleep(delay)
        return tokens

    def used(self, request: ChatRequest, taken: float, response: ChatResponse) -> None:
        """Tell what a request really used."""
        usage = response.usage
        if self._tokens is not None and usage.tokens:
            self._estimate.learn(request, usage.prompt_tokens)
            self._tokens.adjust(usage.tokens - taken)


class RatedModel(ModelWrapper):
    """Asks the model no faster than its endpoint's rates allow. Belongs inside the retries: each attempt counts."""

    def __init__(self, model: ChatModel, rates: Rates) -> None:
        super().__init__(model)
        self._rates = rates

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer."""
        taken = await self._rates.wait(request)
        response = await self._model.complete(request, key)
        self._rates.used(request, taken, response)
        return response
