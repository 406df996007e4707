"""Tokens of growing conversations, and text of growing replies: what is known already is not converted again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

_UNFINISHED = "\ufffd"
_CHARACTER = 4
"""Maximum tokens of a character: one for each of its bytes."""

_KEPT = 8192
_COMPARED = 4


class Segments:
    """Tokenizes texts piece by piece, with a cache of pieces.

    The first few texts are also tokenized as a whole. If the results ever differ, texts are no longer split.

    Args:
        tokenizer: a fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = [each for each in tokenizer.added_tokens_decoder.values() if each.special and each.content]
        cutting = {each.content: each for each in special if not (each.lstrip or each.rstrip or each.single_word)}
        cuts = sorted((name for name, each in cutting.items() if not each.normalized), key=len, reverse=True)
        self._cut = re.compile("(?=" + "|".join(map(re.escape, cuts)) + ")") if cuts else None
        self._compared = 0
        self._piece = lru_cache(_KEPT)(self._whole)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without special tokens added."""
        if self._cut is None:
            return list(self._whole(text))
        found: list[int] = []
        for piece in self._cut.split(text):
            found += self._piece(piece)
        if self._compared < _COMPARED:
            self._compared += 1
            whole = list(self._whole(text))
            if whole != found:
                self._cut = None
                return whole
        return found

    def _whole(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])


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
