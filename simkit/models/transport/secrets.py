"""Removal of keys and passwords that a server repeats in its replies, in all their encoded forms.

A proxy or a debugging endpoint may answer with the request's own headers, even with status 200. Replies are searched
before they are parsed, so that no key reaches a message, a journal, a database or a log.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson

SHORTEST = 8
"""Minimum bytes of a secret that is removed from answers. Shorter ones (`none`, `EMPTY`) would match ordinary words."""

SHORTEST_CODED = 12
"""Minimum characters of a base64 fragment that is treated as a secret."""

STANDS_FOR_KEY = b"[key]"
_LONG = re.compile(rb"\d{19}")  # a number that may not fit into 64 bits: orjson would make a float of it
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]|\\/")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secrets to remove from texts, in all their encoded forms.

    Attributes:
        everywhere: forms of all secrets, in lower case, longest first.
        in_answers: forms of the secrets that are not ordinary words, in their own case, longest first.
        signs: a short piece of each form in `in_answers`, for a fast search of the many answers.
    """

    everywhere: tuple[bytes, ...] = field(default=(), repr=False)
    in_answers: tuple[bytes, ...] = field(default=(), repr=False)
    signs: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Secrets:
        """The secrets in all their forms. Empty texts are ignored."""
        known = [text for text in dict.fromkeys(texts) if text]
        forms = _forms([text for text in known if not _is_word(text)])
        signs = tuple(dict.fromkeys(form[-SHORTEST:] for form in forms))
        return cls(_forms(known, bytes.lower), forms, signs)

    def out_of_answer(self, body: bytes) -> bytes:
        """An answer without secrets. A secret that is an ordinary word stays, since the model may have written it."""
        if not self.signs:
            return body
        if b"\\" in body and _ESCAPED_ASCII.search(body):
            body = _unescaped(body)
        for sign in self.signs:
            if sign in body:
                return _without(body, self.in_answers)
        return body

    def out_of_message(self, text: str) -> str:
        """A server's error text without secrets, ignoring case. Secrets that are ordinary words are removed too."""
        data = text.encode("utf-8", "surrogatepass")
        cleaned = _without(data, self.everywhere, bytes.lower)
        return text if cleaned is data else cleaned.decode("utf-8", "replace")


def _is_word(text: str) -> bool:
    return len(text) < SHORTEST or (len(text) < 20 and text.isalpha() and (text.islower() or text.istitle()))


def _forms(texts: list[str], case: Callable[[bytes], bytes] = bytes) -> tuple[bytes, ...]:
    """All forms of the secrets, longest first, so that no part of a longer one remains."""
    found = {case(form) for text in texts for form in _forms_of(text)}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _forms_of(text: str) -> Iterable[bytes]:
    data = text.encode("utf-8", "surrogatepass")
    yield data
    yield quote(text, safe="", errors="replace").encode()
    yield text.encode("unicode_escape")
    if len(data) >= SHORTEST:
        yield data.hex().encode()
        yield from _in_base64(data)


def _in_base64(data: bytes) -> Iterable[bytes]:
    """Base64 forms: of the secret alone, and of the secret inside a longer text, without characters shared with it."""
    yield b64encode(data)
    for before in range(3):
        coded = b64encode(bytes(before) + data)
        left = (0, 2, 3)[before]
        right = len(coded) - (0, 3, 2)[(before + len(data)) % 3]
        if right - left >= SHORTEST_CODED:
            yield coded[left:right]
            yield coded[left:right].replace(b"+", b"-").replace(b"/", b"_")


def _unescaped(body: bytes) -> bytes:
    """The JSON without escapes of ordinary characters, so that a secret in it is literal."""
    try:
        if _LONG.search(body):
            return json.dumps(json.loads(body), ensure_ascii=False).encode()
        return orjson.dumps(orjson.loads(body))
    except (ValueError, TypeError, RecursionError):
        return body


def _without(data: bytes, forms: tuple[bytes, ...], case: Callable[[bytes], bytes] = bytes) -> bytes:
    """The data without the forms; the same object if it holds none. `case` normalizes the data as it did the forms."""
    sought = case(data)
    for form in forms:
        if form in sought:
            data = _cut_out(data, sought, form)
            sought = case(data)
    return data


def _cut_out(data: bytes, sought: bytes, form: bytes) -> bytes:
    parts: list[bytes] = []
    start = 0
    while (found := sought.find(form, start)) >= 0:
        parts += (data[start:found], STANDS_FOR_KEY)
        start = found + len(form)
    return b"".join((*parts, data[start:]))
