"""A world's state in JSON documents, of which each call gets a copy of those that it looks at.

server = FunctionTools(find_items, place_order, state=Documents.of({"items": [...], "orders": []}))
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import orjson

from simkit.core.messages import JsonObject, sorted_json
from simkit.errors import UsageError
from simkit.tools.drafts import Draft, DraftedState, RowChange, Tables
from simkit.tools.row_digests import digest_of, table_error


@dataclass(frozen=True, slots=True)
class Documents(DraftedState):
    """JSON documents by name as an immutable state. A function with a parameter `data` gets them as a dict.

    It may change what it gets in place: it is a copy, which becomes the next state, unless the function answers with an
    error. Documents that a call does not look at are neither copied nor read.

    The rows of a document are its elements. The rows of an object of objects have its keys in the column `key`.
    """

    parameter: ClassVar[str] = "data"
    texts: tuple[tuple[str, bytes], ...] = field(repr=False)

    @classmethod
    def of(cls, documents: Mapping[str, Any]) -> Documents:
        """The state of these documents.

        Raises:
            UsageError: a document is not JSON.
        """
        return cls(tuple(sorted((name, _text(name, value)) for name, value in documents.items())))

    @contextmanager
    def draft(self) -> Generator[_Copy]:
        """A copy of the documents."""
        yield _Copy(self)

    def tables(self) -> tuple[str, ...]:
        """Names of the documents, sorted."""
        return tuple(name for name, _ in self.texts)

    def digest(self, tables: Tables) -> str:
        """Digest of the rows of these documents, whatever their order.

        Raises:
            UsageError: there is no such document, or no row with such a column.
        """
        known = {name: _rows(text) for name, text in self.texts}
        columns = {name: tuple(dict.fromkeys(key for row in rows for key in row)) for name, rows in known.items()}
        for table, chosen in tables.items():
            if problem := table_error(table, chosen if known.get(table) else (), columns):
                raise UsageError(f"the data {problem}")
        return digest_of({table: _columns(known[table], chosen) for table, chosen in tables.items()})

    def changes(self, since: DraftedState) -> tuple[RowChange, ...]:
        """The rows that differ from an earlier state.

        Raises:
            UsageError: the earlier state is none of documents.
        """
        if not isinstance(since, Documents):
            raise UsageError(f"documents cannot be compared with a {type(since).__name__}")
        before, now = dict(since.texts), dict(self.texts)
        return tuple(
            change
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
            for change in _differences(name, before.get(name, b"[]"), now.get(name, b"[]"))
        )


class _Copy(Draft):
    def __init__(self, before: Documents) -> None:
        self._before = before
        self._read = _Read(dict(before.texts))

    @property
    def value(self) -> _Read:
        """The documents."""
        return self._read

    def finish(self) -> tuple[Documents, tuple[RowChange, ...]]:
        """The documents after the call, and the rows that the call changed."""
        after = Documents(tuple(sorted(self._read.texts().items())))
        return (self._before, ()) if after == self._before else (after, after.changes(self._before))


class _Read(MutableMapping[str, Any]):
    """Documents that are read when they are looked at."""

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._texts = texts
        self._values: dict[str, Any] = {}

    def texts(self) -> dict[str, bytes]:
        """The documents as texts.

        Raises:
            UsageError: a document is not JSON any more.
        """
        return {**self._texts, **{name: _text(name, value) for name, value in self._values.items()}}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = orjson.loads(self._texts[name])
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._texts.setdefault(name, b"null")
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._texts[name]
        self._values.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _text(name: str, value: object) -> bytes:
    try:
        text = orjson.dumps(value)
        if b"null" in text:  # also written for the numbers that JSON does not have
            json.dumps(value, allow_nan=False, default=lambda _: None)
        return text
    except (TypeError, ValueError) as error:
        hint = "; write such numbers as texts" if "64-bit" in str(error) else ""
        raise UsageError(f"the document `{name}` of the world's data is not JSON: {error}{hint}") from error


def _rows(text: bytes) -> list[JsonObject]:
    value: object = orjson.loads(text)
    match value:
        case list():
            return [_row(each) for each in cast("list[object]", value)]
        case dict():
            known = cast("JsonObject", value)
            if known and all(isinstance(each, dict) for each in known.values()):
                return [{"key": key, **each} for key, each in known.items()]
            return [known] if known else []
        case _:
            return [_row(value)]


def _row(value: object) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {"value": value}


def _columns(rows: list[JsonObject], chosen: object) -> list[JsonObject]:
    names = tuple(cast("tuple[str, ...]", chosen))
    return [{name: row.get(name) for name in names} for row in rows] if names else rows


def _differences(name: str, before: bytes, after: bytes) -> Iterator[RowChange]:
    was, now = (Counter(map(sorted_json, _rows(text))) for text in (before, after))
    yield from (RowChange(name, orjson.loads(row), removed=True) for row in (was - now).elements())
    yield from (RowChange(name, orjson.loads(row)) for row in (now - was).elements())
