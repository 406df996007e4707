"""Normal forms of text, in which worlds, rewards and rule-based components compare values.

There are two forms of a value because they really differ: `fold` is that of the ToolWOZ release, whose scores must stay
comparable, and keeps blanks and typographic apostrophes; `normal` is that of the built-in world. `words_of` is the form
in which spoken text is looked up.
"""

from __future__ import annotations

import re
from functools import lru_cache

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""The numbers that are recognised in words; the index is the number."""

NO_WISH = frozenset({"", "dontcare", "dont care", "don't care", "do n't care", "not mentioned"})
"""Values that stand for "no constraint" in MultiWOZ annotations."""

SENTENCE_ENDS = frozenset("?!.\n")

_TOKEN = re.compile(r"[0-9]{1,2}:[0-9]{2}(?:\s?[ap]m\b)?|[0-9]{1,2}\s?[ap]m\b|[^\W_]+|[?!\n]|\.(?=\s|$)", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{1,2})(?::([0-5][0-9]))?\s?([ap]m)?")
_SPELLINGS = {"center": "centre", "inexpensive": "cheap", "moderately": "moderate", "wifi": "internet"}
_DIGITS = frozenset("0123456789")
_SHORT = 1000  # maximum characters of a text whose form is cached


def fold(text: str) -> str:
    """`text` in lower case and without apostrophes: "Rosa's" and "rosas" are the same name."""
    return text.lower().replace("'", "")


NO_WISH_FOLDED = frozenset(map(fold, NO_WISH))
"""`NO_WISH` as folded values."""

NO_FILTER = NO_WISH_FOLDED | {"any", "do not care", "no preference", "none"}
"""Values in normal form that stand for "no constraint" in a call of the built-in world."""


def normal(text: str) -> str:
    """The normal form of a value: lower case, no apostrophes, single blanks."""
    return " ".join(text.replace("'", "").replace("’", "").casefold().split())


def tokenize(text: str) -> list[str]:
    """The words, times and sentence ends of a text as written; apostrophes are removed."""
    return _TOKEN.findall(text.replace("'", "").replace("’", ""))


def spelled(token: str) -> str:
    """A token in lower case, in the spelling used to look up values."""
    word = token.lower()
    return _SPELLINGS.get(word, word)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a phrase, each `spelled`."""
    return tuple([spelled(token) for token in tokenize(text) if token not in SENTENCE_ENDS])


def spoken_form(text: str) -> str:
    """The words of a text in one spelling, times as `09:15`. Short texts, which recur, are cached."""
    return _short_spoken_form(text) if len(text) <= _SHORT else _spoken_form(text)


def _spoken_form(text: str) -> str:
    return " ".join([_clock(word) if word[0] in _DIGITS else word for word in words_of(text)])


_short_spoken_form = lru_cache(2048)(_spoken_form)


def _clock(word: str) -> str:
    time = read_time(word) if ":" in word or word.endswith("m") else None
    return word if time is None else time.zfill(5)


def same_value(first: str, second: str) -> bool:
    """Whether two values are equal apart from case, punctuation and spaces."""
    return "".join(words_of(first)) == "".join(words_of(second))


def read_time(text: str) -> str | None:
    """A clock time as 24-hour text: `5pm` is `17:00`, `9:15` is unchanged; None if the text is not a time."""
    found = _TIME.fullmatch(text.lower())
    if found is None:
        return None
    hour, minute, half = int(found[1]), found[2], found[3]
    if half is None:
        return text if minute is not None and hour < 25 else None
    hour = hour % 12 + (12 if half == "pm" else 0)
    return f"{hour:02d}:{minute or '00'}"
