"""Encoding of events as JSON lines, and decoding. No value can make a written line unreadable."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import orjson

from simkit.core.events import KINDS, EndpointAdjusted, Episode, Event
from simkit.core.values import shown
from simkit.errors import StoreUnreadable, WrongValue
from simkit.store.columns import EventColumn, columns_of
from simkit.store.damage import BadLine
from simkit.store.lines import JournalLines

DEPTH = 100
"""Maximum nesting depth that is written; replies of components have a lower limit (`simkit.core.values`)."""

BITS = 4096
"""Maximum size of an integer that is written, in bits; converting larger ones to text takes too long."""

VALUES = 1_000_000
"""Maximum number of values written for one event that has to be cleaned."""


def encode(event: Event) -> bytes:
    """Encode one event as one line: `{"e": "BranchAdded", ...}` and a newline.

    Numbers that JSON cannot represent (NaN, infinities) become null, lone surrogates become replacement characters,
    and values of unknown types become their text. Values that are too deep, contain themselves or cannot be read are
    replaced by a note, so that an unusual value from a world never loses an episode.
    """
    try:
        body = orjson.dumps(event, default=_plain)
    except Exception:  # lone surrogates, integers over 64 bits, keys that are not strings, self-referential values
        body = json.dumps(_JsonCleaner().of(event), ensure_ascii=False).encode()
    return _HEADS[type(event)] + body[1:] + b"\n"


_HEADS = {kind: b'{"e":"%b",' % name.encode() for name, kind in KINDS.items()}

FINISHED = _HEADS[Episode]
"""Beginning of the line of a finished episode."""

ADJUSTED = _HEADS[EndpointAdjusted]
"""Beginning of the line of an adjustment."""


def decode(line: bytes) -> Event:
    """Decode one line. Fields missing from older versions get their defaults; fields of later versions are ignored.

    Raises:
        WrongValue: the line is not an event that this version knows; the message says why.
    """
    event = _parsed(line)
    kind = KINDS[event["e"]]
    values: dict[str, Any] = {}
    for name, column in columns_of(kind).items():
        value = event.get(name)
        if value is not None or column.needed:
            values[name] = value if value is None else _read(value, column)
    return kind(**values)


def _read(value: Any, column: EventColumn) -> Any:
    """Convert a JSON value to the event's type: lists to tuples, objects to rows."""
    if column.row is None:
        return tuple(value) if column.many else value
    row, known = column.row, columns_of(column.row)
    return tuple(
        row(
            **{
                name: each if each is None else _read(each, known[name])
                for name, each in one.items()
                if name in known and (each is not None or known[name].needed)
            }
        )
        for one in value
    )


def refusal(line: bytes) -> str | None:
    """Reason why a line is not an event that this version knows; None if it may be one."""
    try:
        _parsed(line)
    except WrongValue as wrong:
        return str(wrong)
    return None


def finished_episode(line: bytes) -> str:
    """Id of the episode that a line of `Episode` ends; the line is one that `encode` has written."""
    found = re.match(rb'"episode_id":"([^"\\]*)"', memoryview(line)[len(FINISHED) :])
    return orjson.loads(line)["episode_id"] if found is None else found[1].decode()


def kind_of(line: bytes) -> str:
    """Event kind taken from the start of a line, without parsing it; empty if the line does not start as an event."""
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
    if isinstance(event.get("seed"), float):  # orjson reads integers of more than 64 bits as floats
        event["seed"] = json.loads(line)["seed"]
    return event


class JournalEvents:
    """Events of the given kinds in a journal, in order. After iteration, `bad` holds the damage that was found.

    Each event comes with the number of gaps before it. Missing lines and unreadable lines count as gaps.

    Raises:
        StoreUnreadable: the file cannot be read (raised during iteration).
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
    """Convert a value that orjson does not support, one level at a time."""
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


class _JsonCleaner:
    """Last-resort converter to plain JSON types. It never fails and always terminates."""

    def __init__(self) -> None:
        self._around: list[int] = []
        self._left = VALUES

    def of(self, value: Any) -> Any:
        """The value with a note in place of each part that is left out."""
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
                    if not field.name.startswith("_")  # as orjson does
                }
            case _:
                return self.of(_plain(value))
