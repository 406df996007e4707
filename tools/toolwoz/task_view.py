"""A task compiled against the tables: rows that satisfy it, its gold rows, and the rows it removes.

It is compiled once when an episode starts, and is the world state of that episode. ToolWOZ never writes, so all
branches share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from simkit.core.frozen import FrozenMap
from simkit.core.tasks import Goal, Task
from simkit.rule_based.bitset_table import BitsetTable, Row, RowSet
from simkit.rule_based.matching import clean
from simkit.tools.toolwoz.records import ORDER, Variant, id_field


@dataclass(frozen=True, slots=True)
class SearchView:
    """The search goal of a domain: its cleaned parameters, and the rows that satisfy it."""

    wanted: Mapping[str, Any]
    satisfying: RowSet


@dataclass(frozen=True, slots=True)
class BookingView:
    """The booking goal of a domain: its cleaned parameters, the rows of the gold entity, and the answer."""

    wanted: Mapping[str, Any]
    gold: RowSet
    answer: Row


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain of a task. `gone` are rows that this task removes from the table (never in `paper`)."""

    search: SearchView | None = None
    book: BookingView | None = None
    gone: RowSet = 0


@dataclass(frozen=True, slots=True)
class TaskView:
    """The domains of one task."""

    task_id: str
    domains: Mapping[str, DomainView] = field(default_factory=dict[str, DomainView])


def compile_view(task: Task, tables: Mapping[str, BitsetTable], variant: Variant) -> TaskView:
    """Compile a task against the tables of a variant."""
    goals = {goal.key: goal for goal in task.goals}
    domains = {
        name: _domain(name, goals, cast("Mapping[str, Any]", task.data.get(name, {})), tables[name], variant)
        for name in ORDER
        if name in task.data or f"search_{name}" in goals or f"book_{name}" in goals
    }
    return TaskView(task.id, domains)


def _domain(
    name: str, goals: Mapping[str, Goal], data: Mapping[str, Any], table: BitsetTable, variant: Variant
) -> DomainView:
    search, book = goals.get(f"search_{name}"), goals.get(f"book_{name}")
    looked_for = None if search is None else _search(search, table, variant)
    booked = None if book is None else _book(name, book, data, table, variant)
    gone = _gone(data, table, looked_for, booked) if variant == "fixed" else 0
    return DomainView(looked_for, booked, gone)


def _search(goal: Goal, table: BitsetTable, variant: Variant) -> SearchView:
    wanted = clean(goal.detail["parameters"], lenient=variant == "fixed")
    return SearchView(wanted, table.lenient(wanted) if variant == "fixed" else table.holding(wanted))


def _book(name: str, goal: Goal, data: Mapping[str, Any], table: BitsetTable, variant: Variant) -> BookingView:
    wanted = clean(goal.detail["parameters"], lenient=variant == "fixed")
    gold = table.named(id_field(name), goal.detail["entity"])
    return BookingView(wanted, gold, data.get("booked") or FrozenMap())


def _gone(data: Mapping[str, Any], table: BitsetTable, search: SearchView | None, book: BookingView | None) -> RowSet:
    """Rows that match the search that has to fail first, except those that the goal needs."""
    failing = data.get("fail_search")
    if not failing:
        return 0
    needed = (search.satisfying if search else 0) | (book.gold if book else 0)
    return table.lenient(clean(failing)) & ~needed
