"""Text digests of arbitrary values, equal exactly if the values are equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any, cast

from pydantic import BaseModel

_PLAIN = (str, bytes, int, float, bool, type(None))


def snapshot(value: object) -> str:
    """A digest of a value's whole content, for comparison before and after an operation that must not change it.

    Containers, dataclasses, pydantic models and objects with attributes are traversed completely, except for fields
    that take no part in comparisons (`compare=False`). Functions and other objects without content are represented by
    their name. Values that refer to themselves are followed once.
    """
    pieces: list[str] = []
    _walk(value, pieces, set())
    return blake2b("\x00".join(pieces).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _walk(value: object, pieces: list[str], above: set[int]) -> None:
    if isinstance(value, _PLAIN):
        pieces.append(f"{type(value).__name__}:{value!r}")
        return
    pieces.append(type(value).__qualname__)
    own = id(value)
    if own in above:
        return
    above.add(own)
    if isinstance(value, (Mapping, Set)):
        _walk_unordered(cast("Mapping[Any, Any] | Set[Any]", value), pieces, above)
    else:
        for name, part in _parts(value):
            pieces.append(name)
            _walk(part, pieces, above)
    above.discard(own)
    pieces.append(")")


def _walk_unordered(entries: Mapping[Any, Any] | Set[Any], pieces: list[str], above: set[int]) -> None:
    texts: list[str] = []
    for entry in entries.items() if isinstance(entries, Mapping) else entries:
        own: list[str] = []
        _walk(entry, own, above)
        texts.append("\x01".join(own))
    pieces.extend(sorted(texts))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from (("", part) for part in cast("list[Any] | tuple[Any, ...]", value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value) if field.compare)
    elif isinstance(value, BaseModel):
        yield from value.__dict__.items()
        yield from (value.model_extra or {}).items()
    elif callable(value) or isinstance(value, type):
        yield getattr(value, "__qualname__", ""), None
    elif hasattr(value, "__iter__") and hasattr(value, "__len__"):
        yield from (("", part) for part in value)
    else:
        yield from _attributes(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    own = getattr(value, "__dict__", {})
    yield from sorted(cast("dict[str, Any]", own).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                yield slot, getattr(value, slot)
