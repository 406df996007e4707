"""Recorded changes of rows, and what two ways to tell states apart must have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, TypeAlias, cast

from simkit.tools.tau.rows import copied

Key: TypeAlias = tuple[str, str]


def patched(row: Any, changes: list[list[Any]]) -> Any:
    """A row after recorded changes: JSON pointer and new value, the pointer alone if the value is gone."""
    return reduce(_with_change, changes, copied(row) if row is not None else None)


def _with_change(row: Any, change: list[Any]) -> Any:
    pointer, *value = change
    if not pointer:
        return value[0] if value else None
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    place = reduce(lambda held, part: held[int(part) if isinstance(held, list) else part], parents, row)
    if isinstance(place, list):
        items = cast("list[Any]", place)
        items[int(last) : int(last) + 1] = value
    elif value:
        place[last] = value[0]
    else:
        del place[last]
    return row


def exact(rows: Mapping[Key, Any]) -> str:
    """Rows as text in which 25, 25.0 and true differ."""
    return json.dumps(sorted([*key, row] for key, row in rows.items()), sort_keys=True)


def expect_one_to_one(states: Iterable[tuple[str, str]]) -> None:
    """The release's hashes and our digests tell the same states apart; both in pairs."""
    pairs = set(states)
    assert len({hash for hash, _ in pairs}) == len(pairs), "states that the release takes for equal have other digests"
    assert len({digest for _, digest in pairs}) == len(pairs), "states that the release tells apart have equal digests"
