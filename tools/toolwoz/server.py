"""The tool server of ToolWOZ, in the two variants.

`paper` answers every call like the published release, including its errors; where the release raises, the agent gets an
error result. `fixed` corrects it: names with apostrophes and capitals can be found, time bounds are inclusive, numbers
and booleans are understood, and entities of a request that must fail are removed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.frozen import FrozenMap
from simkit.core.messages import JsonObject, ToolCall, ToolResult, parse_call
from simkit.rule_based.bitset_table import BitsetTable, Row, RowSet
from simkit.rule_based.matching import clean, compound, covers
from simkit.rule_based.normalise import NO_WISH, fold
from simkit.tools.toolwoz.records import Variant
from simkit.tools.toolwoz.specs import PUBLISHED, specs
from simkit.tools.toolwoz.task_view import DomainView, TaskView, compile_view

_INVALID = "ERROR: INVALID API CALL! "
NOT_ALLOWED = _INVALID + (
    "YOUR REQUEST CONTAINED PARAMETERS THAT ARE NOT ALLOWED FOR THIS API or AN IMPROPER API NAME!"
)
NO_LISTS = _INVALID + "LISTS AND DICTS ARE NOT ALLOWED AS VALUES!"
_NOTHING_BOOKED: Row = FrozenMap({"success": False, "return": FrozenMap()})
_NO_DOMAIN = DomainView()


@dataclass(frozen=True, slots=True)
class Entities:
    """The entities of the world: a table per domain, and the hospital's departments (only in `paper`)."""

    tables: Mapping[str, BitsetTable]
    departments: frozenset[str] = field(default_factory=frozenset[str])


class _Server(ToolServer[TaskView | None]):
    name = "toolwoz"
    variant: Variant

    def __init__(self, entities: Entities) -> None:
        self.entities = entities
        self._tables = entities.tables
        self._specs = specs(self.variant)

    def start(self, request: StartTools) -> ToolsStart[TaskView]:
        """The tools, and the task compiled against the tables."""
        return ToolsStart(self._specs, compile_view(request.task, self._tables, self.variant))

    async def call(self, request: CallTool[TaskView | None]) -> ToolReturn[TaskView | None]:
        """The answer to one call, which never writes anything."""
        view = request.state or compile_view(request.task, self._tables, self.variant)
        return ToolReturn(self.answer(request.call, view), request.state)

    @abstractmethod
    def answer(self, call: ToolCall, view: TaskView) -> ToolResult:
        """The answer to one call under a task's view."""


class PaperServer(_Server):
    """Answers like the release."""

    variant = "paper"

    def answer(self, call: ToolCall, view: TaskView) -> ToolResult:
        """The release's answer; an error result where the release raises."""
        allowed = PUBLISHED.get(call.name)
        if allowed is None:
            return ToolResult(value=NOT_ALLOWED, error=True)
        arguments = parse_call(call)
        if arguments is None:
            return _error(f"the arguments of {call.name} must be one JSON object, such as {{}}")
        if not arguments.keys() <= set(allowed):
            return ToolResult(value=NOT_ALLOWED, error=True)
        if any(compound(value) for value in arguments.values()):
            return ToolResult(value=NO_LISTS, error=True)
        folded = {key: fold(value) if isinstance(value, str) else value for key, value in arguments.items()}
        action, domain = call.name.split("_")
        if action == "book":
            return _book(clean(folded, lenient=False), view.domains.get(domain, _NO_DOMAIN))
        if domain in self._tables:
            return self._search(domain, folded, view.domains.get(domain))
        return self._outside(domain, folded)

    def _search(self, domain: str, folded: JsonObject, view: DomainView | None) -> ToolResult:
        table = self._tables[domain]
        rows = table.literal({key: value for key, value in folded.items() if _filters(value)})
        return _serve(table, rows, clean(folded, lenient=False), view)

    def _outside(self, domain: str, folded: JsonObject) -> ToolResult:
        """Taxi and hospital: the release accepts the calls, and raises if it has anything to answer."""
        department = folded.get("department")
        if domain == "hospital" and _filters(department) and department not in self.entities.departments:
            return ToolResult(value=[])
        return _error(f"nothing can be looked up for {domain} here")


class FixedServer(_Server):
    """Answers as intended by the release."""

    variant = "fixed"

    def __init__(self, entities: Entities) -> None:
        super().__init__(entities)
        self._parameters = {spec.name: frozenset(spec.properties) for spec in self._specs}

    def answer(self, call: ToolCall, view: TaskView) -> ToolResult:
        """The answer, or an error that names the fault of the call."""
        allowed = self._parameters.get(call.name)
        if allowed is None:
            return _error(f"there is no tool `{call.name}`; there are: {', '.join(self._parameters)}")
        arguments = parse_call(call)
        if arguments is None:
            return _error(f"the arguments of {call.name} must be one JSON object, such as {{}}")
        if wrong := _argument_error(call.name, arguments, allowed):
            return _error(wrong)
        action, domain = call.name.split("_")
        wanted = clean(arguments)
        if action == "book":
            return _book(wanted, view.domains.get(domain, _NO_DOMAIN))
        table, known = self._tables[domain], view.domains.get(domain)
        rows = table.lenient(wanted) & ~(known.gone if known else 0)
        return _serve(table, rows, wanted, known)


def _argument_error(name: str, arguments: JsonObject, allowed: frozenset[str]) -> str | None:
    unknown = sorted(arguments.keys() - allowed)
    if unknown:
        return f"{name} has no parameter `{unknown[0]}`; it has: {', '.join(sorted(allowed))}"
    nested = next((key for key, value in arguments.items() if compound(value)), None)
    return None if nested is None else f"`{nested}` of {name} must be one value, not a list or an object"


def _error(text: str) -> ToolResult:
    return ToolResult(value=f"ERROR: {text}", error=True)


def _filters(value: object) -> bool:
    """Whether a folded value constrains a search in the release."""
    return isinstance(value, str) and value not in NO_WISH


def _book(wanted: Mapping[str, Any], view: DomainView) -> ToolResult:
    """The result of a booking, which succeeds if the call covers the booking of the goal."""
    if view.book is None or not covers(wanted, view.book.wanted):
        return ToolResult(value=_NOTHING_BOOKED)
    return ToolResult(value=FrozenMap({"success": True, "return": view.book.answer}))


def _serve(table: BitsetTable, rows: RowSet, wanted: Mapping[str, Any], view: DomainView | None) -> ToolResult:
    """At most one entity: the gold one for a call that covers the goal, a misleading one for a partial call."""
    if not rows:
        return ToolResult(value=[])
    if view is None or view.search is None:
        return ToolResult(value=[table.first(rows)])
    wrong = rows & ~view.search.satisfying
    right = rows & view.book.gold if view.book else 0
    if covers(wanted, view.search.wanted):
        found = (right or wrong) if view.book else _first_bit(rows)
    elif covers(view.search.wanted, wanted):
        found = wrong or right or _first_bit(rows)
    else:
        found = _first_bit(rows)
    return ToolResult(value=[table.last(found)] if found else [])


def _first_bit(rows: RowSet) -> RowSet:
    return rows & -rows
