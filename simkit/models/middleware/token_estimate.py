"""How many tokens a request and its reply will count, before a provider has counted them."""

from __future__ import annotations

from simkit.core.messages import Message, ToolSpec
from simkit.core.persistent_list import JsonList, json_list
from simkit.models.base import ChatRequest, ReplyLimit

MARGIN = 1.25
"""How much more tokens a byte than ever seen the upper bound allows for."""

FRAME = 64
"""Tokens a provider may add around a request: chat template, tool preamble."""

SHORTEST = 64
"""Tokens that are put aside for a reply at least, however short those before it were."""

ROOM = 2
"""How many times longer than any before it a reply may be without being asked for again."""


def request_bytes(request: ChatRequest) -> int:
    """Bytes of the messages and tools of a request, as they are sent."""
    return _bytes(json_list(request.messages)) + _bytes(json_list(request.tools))


def _bytes(items: JsonList[Message] | JsonList[ToolSpec]) -> int:
    return len(items.to_json()) - max(0, len(items) - 1)  # without the commas


class TokenEstimate:
    """Tokens of a prompt from its bytes, learned from what the provider counts.

    Until something has been counted, every byte is taken for a token in the upper bound (no tokenizer does worse), and
    four bytes for one in the likely number.
    """

    def __init__(self) -> None:
        self._most: float | None = None
        self._likely = 0.25

    def bound(self, request: ChatRequest) -> int:
        """Tokens of the prompt at most."""
        size = request_bytes(request)
        share = 1.0 if self._most is None else min(1.0, self._most * MARGIN)
        return int(size * share) + FRAME

    def likely(self, request: ChatRequest) -> float:
        """Tokens of the prompt, about."""
        return request_bytes(request) * self._likely

    def learn(self, request: ChatRequest, tokens: int) -> None:
        """A provider has counted the tokens of a prompt."""
        size = request_bytes(request)
        if tokens <= 0 or size == 0:
            return
        share = tokens / size
        self._most = share if self._most is None else max(share, self._most)
        self._likely += 0.1 * (share - self._likely)


class ReplyEstimate:
    """How long a reply may be: all that is allowed at first, then some times the longest of those before it.

    Rounded up to a power of two, so that equal requests are mostly sent as equal bytes.
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
        """A reply was so long."""
        self._longest = tokens if self._longest is None else max(tokens, self._longest)
