"""Comparison of an agent's replies with the texts that it has to say."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, Literal, TypeAlias

Comparison: TypeAlias = Literal["substring", "token"]
"""How a due text is looked for: as a part of a reply, or as whole words and numbers of it."""

_TOKEN: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|\d+(?:\.\d+)?(?!\w)|\w+")
_NUMBER: Final = re.compile(r"[0-9,]+(?:\.[0-9]+)?")


def contains(reply: str, text: str) -> bool:
    """Whether a reply contains a due text: in any case, and without the reply's commas, as tau-bench compares them."""
    return text.lower() in reply.lower().replace(",", "")


def contains_tokens(reply: str, text: str) -> bool:
    """Whether a reply contains the words and numbers of a due text, whole and in their order.

    Case and punctuation do not count. Numbers compare by their value: `1,000.00` is `1000`, and `10` is not in `100`. A
    due text without a word or a number is compared as in `contains`.
    """
    due, said = _tokens(text), _tokens(reply)
    if not due:
        return contains(reply, text)
    return any(said[start : start + len(due)] == due for start in range(len(said) - len(due) + 1))


def is_said(reply: str, text: str, comparison: Comparison) -> bool:
    """Whether a reply contains a due text by this comparison."""
    return contains(reply, text) if comparison == "substring" else contains_tokens(reply, text)


def _tokens(text: str) -> list[str | Decimal]:
    return [_value(token) for token in _TOKEN.findall(text.casefold())]


def _value(token: str) -> str | Decimal:
    return Decimal(token.replace(",", "")) if _NUMBER.fullmatch(token) else token
