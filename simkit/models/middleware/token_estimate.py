"""Estimates of the tokens of a request and its reply, before the provider reports them."""

from __future__ import annotations

from simkit.core.messages import Message, ToolSpec
from simkit.core.persistent_list import JsonList, json_list
from simkit.models.base import ChatRequest, ReplyLimit

MARGIN = 1.25
"""Safety factor of the upper bound: tokens per byte may exceed the highest ratio seen so far by this factor."""

FRAME = 64
"""Tokens a provider may add around a request: chat template, tool preamble."""

SHORTEST = 64
"""Minimum tokens reserved for a reply, however short the earlier ones were."""

ROOM = 2
"""Factor by which a reply may exceed the longest earlier one without being requested again."""


def request_bytes(request: ChatRequest) -> int:
    """Size of the messages and tools of a request as sent, in bytes."""
    return _bytes(json_list(request.messages)) + _bytes(json_list(request.tools))


def _bytes(items: JsonList[Message] | JsonList[ToolSpec]) -> int:
    return len(items.to_json()) - max(0, len(items) - 1)  # without the commas


class TokenEstimate:
    """Estimate of a prompt's tokens from its bytes, calibrated by the counts of the provider.

    Before the first count, the upper bound assumes one token per byte (no tokenizer does worse), and the likely number
    assumes four bytes per token.
    """

    def __init__(self) -> None:
        self._most: float | None = None
        self._likely = 0.25

    def bound(self, request: ChatRequest) -> int:
        """Upper bound of the prompt's tokens."""
        size = request_bytes(request)
        share = 1.0 if self._most is None else min(1.0, self._most * MARGIN)
        return int(size * share) + FRAME

    def likely(self, request: ChatRequest) -> float:
        """Likely number of the prompt's tokens."""
        return request_bytes(request) * self._likely

    def learn(self, request: ChatRequest, tokens: int) -> None:
        """Calibrate with the provider's count of a prompt's tokens."""
        size = request_bytes(request)
        if tokens <= 0 or size == 0:
            return
        share = tokens / size
        self._most = share if self._most is None else max(share, self._most)
        self._likely += 0.1 * (share - self._likely)


class ReplyEstimate:
    """Limit for the next reply: the maximum at first, then `ROOM` times the longest earlier reply.

    It is rounded up to a power of two, so that equal requests are mostly sent as equal bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._longest: int | None = None

    def limit(self) -> ReplyLimit:
        """The limit for the next reply."""
        if self._longest is None:
            return ReplyLimit(self.most)
        tokens = 1 << (max(SHORTEST, self._longest * ROOM) - 1).bit_length()
        return ReplyLimit(tokens, provisional=True) if tokens < self.most else ReplyLimit(self.most)

    def learn(self, tokens: int) -> None:
        """Record the length of a reply, in tokens."""
        self._longest = tokens if self._longest is None else max(tokens, self._longest)
