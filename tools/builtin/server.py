"""The town's tool server: searches, bookings, cancellations; each call maps a state to a result and a new state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast, final

from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.frozen import FrozenMap
from simkit.core.messages import ToolResult
from simkit.core.tasks import Goal, Task
from simkit.rule_based.bitset_table import BitsetTable, Row, RowSet
from simkit.rule_based.normalise import normal
from simkit.tools.builtin import bookings
from simkit.tools.builtin.arguments import InvalidCall, Tool, printable, read_arguments
from simkit.tools.builtin.bookings import BookingRefused, Change, TravelState
from simkit.tools.builtin.ontology import PLACE_FACTS, ontology_of, tools_of
from simkit.tools.builtin.town import DOMAINS, ID_FIELDS, Town

POLICY = (
    "You arrange travel to and in the town of Alderhaven. Search with everything the customer has told you, tell them "
    "what you found, and book only what they asked for. A booking that is answered with success false was not made: "
    "read the reason and offer something else. Give the reference of every booking."
)
_COMPACT_POLICY = (
    "You arrange travel to and in the town of Alderhaven. A booking with success false was not made: offer something "
    "else. Give the reference of every booking."
)


@final
class TravelServer(ToolServer[TravelState]):
    """Serves one town to any number of branches; the state of a branch is its `TravelState`."""

    name: ClassVar[str] = "builtin"

    def __init__(
        self,
        town: Town,
        *,
        compact: bool = False,
        domains: Sequence[str] = DOMAINS,
        facts: bool = True,
        upkeep: bool = True,
    ) -> None:
        self.town = town
        self._facts = facts
        tools = tools_of(ontology_of(town, domains), compact=compact, upkeep=upkeep)
        self._tools: FrozenMap[str, Tool] = FrozenMap({tool.name: tool for tool in tools})
        rules = _COMPACT_POLICY if compact else POLICY
        self._start = ToolsStart(tuple(tool.spec() for tool in tools), TravelState(), rules)

    def start(self, request: StartTools) -> ToolsStart[TravelState]:
        """The tools, and a state without bookings."""
        return self._start

    async def call(self, request: CallTool[TravelState]) -> ToolReturn[TravelState]:
        """The result of one call; an invalid call gets an error result."""
        call, state = request.call, request.state
        tool: Tool | None = self._tools.get(call.name)
        if tool is None:
            return _error(f"there is no tool `{printable(call.name)}`; there are: {', '.join(self._tools)}", state)
        arguments = read_arguments(tool, call)
        if isinstance(arguments, InvalidCall):
            return _error(arguments.reason, state)
        return self._run(tool.name, arguments, request.task, state)

    def _run(self, name: str, arguments: Mapping[str, str], task: Task, state: TravelState) -> ToolReturn[TravelState]:
        match name.split("_"):
            case ["search", domain]:
                found = best_match(self.town.tables[domain], ID_FIELDS[domain], arguments, search_goal(task, name))
                return ToolReturn(ToolResult(value=found if self._facts else without_facts(found)), state)
            case ["find", "booking"]:
                return _found(state, arguments["reference"])
            case ["cancel", "booking"]:
                return _changed(bookings.cancel(self.town, state, arguments["reference"]), state)
            case [_, domain]:
                return _changed(bookings.book(self.town, state, domain, arguments), state)
            case _:
                raise AssertionError(f"the tool {name} has no code behind it")


def search_goal(task: Task, tool: str) -> Goal | None:
    """The task's goal for a search tool, None if the task has no goal of this world's form."""
    return next((goal for goal in task.goals if goal.key == tool and "parameters" in goal.detail), None)


def best_match(table: BitsetTable, id_field: str, arguments: Mapping[str, str], goal: Goal | None) -> list[Row]:
    """A list of at most one entity that meets the arguments.

    As in ToolWOZ, a partial search misleads: a search with all of the goal's constraints returns the entity to be
    booked; a search with only some of them returns an entity that fails the goal, if one exists.
    """
    matches = table.lenient(arguments)
    if not matches:
        return []
    chosen = matches if goal is None else _preferred(table, id_field, arguments, goal, matches) or matches
    return [table.first(chosen)]


def without_facts(found: list[Row]) -> list[dict[str, str]]:
    """Entities with their name and what can be searched for, without facts that a customer might ask for."""
    return [{name: value for name, value in row.items() if name not in PLACE_FACTS} for row in found]


def _preferred(table: BitsetTable, id_field: str, arguments: Mapping[str, str], goal: Goal, matches: RowSet) -> RowSet:
    wanted = _constraints(table, goal)
    if all(arguments.get(slot) == value for slot, value in wanted.items()):
        entity = goal.detail.get("entity")
        return matches & table.holding({id_field: normal(entity)}) if isinstance(entity, str) else 0
    if all(wanted.get(slot) == value for slot, value in arguments.items()):
        return matches & ~table.lenient(wanted)
    return 0


def _constraints(table: BitsetTable, goal: Goal) -> dict[str, str]:
    given = cast("Mapping[str, Any]", goal.detail["parameters"])
    return {slot: normal(str(value)) for slot, value in given.items() if slot in table.rows[0]}


def _found(state: TravelState, reference: str) -> ToolReturn[TravelState]:
    booking = bookings.find(state, reference)
    if booking is None:
        return ToolReturn(_refusal(f"there is no booking with reference {reference}"), state)
    return ToolReturn(ToolResult(value={"success": True, "return": booking.shown()}), state)


def _changed(change: Change, state: TravelState) -> ToolReturn[TravelState]:
    if isinstance(change, BookingRefused):
        return ToolReturn(_refusal(change.reason), state)
    return ToolReturn(
        ToolResult(value={"success": True, "return": change.booking.shown()}), change.state, change.writes
    )


def _refusal(reason: str) -> ToolResult:
    return ToolResult(value={"success": False, "return": {}, "reason": reason})


def _error(reason: str, state: TravelState) -> ToolReturn[TravelState]:
    return ToolReturn(ToolResult(value={"error": reason}, error=True), state)
