"""World states that functions change through a private copy: the contract between `FunctionTools` and such a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from simkit.core.messages import JsonObject

Tables: TypeAlias = Mapping[str, Sequence[str]]
"""Tables by name, each with the columns that count; none for all columns."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row of a table that was written, or removed. A changed row was removed and written."""

    table: str
    row: JsonObject
    removed: bool = False

    def to_json(self) -> JsonObject:
        """The change as JSON, for records of calls."""
        return {"table": self.table, "removed" if self.removed else "written": self.row}


class Draft(ABC):
    """A private copy of a state, for one call."""

    @property
    @abstractmethod
    def value(self) -> Any:
        """What the function gets, and may change."""

    @abstractmethod
    def finish(self) -> tuple[DraftedState, tuple[RowChange, ...]]:
        """The state after the call, and what the call changed."""


class DraftedState(ABC):
    """An immutable state with tables. A call works on a draft of it, which becomes the next state."""

    parameter: ClassVar[str]
    """Name of the function's parameter that gets the draft; hidden from models."""
    refusals: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions of a draft that are answered with an error; others are faults of the tool server."""

    @abstractmethod
    def draft(self) -> AbstractContextManager[Draft]:
        """A draft, which is closed at the end of the block."""

    @abstractmethod
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, sorted."""

    @abstractmethod
    def digest(self, tables: Tables) -> str:
        """Digest of the rows of these tables, whatever their order.

        Raises:
            UsageError: there is no such table or column.
        """

    @abstractmethod
    def changes(self, since: DraftedState) -> tuple[RowChange, ...]:
        """The rows that differ from an earlier state of the same world."""
