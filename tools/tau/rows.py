"""The database of a branch: a base that all branches share, and the rows that this branch changed.

A fork is a reference. A call works on a `Draft`, which copies a row when the row is edited for the first time, so a
call costs what it writes. Rows are plain dicts of JSON values. A row that is stored is never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias, cast, final

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
Side: TypeAlias = Literal["agent", "user"]

USER_TABLES: Final = "user."
"""Beginning of the names of tables that belong to the user's side, such as a phone; all others are the agent's."""
HIDDEN_TABLES: Final = "defaults."
"""Beginning of the names of tables that neither side has; their rows belong to the state and to no side's digest."""

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def row_digest(row: Row, *, exact: bool = True) -> str:
    """Digest of a row's content: the order of keys does not count, the order of lists does.

    With `exact`, the numbers 25 and 25.0 and the value True instead of 1 are different; otherwise they are equal.
    """
    return blake2b(_canonical(row if exact else _by_value(row)).encode(), digest_size=16).hexdigest()


def _by_value(value: object) -> object:
    if isinstance(value, dict):
        return {key: _by_value(part) for key, part in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_by_value(part) for part in cast("list[object]", value)]
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def copied(value: Any) -> Any:
    """A copy of a JSON value whose objects and lists are new; texts and numbers are shared.

    It takes less time than a round trip through `marshal`, which also copies all texts.
    """
    if type(value) is dict:
        row = cast("Row", value)
        return {key: copied(part) if type(part) in (dict, list) else part for key, part in row.items()}
    return [copied(part) if type(part) in (dict, list) else part for part in value]


@dataclass(frozen=True, slots=True)
class Write:
    """A row as a call left it; `row` is None if the call removed it."""

    table: str
    id: str
    row: Row | None


