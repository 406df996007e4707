"""An immutable map, for a shared base and for the few rows that a branch has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, final

K = TypeVar("K")
V = TypeVar("V")


@final
class FrozenMap(Mapping[K, V]):
    """An immutable map; `put` returns a changed copy. Hashable if its values are.

    `put` copies the map, so it is meant for the few rows that one conversation changes. A base of many rows is built
    once, without `put`.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._items: dict[K, V] = dict(items or {})

    def put(self, changes: Mapping[K, V]) -> FrozenMap[K, V]:
        """This map with some rows added or replaced."""
        return FrozenMap({**self._items, **changes})

    def get(self, key: K, default: Any = None, /) -> Any:
        """The value of a key, or the default."""
        return self._items.get(key, default)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"
