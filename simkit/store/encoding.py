"""Events as lines of JSON, and back: nothing that is written could make a line unreadable."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import orjson

from simkit.core.events import KINDS, Event
from simkit.core.values import shown
from simkit.errors import StoreUnreadable, WrongValue
from simkit.store.columns import Column, columns_of
from simkit.store.damage import BadLine
from simkit.store.lines import JournalLines

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
    return _HEADS[type(event)] + body[1:] + b"\n"


_HEADS = {kind: b'{"e":"%b",' % name.encode() for name, kind in KINDS.items()}


def decode(line: bytes) -> Event:
    """The event of a line. What an older version did not write has its default, what a later one adds is left out.

    Raises:
        WrongValue: the line is no event that this version knows; the message says why.
    """
    event = _parsed(line)
    kind = KINDS[event["e"]]
    values: dict[str, Any] = {}
    for name, column in columns_of(kind).items():
        value = event.get(name)
        if value is not None or column.needed:
            values[name] = value if value is None else _read(value, column)
    return kind(**values)


def _read(value: Any, column: Column) -> Any:
    """A value as the event has it: JSON has lists for tuples and objects for rows."""
    if column.row is None:
        return tuple(value) if column.many else value
    row, known = column.row, columns_of(column.row)
    return tuple(
        row(**{name: _read(each, known[name]) for name, each in one.items() if name in known and each is not None})
        for one in value
    )


def refusal(line: bytes) -> str | None:
    """Why a line is no event that this version knows; None when it may be one."""
    try:
        _parsed(line)
    except WrongValue as wrong:
        return str(wrong)
    return None


def kind_of(line: bytes) -> str:
    """The kind of event that a line begins as, without reading all of it; empty when it begins as none."""
    return line[6 : line.find(b'"', 6)].decode("utf-8", "replace") if line.startswith(b'{"e":"') else ""


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise WrongValue(f"it is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise WrongValue("it is no JSON object")
    event = cast("dict[str, Any]", found)
    name = event.get("e")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WrongValue(f"it is an event of the unknown kind {name!r:.60}")
    for field, column in columns_of(kind).items():
        value = event.get(field)
        if (value is not None or column.needed) and not column.check(value):
            said = f"its `{field}` is {value!r:.60}" if field in event else f"it is a {name} without `{field}`"
            raise WrongValue(said)
    if isinstance(event.get("seed"), float):  # orjson makes a float of an integer of more than 64 bits
        event["seed"] = json.loads(line)["seed"]
    return event


class JournalEvents:
    """The events of some kinds in a journal, as they were written; what is wrong with the journal is in `bad` then.

    Each comes with the number of gaps before it. A line that cannot be read is one, like lines that are missing.

    Raises:
        StoreUnreadable: while reading, when the file cannot be read.
    """

    def __init__(self, path: Path, kinds: Collection[type[Event]]) -> None:
        self.path = path
        self.bad: tuple[BadLine, ...] = ()
        self._wanted = frozenset(name for name, kind in KINDS.items() if kind in kinds)

    def __iter__(self) -> Iterator[tuple[Event, int]]:
        lines, unread = JournalLines(self.path), list[BadLine]()
        try:
            for line in lines:
                kind = kind_of(line.data)
                if kind and kind not in self._wanted:
                    continue
                try:
                    event = decode(line.data)
                except WrongValue as wrong:
                    bad = BadLine(self.path, line.byte, line.line, str(wrong), "unreadable", None, 1, crc32(line.data))
                    unread.append(bad)
                else:
                    yield event, line.losses + len(unread)
        except OSError as error:
            raise StoreUnreadable(f"the journal {self.path} cannot be read: {error.strerror or error}") from error
        self.bad = (*lines.bad, *unread)


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
                return {
                    field.name: self.of(getattr(value, field.name))
                    for field in fields(value)
                    if not field.name.startswith("_")  # as orjson has it
                }
            case _:
                return self.of(_plain(value))
