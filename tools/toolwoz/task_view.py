"""What one task means for the tables: which rows satisfy it, which is the gold one, which are gone.

Compiled once when an episode starts, it is the world state of that episode. ToolWOZ writes nothing, so every branch
shares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from simkit.core.tasks import Goal, Task
from simkit.rule_based.matching import clean
from simkit.tools.toolwoz.records import ORDER, Variant, id_field
from simkit.tools.toolwoz.table import Row, RowSet, Table


@dataclass(frozen=True, slots=True)
class SearchBrief:
    """The search goal of a domain: what it asks for (cleaned), and the rows that satisfy it."""

    wanted: Mapping[str, Any]
    satisfying: RowSet


@dataclass(frozen=True, slots=True)
class BookBrief:
    """The booking goal of a domain: what it asks for (cleaned), the rows of the gold entity, the answer it earns."""

    wanted: Mapping[str, Any]
    gold: RowSet
    answer: Row


@dataclass(frozen=True, slots=True)
class DomainBrief:
    """One domain of a task. `gone` are rows that this task takes out of the table (never in `paper`)."""

    search: SearchBrief | None = None
    book: BookBrief | None = None
    gone: RowSet = 0


@dataclass(frozen=True, slots=True)
class Brief:
    """The domains of one task."""

    task_id: str
    domains: Mapping[str, DomainBrief] = field(default_factory=dict[str, DomainBrief])


def compile_brief(task: Task, tables: Mapping[str, Table], variant: Variant) -> Brief:
    """The brief of a task."""
    goals = {goal.key: goal for goal in task.goals}
    domains = {
        name: _domain(name, goals, cast("Mapping[str, Any]", task.data.get(name, {})), tables[name], variant)
        for name in ORDER
        if name in task.data or f"search_{name}" in goals or f"book_{name}" in goals
    }
    return Brief(task.id, domains)


def _domain(
    name: str, goals: Mapping[str, Goal], data: Mapping[str, Any], table: Table, variant: Variant
) -> DomainBrief:
    search, book = goals.get(f"search_{name}"), goals.get(f"book_{name}")
    looked_for = None if search is None else _search(search, table, variant)
    booked = None if book is None else _book(name, book, data, table, variant)
    gone = _gone(data, table, looked_for, booked) if variant == "fixed" else 0
    return DomainBrief(looked_for, booked, gone)


def _search(goal: Goal, table: Table, variant: Variant) -> SearchBrief:
    wanted = clean(goal.detail["parameters"], lenient=variant == "fixed")
    return SearchBrief(wanted, table.lenient(wanted) if variant == "fixed" else table.holding(wanted))


def _book(name: str, goal: Goal, data: Mapping[str, Any], table: Table, variant: Variant) -> BookBrief:
    wanted = clean(goal.detail["parameters"], lenient=variant == "fixed")
    gold = table.named(id_field(name), goal.detail["entity"])
    return BookBrief(wanted, gold, data.get("booked") or Row())


def _gone(data: Mapping[str, Any], table: Table, search: SearchBrief | None, book: BookBrief | None) -> RowSet:
    """Rows that would answer the request that is to fail first, except those the goal itself needs."""
    failing = data.get("fail_search")
    if not failing:
        return 0
    needed = (search.satisfying if search else 0) | (book.gold if book else 0)
    return table.lenient(clean(failing)) & ~needed
