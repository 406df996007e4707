"""Checks of values from components: JSON within limits, numbers, states; and display of invalid ones.

The checks on every reply cost about a microsecond: they compare types and traverse values in C. Only a value that fails
them is traversed in Python, to make a plain copy of it or to describe the problem.
"""

from __future__ import annotations

import gc
import json
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from sys import getsizeof
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import orjson

from simkit.errors import WrongValue

JSON_DEPTH = 64
"""Maximum nesting depth of lists and objects: more than needed in practice, far below Python's recursion limit."""

JSON_SIZE = 1_000_000
"""Maximum characters of JSON text in a tool's result, the arguments of a call, or the writes of a call."""

COUNT_AT_MOST = 1 << 53
"""Maximum for counts (tokens, steps): every JSON reader represents integers up to here exactly."""

_SHOWN = 80
_BITS = 4096  # Python writes no longer integers as text
_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ONLY_JSON = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_VALUES = JSON_SIZE // 2  # a value and its comma take two characters
_PLAIN = frozenset({type(None), bool, int, float, str, list, tuple, dict})
_FEW, _BYTES = 256, 64 * JSON_SIZE  # values that are not weighed; bytes of a level that Python needs for them at most
_VALUE_TYPES = frozenset({type(None), tuple, str, int, frozenset})  # cannot be used up
_READING = ("__iter__", "items", "__len__", "__getitem__")
_Holding: TypeAlias = "Mapping[object, object] | list[object] | tuple[object, ...]"
_OBJECTS = (dict, OrderedDict, defaultdict, Counter, MappingProxyType)


# --- JSON -------------------------------------------------------------------------------------------------------------


def within_depth(value: object) -> bool:
    """Whether a value is at most `JSON_DEPTH` deep and does not contain more values than fit into `JSON_SIZE`.

    False for a value that contains itself, and for many objects of non-JSON types: such an object refers to its class,
    and the class to everything loaded. The check uses the garbage collector's references, level by level, without
    running any code of the value: a value of a few references can represent more text than fits into memory.
    """
    level: list[object] = [value]
    for _ in range(JSON_DEPTH + 1):
        level = gc.get_referents(*level)
        if not level:
            return True
        if len(level) > _FEW and not _is_light(level):
            return False
    return False


def _is_light(level: list[object]) -> bool:
    """Whether many values have plain types and fit into the limits; `getsizeof` would run the code of other types."""
    return len(level) <= _VALUES and _PLAIN.issuperset(map(type, level)) and sum(map(getsizeof, level)) <= _BYTES


def plain_json(value: object) -> tuple[Any, str]:
    """A value of plain JSON types (`value` itself or a copy), and its text as models read it.

    Raises:
        WrongValue: it is not JSON, or not within bounds; the message says where.
    """
    if type(value) is not str:
        try:
            if within_depth(value):
                orjson.dumps(value, option=_ONLY_JSON)
                return value, _bounded(_STRICT.encode(value))
        except (TypeError, ValueError):  # not JSON; or JSON that one of the two writers does not take
            pass
        value = _Copy().of(value)
    return value, _bounded(value if isinstance(value, str) else _STRICT.encode(value))


def plain_object(value: object) -> dict[str, Any]:
    """A JSON object: `value` itself, or a copy if it contains other than plain JSON types.

    Raises:
        WrongValue: it is not a JSON object, or exceeds the limits.
    """
    if type(value) is dict and within_depth(cast("object", value)):
        try:
            text = orjson.dumps(value, option=_ONLY_JSON)
        except (TypeError, ValueError):
            text = b"null"
        if len(text) <= JSON_SIZE and b"null" not in text:  # also written for the numbers that JSON does not have
            return cast("dict[str, Any]", value)
    if not isinstance(value, Mapping):
        raise WrongValue(f"{shown(value)}, which is no JSON object")
    copy, _ = plain_json(cast("object", value))
    return copy


def _bounded(text: str) -> str:
    if len(text) > JSON_SIZE:
        raise WrongValue(f"{len(text):,} characters of JSON; at most {JSON_SIZE:,} are allowed", too_large=True)
    return text


@dataclass(frozen=True, slots=True)
class _Copied:
    """A list or object that was copied already; repeated references could expand to more text than fits into memory."""

    original: object
    copy: Any
    characters: int
    height: int


