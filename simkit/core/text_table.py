"""Text tables with aligned columns, fitted to a width in terminal cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size

from simkit.core.safe_text import visible_line

GAP = "  "
SHORTEST = 8
"""Minimum width of a column that may be shortened, in cells."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        drop: on a narrow terminal, columns with a higher number are dropped first; 0 is never dropped.
        shorten: its values may be shortened with `…`.
        right: align to the right, for numbers.
    """

    name: str
    drop: int = 0
    shorten: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each column in cells."""
        texts = [[column.name, *(row[place] for row in self.rows)] for place, column in enumerate(self.columns)]
        return tuple(max(map(cell_len, column)) for column in texts)

    @property
    def width(self) -> int:
        """Width of a line in cells."""
        return sum(self.widths) + len(GAP) * max(0, len(self.columns) - 1)

    def visible(self) -> Table:
        """The table with every cell as one line that is safe on a terminal."""
        columns = tuple(replace(column, name=visible_line(column.name)) for column in self.columns)
        return Table(columns, tuple(tuple(map(visible_line, row)) for row in self.rows))

    def fitted(self, width: int) -> Table:
        """The table fitted to `width` cells as far as possible: long texts are shortened, then columns dropped."""
        table = self._shortened(width)
        while table.width > width and any(column.drop for column in self.columns):
            place = max(range(len(self.columns)), key=lambda place: self.columns[place].drop)
            return self._without(place).fitted(width)
        return table

    def lines(self) -> Iterator[str]:
        """The heading and the rows as lines without trailing blanks."""
        widths = self.widths
        yield self._line([column.name for column in self.columns], widths)
        yield "-" * self.width
        for row in self.rows:
            yield self._line(row, widths)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            " " * (width - cell_len(cell)) + cell if column.right else set_cell_size(cell, width)
            for cell, width, column in zip(cells, widths, self.columns, strict=True)
        )
        return GAP.join(padded).rstrip()

    def _shortened(self, width: int) -> Table:
        excess = self.width - width
        rows = self.rows
        for place in sorted(range(len(self.columns)), key=lambda place: -self.widths[place]):
            if excess > 0 and self.columns[place].shorten:
                wide = self.widths[place]
                room = max(wide - excess, min(wide, max(SHORTEST, len(self.columns[place].name))))
                rows = tuple((*row[:place], cut(row[place], room), *row[place + 1 :]) for row in rows)
                excess -= wide - room
        return Table(self.columns, rows)

    def _without(self, place: int) -> Table:
        columns = (*self.columns[:place], *self.columns[place + 1 :])
        return Table(columns, tuple((*row[:place], *row[place + 1 :]) for row in self.rows))


def cut(text: str, length: int) -> str:
    """A text in at most `length` cells; shortened text ends with an ellipsis."""
    flat = " ".join(text.split())
    return flat if cell_len(flat) <= length else set_cell_size(flat, length - 1).rstrip() + "…"
