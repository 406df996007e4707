"""Immutable maps and JSON values, which branches share without copying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar, cast, final

K = TypeVar("K")
V = TypeVar("V")


@final
class FrozenMap(dict[K, V]):
    """An immutable dict; `put` returns a changed copy. Hashable if its values are.

    `put` copies the map, so it is meant for the few rows that one conversation changes. A base of many rows is built
    once, without `put`.
    """

    __slots__ = ()

    def put(self, changes: Mapping[K, V]) -> FrozenMap[K, V]:
        """This map with some rows added or replaced."""
        return FrozenMap({**self, **changes})

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this map is shared and cannot be changed; copy it with dict(...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __deepcopy__(self, memo: object) -> FrozenMap[K, V]:
        return self

    def __reduce__(self) -> tuple[type[FrozenMap[K, V]], tuple[dict[K, V]]]:
        return FrozenMap, (dict(self),)


def freeze(value: object) -> Any:
    """A JSON value whose objects are frozen maps and whose lists are tuples."""
    if isinstance(value, dict):
        return FrozenMap({key: freeze(item) for key, item in cast("dict[str, object]", value).items()})
    if isinstance(value, list):
        return tuple(freeze(item) for item in cast("list[object]", value))
    return value