class _Copy:
    """Copies a value into plain JSON types, or finds the part that is not JSON."""

    def __init__(self) -> None:
        self._room = JSON_SIZE
        self._deepest = 0
        self._around: list[int] = []
        self._path: list[object] = []
        self._taken: dict[int, _Copied] = {}

    def of(self, value: object) -> Any:
        """The copy.

        Raises:
            WrongValue: the value cannot be copied to JSON.
        """
        self._take(2)
        match value:
            case None | bool():
                return value
            case str():
                self._take(len(value))
                return str.__str__(value)
            case int():
                if int.bit_length(value) > _BITS:
                    raise WrongValue(f"{shown(value)}{self._at()}, which is too long to be written")
                return int.__int__(value)
            case float():
                return self._finite(float.__float__(value))
            case dict() | MappingProxyType() | list() | tuple() if _plainly(cast("object", value)):
                return self._around_it(cast("_Holding", value))
            case Mapping() if callable(getattr(cast("object", value), "json_text", None)):  # JSON already
                return self._around_it(dict(cast("Mapping[object, object]", value)))
            case _:
                raise WrongValue(f"{shown(value)}{self._at()}, which is not JSON")

    def _around_it(self, value: _Holding) -> Any:
        if id(value) in self._around:
            raise WrongValue(f"a {type(value).__name__}{self._at()} that holds itself, which is not JSON")
        taken, level = self._taken.get(id(value)), len(self._around) + 1
        if level + (taken.height if taken else 0) > JSON_DEPTH:
            raise WrongValue(f"lists and objects inside one another, more than {JSON_DEPTH} levels deep")
        if taken is not None:
            self._take(taken.characters)
            return taken.copy
        before, room, self._deepest = self._deepest, self._room, level
        self._around.append(id(value))
        copy = self._inside(value)
        self._around.pop()
        self._taken[id(value)] = _Copied(value, copy, room - self._room, self._deepest - level)
        self._deepest = max(self._deepest, before)
        return copy

    def _inside(self, value: _Holding) -> Any:
        if isinstance(value, Mapping):
            return {self._key(key): self._at_place(key, item) for key, item in value.items()}
        return [self._at_place(number, item) for number, item in enumerate(value)]

    def _at_place(self, place: object, item: object) -> Any:
        self._path.append(place)
        copy = self.of(item)
        self._path.pop()
        return copy

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise WrongValue(f"an object{self._at()} with the key {shown(key)}; the keys of JSON are texts")
        self._take(len(key))
        return str.__str__(key)

    def _finite(self, value: float) -> float:
        if not math.isfinite(value):
            raise WrongValue(f"the number {value}{self._at()}, which JSON does not have")
        return value

    def _take(self, characters: int) -> None:
        self._room -= characters
        if self._room < 0:
            raise WrongValue(f"more than {JSON_SIZE:,} characters of JSON", too_large=True)

    def _at(self) -> str:
        """Path of the current position, such as `.rows[3].name`."""
        place = "".join(f"[{each}]" if isinstance(each, int) else f".{each!s:.40}" for each in self._path[:20])
        return f" at `{_printable(place)}`" if place else ""


def _plainly(value: object) -> bool:
    """Whether traversing a value runs none of its own code."""
    kind: Any = type(value)
    if kind in _OBJECTS:
        return True
    bases: tuple[Any, ...] = (dict, list, tuple)
    base = next((each for each in bases if issubclass(kind, each)), None)
    return base is not None and all(getattr(kind, name, None) is getattr(base, name, None) for name in _READING)


# --- numbers ----------------------------------------------------------------------------------------------------------


def number(value: object, what: str, low: float, high: float) -> float:
    """A real number from `low` to `high` as a float; accepts integers, fractions, booleans and numpy numbers.

    Raises:
        WrongValue: it is not a number, or outside the range.
    """
    if type(value) is float and low <= value <= high:
        return value
    found = _float(value) if isinstance(value, Real) else None
    if found is None:
        raise WrongValue(f"{what} {shown(value)}; give a number from {low:g} to {high:g}, as a float")
    if not low <= found <= high:
        raise WrongValue(f"{what} {shown(found)}; give a number from {low:g} to {high:g}")
    return found


def _float(value: Real) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def count(value: object, what: str, at_most: int = COUNT_AT_MOST) -> int:
    """An integer from 0 to `at_most`; booleans are rejected.

    Raises:
        WrongValue: it is not an integer, or outside the range.
    """
    if type(value) is int and 0 <= value <= at_most:
        return value
    whole = None
    if not isinstance(value, bool) and hasattr(type(value), "__index__"):  # numpy's, and the like
        whole = int(cast("Any", value).__index__())
    if whole is None or not 0 <= whole <= at_most:
        raise WrongValue(f"{what} {shown(value)}; give a whole number from 0 to {at_most}")
    return whole


# --- states -----------------------------------------------------------------------------------------------------------


def branch_state(state: object) -> object:
    """Check that several branches can share a state.

    Raises:
        WrongValue: it is used up by reading (an iterator, a generator, an open file) or was not awaited.
    """
    kind = type(state)
    if kind not in _VALUE_TYPES and (problem := _state_problem(kind)):
        raise WrongValue(f"the state {shown(state)}, {problem}")
    return state


@lru_cache(256)
def _state_problem(kind: type) -> str:
    """Reason why several branches cannot share objects of a class; empty if they can."""
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        return "which is used up by reading it; keep a value, a tuple say"
    return "which is not there yet; await it, and keep what it gives" if hasattr(kind, "__await__") else ""


# --- what is wrong, in words ------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """Short printable description of any value; runs none of the value's own code."""
    kind = type(value)
    if kind in (type(None), bool, float):
        return repr(value)
    if kind is int:
        bits = int.bit_length(cast("int", value))
        return str(value) if bits <= 256 else f"an integer of {bits} bits"
    if issubclass(kind, str):
        text = str.__str__(cast("str", value))
        return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text):,} characters)"
    if kind in (bytes, list, tuple, dict, set, frozenset):
        held = cast("list[object]", value)
        return f"{len(held):,} bytes" if kind is bytes else f"a {kind.__name__} of {len(held):,}"
    return f"the class {_name(cast('type', value))}" if issubclass(kind, type) else _kind(value)


def _kind(value: object) -> str:
    name = _name(type(value))
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _name(kind: object) -> str:
    name = type.__dict__["__qualname__"].__get__(kind)
    return _printable(str(name))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_SHOWN])


def without_surrogates(value: Any) -> Any:
    """A JSON value with U+FFFD for half of a character, as a model writes it when it is cut off inside an emoji."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [without_surrogates(each) for each in cast("list[Any]", value)]
        case dict():
            fields = cast("dict[str, Any]", value)
            return {without_surrogates(key): without_surrogates(each) for key, each in fields.items()}
        case _:
            return value
