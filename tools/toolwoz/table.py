"""A table of entities with bitmap indexes: a set of rows is one integer, in which bit i stands for row i.

A search is a few `&` operations on integers of at most 2,828 bits, then the lowest or highest bit. Rows are built once
and shared by all branches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, cast

from simkit.rule_based.matching import clean, fold

RowSet: TypeAlias = int
"""A set of rows of one table: bit i is set when row i is in it."""

LEAVE, ARRIVE = "leaveAt", "arriveBy"
"""Parameters that bound a time instead of naming it: not before `leaveAt`, not after `arriveBy`."""


class Row(dict[str, Any]):
    """An immutable JSON entity, shared by all branches of all conversations."""

    __slots__ = ()

    def _frozen(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("rows are shared and cannot be changed; copy with dict(row)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _frozen  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> Row:
        return self

    def __reduce__(self) -> tuple[type[Row], tuple[dict[str, Any]]]:
        return Row, (dict(self),)


def freeze(value: object) -> Any:
    """A JSON value whose objects are rows and whose lists are tuples."""
    if isinstance(value, dict):
        return Row({key: freeze(item) for key, item in cast("dict[str, object]", value).items()})
    if isinstance(value, list):
        return tuple(freeze(item) for item in cast("list[object]", value))
    return value


@dataclass(frozen=True, slots=True)
class Times:
    """The rows of a table by one of its time columns: `since[i]` holds the rows at `points[i]` or later."""

    points: tuple[str, ...]
    since: tuple[RowSet, ...]

    @classmethod
    def of(cls, groups: Mapping[str, RowSet]) -> Times:
        """The index of one column, from its rows by time."""
        points = tuple(sorted(groups))
        since = [0]
        for point in reversed(points):
            since.append(since[-1] | groups[point])
        return cls(points, tuple(reversed(since)))

    def after(self, time: str, *, inclusive: bool) -> RowSet:
        """Rows later than `time`, including `time` itself if inclusive."""
        cut = bisect_left if inclusive else bisect_right
        return self.since[cut(self.points, time)]

    def before(self, time: str, *, inclusive: bool) -> RowSet:
        """Rows earlier than `time`, including `time` itself if inclusive."""
        cut = bisect_right if inclusive else bisect_left
        return self.since[0] & ~self.since[cut(self.points, time)]


class Table:
    """The entities of one domain in the order of their file, with an index per column."""

    __slots__ = ("_exact", "_folded", "_times", "everything", "rows")

    rows: tuple[Row, ...]
    everything: RowSet

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        found = [dict(row) for row in rows]
        columns = tuple(dict.fromkeys(key for row in found for key in row))
        self.rows = tuple(Row({key: freeze(row.get(key)) for key in columns}) for row in found)
        self.everything = (1 << len(self.rows)) - 1
        self._exact = {column: self._groups(column) for column in columns}
        self._folded = {column: _folded(groups) for column, groups in self._exact.items()}
        self._times = {column: Times.of(self._exact[column]) for column in (LEAVE, ARRIVE) if column in columns}

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
        """Rows that equal the cleaned filters, ignoring case and apostrophes; times are inclusive bounds."""
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
        """Rows whose fields, including times, equal every cleaned parameter, ignoring case and apostrophes."""
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
        if clean({"value": value}, lenient=False):
            folded[fold(value)] = folded.get(fold(value), 0) | rows
    return folded


def _lookup(index: Mapping[str, Mapping[str, RowSet]], column: str, value: object) -> RowSet:
    return index.get(column, {}).get(value, 0) if isinstance(value, str) else 0
