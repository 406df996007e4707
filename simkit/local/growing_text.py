"""Text of a reply while its tokens arrive: each token is decoded once, beside the few before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"
_CHARACTER = 4
"""Maximum tokens of a character: one for each of its bytes."""


class GrowingText:
    """The text of a growing list of tokens.

    Tokens are decoded together with those of the previous piece, because the text of a token depends on its neighbours
    in some tokenizers. A character whose tokens are incomplete is held back.

    Args:
        decode: the text of tokens.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []
        self._pending: list[int] = []

    def add(self, ids: Sequence[int]) -> str:
        """Add tokens. Returns the text that they complete."""
        self._pending += ids
        before = self._decode(self._before)
        end = len(self._pending)
        whole = (self._up_to(end - held) for held in range(min(_CHARACTER, end + 1)))
        cut, now = next((each for each in whole if not each[1].endswith(_UNFINISHED)), self._up_to(end))
        if cut:
            self._before, self._pending = self._pending[:cut], self._pending[cut:]
        return now[len(before) :]

    def _up_to(self, end: int) -> tuple[int, str]:
        """A number of pending tokens, and the text with them."""
        return end, self._decode([*self._before, *self._pending[:end]])
