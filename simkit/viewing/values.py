"""JSON values of the viewer's answers: times, cut texts, columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import orjson

LONGEST = 20_000
"""Characters of a text in an answer; the rest is fetched with `/api/message`."""

LABEL = 400
"""Characters of what a branch said or called, in a tree."""


def moment(at: datetime | float | None) -> str | None:
    """A time of the store (UTC), or seconds since the epoch, in ISO form with a Z."""
    if at is None:
        return None
    when = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
    return f"{when.isoformat(timespec='milliseconds')}Z"


def shortened(text: str | None, most: int = LABEL) -> str | None:
    """A text of at most `most` characters; an ellipsis stands for the rest."""
    return text if text is None or len(text) <= most else f"{text[: most - 1]}…"


def parsed(text: str | bytes | None) -> Any:
    """The value of a JSON text; None for none."""
    return None if text is None else orjson.loads(text)


def parsed_object(text: str | None) -> Mapping[str, Any]:
    """The object of a JSON text; empty for none, and for another value."""
    found = parsed(text)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def parsed_list(text: str | None) -> Sequence[Any]:
    """The list of a JSON text; empty for none, and for another value."""
    found = parsed(text)
    return cast("Sequence[Any]", found) if isinstance(found, list) else ()


def columns(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Rows as one list per column."""
    listed = list(rows)
    return {name: [row[name] for row in listed] for name in names}


def size(text: str) -> int:
    """Bytes of a text in UTF-8; lone surrogates count as replaced."""
    return len(text.encode("utf-8", "replace"))
