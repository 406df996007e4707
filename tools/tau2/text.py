"""Text that a side reads as the result of a call in tau2-bench.

The release's tools return records of a schema or plain values. Numbers and truth values stay what they are in records
and become strings everywhere else.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import cast

from simkit.tools.tau.rows import Draft, Row


@dataclass(frozen=True, slots=True)
class Record:
    """A result, or a part of one, that has a schema in the release; its row may be one of the draft's."""

    row: Row


def value_text(db: Draft, value: object) -> str:
    """The result of a tool as text: a string as it is, anything else as JSON.

    A record is read from the draft again, since the release words it only after both sides were synchronized.

    Raises:
        ValueError: the value has a part that is no JSON value, no date and no record.
    """
    return value if isinstance(value, str) else json.dumps(_plain(db, value))


def _plain(db: Draft, value: object) -> object:
    match value:
        case Record():
            return db.latest(value.row)
        case str() | None:
            return value
        case bool() | int() | float():
            return str(value)
        case list() | tuple():
            return [_plain(db, part) for part in cast("list[object]", value)]
        case dict():
            return {key: _plain(db, part) for key, part in cast("dict[str, object]", value).items()}
        case datetime.date():
            return value.isoformat()
        case _:
            raise ValueError(f"Unsupported type: {type(value)}")