@final
class _Cell:
    """A stored row with its digests, which are computed when they are first needed."""

    __slots__ = ("_exact", "_loose", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self._exact = self._loose = ""

    def digest(self, exact: bool) -> str:
        if exact:
            self._exact = self._exact or row_digest(self.row)
            return self._exact
        self._loose = self._loose or row_digest(self.row, exact=False)
        return self._loose


class Base:
    """The tables that all branches of all tasks share. They are read once and never changed."""

    def __init__(self, tables: Mapping[str, Mapping[str, Row]]) -> None:
        self.tables = tables
        self._cells: dict[Key, _Cell] = {}

    def digest(self, table: str, id: str, exact: bool = True) -> str:
        """Digest of one row, empty if there is no such row; each one is computed once."""
        cell = self._cells.get((table, id))
        if cell is None:
            row = self.tables[table].get(id)
            if row is None:
                return ""
            cell = self._cells[table, id] = _Cell(row)
        return cell.digest(exact)

    def whole_digest(self) -> str:
        """Digest of all tables with their order, computed again: it shows whether anything has changed them."""
        whole = blake2b(digest_size=16)
        for table, rows in self.tables.items():
            for id, row in rows.items():
                whole.update(json.dumps([table, id, row]).encode())
        return whole.hexdigest()


@final
class Overlay:
    """A branch's rows: `changed` replaces rows of the base (None: gone), `new` follows them in order of creation."""

    __slots__ = ("base", "changed", "new")

    def __init__(self, base: Base, changed: dict[Key, _Cell | None], new: dict[Key, _Cell]) -> None:
        self.base = base
        self.changed = changed
        self.new = new

    def copy(self) -> Overlay:
        """A copy that can be changed."""
        return Overlay(self.base, dict(self.changed), dict(self.new))

    def get(self, table: str, id: str) -> Row | None:
        """The row, None if there is none."""
        key = (table, id)
        if key in self.new:
            return self.new[key].row
        if key in self.changed:
            cell = self.changed[key]
            return None if cell is None else cell.row
        return self.base.tables[table].get(id)

    def digest(self, key: Key, exact: bool) -> str:
        """Digest of a row, empty if there is none."""
        if key in self.new:
            return self.new[key].digest(exact)
        if key in self.changed:
            cell = self.changed[key]
            return "" if cell is None else cell.digest(exact)
        return self.base.digest(*key, exact)

    def items(self, table: str) -> Iterator[tuple[str, Row]]:
        """The rows of a table in their order."""
        rows = self.base.tables[table]
        changed = {id: cell for (name, id), cell in self.changed.items() if name == table}
        if changed:
            for id, row in rows.items():
                if id not in changed:
                    yield id, row
                elif (cell := changed[id]) is not None:
                    yield id, cell.row
        else:
            yield from rows.items()
        for (name, id), cell in self.new.items():
            if name == table:
                yield id, cell.row

    def put(self, table: str, id: str, row: Row) -> None:
        """Add or replace a row."""
        key = (table, id)
        gone = key in self.changed and self.changed[key] is None
        if id in self.base.tables[table] and not gone:
            self.changed[key] = _Cell(row)
        else:
            self.new[key] = _Cell(row)

    def remove(self, table: str, id: str) -> None:
        """Remove a row."""
        self.new.pop((table, id), None)
        if id in self.base.tables[table]:
            self.changed[table, id] = None


@final
class Rows:
    """The tables as one branch sees them. Immutable, equal by content; a fork is the same reference.

    Iterating gives the rows that differ from the base, as writes sorted by table and id; `len` counts them.
    """

    __slots__ = ("overlay",)

    def __init__(self, base: Base, overlay: Overlay | None = None) -> None:
        self.overlay = overlay or Overlay(base, {}, {})

    @property
    def base(self) -> Base:
        """The shared tables."""
        return self.overlay.base

    def get(self, table: str, id: str) -> Row | None:
        """The shared row, not to be changed; None if there is none."""
        return self.overlay.get(table, id)

    def items(self, table: str) -> Iterator[tuple[str, Row]]:
        """The rows of a table, not to be changed: those of the base, then new ones in order of creation."""
        return self.overlay.items(table)

    def digest(self, exact: bool = True, side: Side | None = None) -> str:
        """Digest of the content, in the time that the rows of this branch take; `exact` as in `row_digest`.

        A row that was written back to its former content makes no difference. Only states of one base are comparable.
        With a side, only its own tables count; without one, all of them.
        """
        keys = self._different(exact)
        changes = [[*key, self.overlay.digest(key, exact)] for key in keys if side in (None, _side(key[0]))]
        return blake2b(_canonical(changes).encode(), digest_size=16).hexdigest()

    def _different(self, exact: bool) -> list[Key]:
        """The keys of rows that differ from the base, sorted."""
        overlay, base = self.overlay, self.overlay.base
        keys = sorted({*overlay.changed, *overlay.new})
        return [key for key in keys if overlay.digest(key, exact) != base.digest(*key, exact)]

    def __iter__(self) -> Iterator[Write]:
        return iter([Write(*key, self.get(*key)) for key in self._different(exact=True)])

    def __len__(self) -> int:
        return len(self._different(exact=True))

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        return self is other or (self.base is other.base and self.digest() == other.digest())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"<Rows, {len(self)} changed>"


def _side(table: str) -> Side | Literal[""]:
    """The side that has a table; empty if neither has it."""
    if table.startswith(HIDDEN_TABLES):
        return ""
    return "user" if table.startswith(USER_TABLES) else "agent"


def _reads_differently(before: Overlay, after: Overlay, key: Key) -> bool:
    return json.dumps(before.get(*key)) != json.dumps(after.get(*key))


@final
class Draft:
    """The working copy of one call. Rows of `get` and `items` are shared; only a row of `edit` may be changed."""

    __slots__ = ("_overlay", "_own", "_removed", "_rows")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._overlay = rows.overlay  # copied by the first write
        self._own: dict[Key, None] = {}
        self._removed = False

    def get(self, table: str, id: str) -> Row:
        """The row, not to be changed.

        Raises:
            KeyError: there is none; its argument is the id.
            TypeError: the id is a list or an object.
        """
        row = self._overlay.get(table, id)
        if row is None:
            raise KeyError(id)
        return row

    def has(self, table: str, id: str) -> bool:
        """Whether the row exists.

        Raises:
            TypeError: the id is a list or an object.
        """
        return self._overlay.get(table, id) is not None

    def items(self, table: str) -> Iterator[tuple[str, Row]]:
        """The rows of a table, not to be changed, in the order of `Rows.items`."""
        return self._overlay.items(table)

    def edit(self, table: str, id: str) -> Row:
        """A copy of the row that may be changed; further edits give the same one.

        Raises:
            KeyError: there is none; its argument is the id.
            TypeError: the id is a list or an object.
        """
        row = self.get(table, id)
        if (table, id) not in self._own:
            row = copied(row)
            self.put(table, id, row)
        return row

    def latest(self, row: Row) -> Row:
        """What has become of a row that this draft gave out: its copy if it was edited or replaced since.

        Any other row, and one that was removed, is given back.
        """
        before = self._rows.overlay
        found = next((self._overlay.get(*key) for key in self._own if before.get(*key) is row), None)
        return row if found is None else found

    def put(self, table: str, id: str, row: Row) -> None:
        """Add or replace a row. The draft takes it over."""
        self._own_overlay().put(table, id, row)
        self._own[table, id] = None

    def remove(self, table: str, id: str) -> None:
        """Remove a row.

        Raises:
            KeyError: there is none; its argument is the id.
        """
        self.get(table, id)
        self._own_overlay().remove(table, id)
        self._own[table, id] = None
        self._removed = True

    def done(self) -> tuple[Rows, tuple[Write, ...]]:
        """The rows after the call, and those whose content differs from before, in the order of their first change.

        The order of keys is no content, but it is in texts that agents read, so a new order is kept.
        The draft goes on from there. Rows that it gave out before must not be changed afterwards.
        """
        before, after = self._rows.overlay, self._overlay
        differing = [key for key in self._own if after.digest(key, True) != before.digest(key, True)]
        if differing or self._removed or any(_reads_differently(before, after, key) for key in self._own):
            self._rows = Rows(after.base, after)
        self._overlay, self._removed = self._rows.overlay, False
        self._own.clear()
        return self._rows, tuple(Write(*key, after.get(*key)) for key in differing)

    def _own_overlay(self) -> Overlay:
        if self._overlay is self._rows.overlay:
            self._overlay = self._overlay.copy()
        return self._overlay
