"""Search by bit sets: one integer per value and one AND per constraint, without looking at rows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from simkit.tools.builtin.frozen import FrozenMap

Row: TypeAlias = tuple[tuple[str, str], ...]
"""An entity as pairs of field and value: immutable throughout, and `dict(row)` is a fresh copy."""

NO_MATCH = -1


def normal(text: str) -> str:
    """The form in which values are compared: lower case, no apostrophes, single blanks."""
    return " ".join(text.replace("'", "").replace("’", "").casefold().split())


@dataclass(frozen=True, slots=True)
class TimeIndex:
    """Rows by a time: `since[i]` holds those at or after `times[i]`, `until[i]` those before it."""

    times: tuple[str, ...]
    since: tuple[int, ...]
    until: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[str]) -> TimeIndex:
        """The index of one column."""
        masks = _masks(values)
        times = tuple(sorted(masks))
        until = [0]
        for time in times:
            until.append(until[-1] | masks[time])
        return cls(times, tuple(until[-1] & ~before for before in until), tuple(until))

    def not_before(self, time: str) -> int:
        """Rows at `time` or later."""
        return self.since[bisect_left(self.times, time)]

    def not_after(self, time: str) -> int:
        """Rows at `time` or earlier."""
        return self.until[bisect_right(self.times, time)]


@dataclass(frozen=True, slots=True)
class Table:
    """The entities of one domain with their index. Sets of rows are integers, bit `i` being row `i`."""

    domain: str
    id_field: str
    rows: tuple[Row, ...]
    everything: int
    equal: FrozenMap[str, FrozenMap[str, int]]
    leaves: TimeIndex
    arrives: TimeIndex

    @classmethod
    def of(cls, domain: str, id_field: str, rows: tuple[Row, ...]) -> Table:
        """The table of one domain."""
        columns = {field: [dict(row)[field] for row in rows] for field, _ in rows[0]}
        equal = {field: FrozenMap(_masks([normal(value) for value in values])) for field, values in columns.items()}
        leaves, arrives = (TimeIndex.of(columns.get(field, [])) for field in ("leaveAt", "arriveBy"))
        return cls(domain, id_field, rows, (1 << len(rows)) - 1, FrozenMap(equal), leaves, arrives)

    def matches(self, constraints: Mapping[str, str]) -> int:
        """The rows that meet every constraint; times are inclusive."""
        found = self.everything
        for slot, value in constraints.items():
            found &= self._meets(slot, value)
        return found

    def position(self, entity: str) -> int:
        """The row of an entity by its id value, `NO_MATCH` if it does not exist."""
        return first(self.equal[self.id_field].get(normal(entity), 0))

    def _meets(self, slot: str, value: str) -> int:
        match slot:
            case "leaveAt":
                return self.leaves.not_before(value)
            case "arriveBy":
                return self.arrives.not_after(value)
            case _:
                return self.equal[slot].get(normal(value), 0)


def first(rows: int) -> int:
    """The lowest row of a set, or `NO_MATCH` if it is empty."""
    return (rows & -rows).bit_length() - 1


def _masks(values: Iterable[str]) -> dict[str, int]:
    masks: dict[str, int] = {}
    for position, value in enumerate(values):
        masks[value] = masks.get(value, 0) | 1 << position
    return masks
