"""A table of entities indexed by bitsets: a set of rows is one integer, in which bit i stands for row i.

A search is one lookup and one `&` for each constraint, however many rows there are, then the lowest or highest bit.
Rows are built once and shared by all branches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from simkit.core.frozen import FrozenMap, freeze
from simkit.rule_based.normalise import NO_WISH, fold

Row: TypeAlias = FrozenMap[str, Any]
"""An entity."""

RowSet: TypeAlias = int
"""A set of rows of one table: bit i is set when row i is in it."""

LEAVE, ARRIVE = "leaveAt", "arriveBy"
"""Parameters that bound a time instead of naming it: not before `leaveAt`, not after `arriveBy`."""


@dataclass(frozen=True, slots=True)
class TimeIndex:
    """The rows of a table by one of its time columns: `since[i]` holds those at `points[i]` or later, `until[i]` those
    before it."""

    points: tuple[str, ...]
    since: tuple[RowSet, ...]
    until: tuple[RowSet, ...]

    @classmethod
    def of(cls, groups: Mapping[str, RowSet]) -> TimeIndex:
        """The index of one column, from its rows by time."""
        points = tuple(sorted(groups))
        until = [0]
        for point in points:
            until.append(until[-1] | groups[point])
        return cls(points, tuple(until[-1] & ~before for before in until), tuple(until))

    def after(self, time: str, *, inclusive: bool) -> RowSet:
        """Rows later than `time`, including `time` itself if inclusive."""
        cut = bisect_left if inclusive else bisect_right
        return self.since[cut(self.points, time)]

    def before(self, time: str, *, inclusive: bool) -> RowSet:
        """Rows earlier than `time`, including `time` itself if inclusive."""
        cut = bisect_right if inclusive else bisect_left
        return self.until[cut(self.points, time)]


class BitsetTable:
    """Entities of one domain in a fixed order, with an index per column. Every row has every column.

    Values are indexed as they are and folded (`simkit.rule_based.normalise.fold`). Values that stand for "no
    constraint" are not in the folded index.
    """

    __slots__ = ("_exact", "_folded", "_times", "everything", "rows")

    rows: tuple[Row, ...]
    everything: RowSet

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        found = [dict(row) for row in rows]
        columns = tuple(dict.fromkeys(key for row in found for key in row))
        self.rows = tuple(FrozenMap({key: freeze(row.get(key)) for key in columns}) for row in found)
        self.everything = (1 << len(self.rows)) - 1
        self._exact = {column: self._groups(column) for column in columns}
        self._folded = {column: _folded(groups) for column, groups in self._exact.items()}
        self._times = {column: TimeIndex.of(self._exact[column]) for column in (LEAVE, ARRIVE) if column in columns}

    def _groups(self, column: str) -> dict[str, RowSet]:
        groups: dict[str, RowSet] = {}
        for index, row in enumerate(self.rows):
            if isinstance(row[column], str):
                groups[row[column]] = groups.get(row[column], 0) | 1 << index
        return groups

    def literal(self, filters: Mapping[str, str]) -> RowSet:
        """Rows that equal the filters exactly; times are exclusive bounds."""
        return self._select(filters, self._exact, inclusive=False)

    def lenient(self, filters: Mapping[str, Any]) -> RowSet:
        """Rows whose folded values equal the filters, which must be folded; times are inclusive bounds."""
        return self._select(filters, self._folded, inclusive=True)

    def _select(
        self, filters: Mapping[str, Any], index: Mapping[str, Mapping[str, RowSet]], *, inclusive: bool
    ) -> RowSet:
        rows = self.everything
        for column, value in filters.items():
            times = self._times.get(column)
            if times is None or not isinstance(value, str):
                rows &= _lookup(index, column, value)
            elif column == LEAVE:
                rows &= times.after(value, inclusive=inclusive)
            else:
                rows &= times.before(value, inclusive=inclusive)
        return rows

    def holding(self, parameters: Mapping[str, Any]) -> RowSet:
        """Rows whose folded fields, including times, equal every parameter; the parameters must be folded."""
        rows = self.everything
        for column, value in parameters.items():
            rows &= _lookup(self._folded, column, value)
        return rows

    def named(self, column: str, value: object) -> RowSet:
        """Rows whose `column` is exactly `value`."""
        return _lookup(self._exact, column, value)

    def first(self, rows: RowSet) -> Row:
        """The first row of a non-empty set."""
        return self.rows[(rows & -rows).bit_length() - 1]

    def last(self, rows: RowSet) -> Row:
        """The last row of a non-empty set."""
        return self.rows[rows.bit_length() - 1]

    def values(self, column: str) -> tuple[str, ...]:
        """The distinct values of a column, sorted."""
        return tuple(sorted(self._exact.get(column, {})))


def _folded(groups: Mapping[str, RowSet]) -> dict[str, RowSet]:
    folded: dict[str, RowSet] = {}
    for value, rows in groups.items():
        if value not in NO_WISH:
            folded[fold(value)] = folded.get(fold(value), 0) | rows
    return folded


def _lookup(index: Mapping[str, Mapping[str, RowSet]], column: str, value: object) -> RowSet:
    return index.get(column, {}).get(value, 0) if isinstance(value, str) else 0
