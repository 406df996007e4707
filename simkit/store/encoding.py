"""Events as lines of JSON, and nothing that could make a line unreadable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any, cast

import orjson

from simkit.events import Event


def encode(event: Event) -> bytes:
    """One event as one line: `{"e": "BranchAdded", ...}` and a newline.

    Numbers that JSON does not have (NaN, infinities) become null, lone surrogates become replacement characters, and
    values JSON does not know become their text: a strange value of a world must not cost an episode.
    """
    try:
        body = orjson.dumps(event, default=_plain)
    except (TypeError, ValueError):  # lone surrogates, integers over 64 bits, keys that are not strings
        body = json.dumps(_clean(event), ensure_ascii=False).encode()
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


def _clean(value: Any) -> Any:
    """The same value from JSON's own types only."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            items = cast("Mapping[object, object]", value).items()
            return {_clean(key if isinstance(key, str) else str(key)): _clean(item) for key, item in items}
        case list() | tuple():
            return [_clean(item) for item in cast("Sequence[object]", value)]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: _clean(getattr(value, field.name)) for field in fields(value)}
        case _:
            return _clean(_plain(value))
