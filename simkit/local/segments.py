"""Token ids of long texts that mostly were seen before.

The library cuts a text at special tokens before anything else, and turns each piece into ids on its own. A conversation
has such tokens around every message, so only the messages that are new since the last turn need to be tokenised.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_KEPT = 8192
_COMPARED = 4


class Segments:
    """The ids of texts, piece by piece.

    The first few texts are also tokenised whole; should the two ever differ, pieces are given up.

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
