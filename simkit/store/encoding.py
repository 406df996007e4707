"""Events as lines of JSON, and nothing that could make a line unreadable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any, cast

import orjson

from simkit.core.events import Event
from simkit.core.values import shown

DEPTH = 100
"""Levels of a value that are written; what components reply is held to fewer (`simkit.core.values`)."""

BITS = 4096
"""Bits of a whole number that is written; longer ones take too long to become text."""

VALUES = 1_000_000
"""Values in one event that are written, when it has to be cleaned."""


def encode(event: Event) -> bytes:
    """One event as one line: `{"e": "BranchAdded", ...}` and a newline.

    Numbers that JSON does not have (NaN, infinities) become null, lone surrogates become replacement characters, and
    values JSON does not know become their text, and what is too deep, holds itself or cannot be read is left out with a
    note: a strange value of a world must not cost an episode.
    """
    try:
        body = orjson.dumps(event, default=_plain)
    except Exception:  # lone surrogates, integers over 64 bits, keys that are not strings, values that hold themselves
        body = json.dumps(_Cleaner().of(event), ensure_ascii=False).encode()
    return b'{"e":"%s",' % type(event).__name__.encode() + body[1:] + b"\n"


def _plain(value: object) -> object:
    """What orjson does not know, one level at a time."""
    text = getattr(value, "json_text", None)
    if callable(text):  # already JSON: an exact copy
        return orjson.Fragment(cast("bytes", text()))
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, Set):
        return sorted(cast("Set[object]", value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return list(cast("Sequence[object]", value))
    return str(value)


class _Cleaner:
    """Makes values of JSON's own types only: the last resort, which never fails and never goes on for ever."""

    def __init__(self) -> None:
        self._around: list[int] = []
        self._left = VALUES

    def of(self, value: Any) -> Any:
        """The same value, with a note where a part of it is left out."""
        self._left -= 1
        if self._left < 0:
            return f"(left out: more than {VALUES} values)"
        match value:
            case None | bool():
                return value
            case int():
                return value if value.bit_length() <= BITS else f"(left out: an integer of {value.bit_length()} bits)"
            case str():
                return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            case float():
                return value if math.isfinite(value) else None
            case _ if id(value) in self._around:
                return "(left out: a value that holds itself)"
            case _ if len(self._around) >= DEPTH:
                return f"(left out: more than {DEPTH} levels deep)"
            case _:
                self._around.append(id(value))
                try:
                    return self._inside(value)
                except Exception:  # the value's own code
                    return f"(left out: {shown(value)}, which cannot be read)"
                finally:
                    self._around.pop()

    def _inside(self, value: Any) -> Any:
        match value:
            case Mapping():
                items = cast("Mapping[object, object]", value).items()
                return {self.of(key if isinstance(key, str) else str(key)): self.of(item) for key, item in items}
            case list() | tuple():
                return [self.of(item) for item in cast("Sequence[object]", value)]
            case orjson.Fragment():
                return self.of(json.loads(orjson.dumps(value)))
            case _ if is_dataclass(value) and not isinstance(value, type):
                return {field.name: self.of(getattr(value, field.name)) for field in fields(value)}
            case _:
                return self.of(_plain(value))
