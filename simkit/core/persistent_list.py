"""Immutable sequences that share their history: appending costs one small cell, regardless of the length.

Each cell points to the sequence before it. Ten thousand branches of one history store that history once; each branch
adds only its own items. Values derived from a prefix (its digest, its JSON) are computed once and cached in its cell.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Self, TypeVar, final, overload

from simkit.core.messages import WireModel

T = TypeVar("T")
W = TypeVar("W", bound=WireModel)


class PersistentList(Sequence[T]):
    """An immutable sequence; `append` and `extend` return a new one that shares the old."""

    __slots__ = ("_before", "_digest", "_last", "_length")

    _before: Self | None
    _last: T | None
    _length: int
    _digest: bytes | None

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._before, self._last, self._length, self._digest = None, None, 0, None
        grown = self
        for item in items:
            grown = grown.append(item)
        if grown is not self:
            self._before, self._last, self._length = grown._before, grown._last, grown._length

    def append(self, item: T) -> Self:
        """A sequence with one more item."""
        kind = type(self)
        cell = kind.__new__(kind)
        length = self._length
        cell._before = self if length else None
        cell._last = item
        cell._length = length + 1
        cell._digest = None
        return cell

    def extend(self, items: Iterable[T]) -> Self:
        """A sequence with more items."""
        grown = self
        for item in items:
            grown = grown.append(item)
        return grown

    def tail(self, start: int) -> tuple[T, ...]:
        """The items from index `start`, at a cost proportional to their number."""
        found: list[T] = []
        cell = self
        while cell._last is not None and cell._length > start:
            found.append(cell._last)
            if cell._before is None:
                break
            cell = cell._before
        found.reverse()
        return tuple(found)

    def since(self, earlier: Self) -> tuple[T, ...] | None:
        """The items after `earlier`; None if this sequence was not built from that object."""
        found: list[T] = []
        cell: Self | None = self
        while cell is not None and cell is not earlier:
            if cell._last is None or cell._length <= earlier._length:
                return None
            found.append(cell._last)
            cell = cell._before
        if cell is None and earlier._length:
            return None
        found.reverse()
        return tuple(found)

    @property
    def last(self) -> T | None:
        """The last item; None if the sequence is empty."""
        return self._last

    @property
    def before(self) -> Self:
        """The sequence without its last item."""
        return type(self)() if self._before is None else self._before

    @property
    def digest(self) -> bytes:
        """16-byte digest of all items in order; computed once per cell."""
        if self._digest is not None:
            return self._digest
        pending: list[Self] = []
        cell: Self | None = self
        while cell is not None and cell._digest is None:
            pending.append(cell)
            cell = cell._before
        digest = b"" if cell is None or cell._digest is None else cell._digest
        for cell in reversed(pending):
            if cell._last is not None:
                digest = cell._digest = self._after(digest, cell._last)
        return digest

    @abstractmethod
    def _after(self, digest: bytes, item: T) -> bytes:
        """The digest of a sequence with one more item."""

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return iter(self.tail(0))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return self.tail(0)[index]
        position = index + self._length if index < 0 else index
        if not 0 <= position < self._length:
            raise IndexError(f"item {index} of a {type(self).__name__.lower()} of {self._length}")
        return self.tail(position)[0]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or (self._length == other._length and self.tail(0) == other.tail(0))

    def __hash__(self) -> int:
        return hash((self._length, self._last))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.tail(0),))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._length} items)"


@final
class JsonList(PersistentList[W]):
    """Messages or tools of a request; the JSON and the digest of each item are computed only once.

    `has_extras` tells whether any item has fields that the chat format does not define.
    """

    __slots__ = ("_text", "has_extras")

    _text: bytes
    has_extras: bool

    def __init__(self, items: Iterable[W] = ()) -> None:
        self.has_extras = False
        super().__init__(items)
        self._text, before = b"" if self._last is None else self._last.to_json(), self._before
        self.has_extras = bool(self._last and self._last.__pydantic_extra__) or (
            before is not None and before.has_extras
        )

    def append(self, item: W) -> Self:
        """A list with one more item."""
        grown = super().append(item)
        grown._text = item.to_json()
        grown.has_extras = self.has_extras or bool(item.__pydantic_extra__)
        return grown

    def to_json(self) -> bytes:
        """The items as JSON text, with commas between them."""
        texts: list[bytes] = []
        cell: Self | None = self if self._length else None
        while cell is not None:
            texts.append(cell._text)
            cell = cell._before
        texts.reverse()
        return b",".join(texts)

    def marks(self) -> bytes:
        """4 bytes per item, which reveal the first item in which two lists differ."""
        marks: list[bytes] = []
        cell: Self | None = self if self.digest else None  # asking for it has found those of all cells before
        while cell is not None and cell._digest is not None:
            marks.append(cell._digest[:4])
            cell = cell._before
        marks.reverse()
        return b"".join(marks)

    def _after(self, digest: bytes, item: W) -> bytes:
        return blake2b(item.to_json(), key=digest, digest_size=16).digest()


def json_list(items: Sequence[W]) -> JsonList[W]:
    """The items as a `JsonList`; a `JsonList` is returned unchanged."""
    return items if isinstance(items, JsonList) else JsonList(items)
