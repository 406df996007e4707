"""Where simkit answers or counts otherwise than the release on purpose, by quirk of ../shared/golden/README.md.

A recorded call that differs must be one of these; a call that is one of these must differ in just this way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.messages import ToolResult
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class Difference:
    """One deliberate difference of `variant="paper"` in answering calls.

    `applies` says whether a recorded call is of this kind, `holds` whether our answer is the one meant.
    """

    quirk: int
    release: str
    simkit: str
    applies: Callable[[Mapping[str, Any]], bool]
    holds: Callable[[ToolResult], bool]


def _raised(call: Mapping[str, Any]) -> bool:
    return "raises" in call


def _readable_error(result: ToolResult) -> bool:
    return result.error and isinstance(result.value, str) and result.value.startswith("ERROR: ")


DIFFERENCES = (
    Difference(
        quirk=7,
        release="raises on names without exactly one `_`, arguments that are no object, taxi and hospital",
        simkit="answers with an error result that the agent can read",
        applies=_raised,
        holds=_readable_error,
    ),
)


@dataclass(frozen=True, slots=True)
class Switch:
    """A quirk that is matched only behind a switch, with the switch that the parity tests set."""

    quirk: int
    release: str
    simkit: str
    switch: str


SWITCHES = (
    Switch(
        quirk=2,
        release="harvesting, a search no longer needs the booked entity once the booking is credited",
        simkit="it always does, so that harvest and evaluation agree",
        switch="GoalCalls(search_forgets_booking=True)",
    ),
    Switch(
        quirk=3,
        release="a booking that was refused as invalid counts if it covers the goal",
        simkit="the same in the variant paper, not elsewhere",
        switch="GoalCalls(errors_count=True), the default with a world of variant paper",
    ),
    Switch(
        quirk=9,
        release="four bookings without a name get one from a wrong column (MUL0744 of the test split, three of train)",
        simkit="the same in the variant paper; the variant fixed takes the right column",
        switch="ToolwozWorld(variant=...)",
    ),
)


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that `variant="fixed"` repairs; `may_change` says which recorded calls it may answer otherwise."""

    quirk: int
    release: str
    simkit: str
    may_change: Callable[[Mapping[str, Any], Task], bool]


def _texts(call: Mapping[str, Any]) -> list[str]:
    return [value for value in _arguments(call).values() if isinstance(value, str)]


def _arguments(call: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = call["args"]
    return cast("Mapping[str, Any]", arguments) if isinstance(arguments, dict) else {}


def _domain(call: Mapping[str, Any]) -> str:
    return str(call["name"]).partition("_")[2]


def _refused(call: Mapping[str, Any], task: Task) -> bool:
    return _raised(call) or isinstance(call["return"], str)


def _not_offered(call: Mapping[str, Any], task: Task) -> bool:
    return call["name"] in ("book_attraction", "search_taxi", "book_taxi", "search_hospital", "book_hospital")


def _to_fail(call: Mapping[str, Any], task: Task) -> bool:
    return "fail_search" in task.data.get(_domain(call), {})


def _timed(call: Mapping[str, Any], task: Task) -> bool:
    """Trains: a time in the call, or in the goal that decides which trains are wrong."""
    goal = next((goal for goal in task.goals if goal.key == call["name"] == "search_train"), None)
    wanted = {*_arguments(call), *(goal.detail["parameters"] if goal else ())}
    return call["name"] == "search_train" and bool(wanted & {"leaveAt", "arriveBy"})


def _spelled_otherwise(call: Mapping[str, Any], task: Task) -> bool:
    return call["name"].startswith("search_") and "name" in _arguments(call)


def _no_wish(call: Mapping[str, Any], task: Task) -> bool:
    return any(text.lower().replace("'", "") in ("dontcare", "dont care", "do nt care") for text in _texts(call))


def _not_text(call: Mapping[str, Any], task: Task) -> bool:
    return any(not isinstance(value, str) for value in _arguments(call).values())


def _padded(call: Mapping[str, Any], task: Task) -> bool:
    return any(text != " ".join(text.split()) for text in _texts(call))


REPAIRS = (
    Repair(1, "a request that is to fail does not", "its entities are gone for that task", _to_fail),
    Repair(4, "a train at exactly the time asked for is left out", "times include the time itself", _timed),
    Repair(5, "names with apostrophes or capitals are never found", "they are", _spelled_otherwise),
    Repair(6, "some spellings of don't care are taken for values", "all are no constraint", _no_wish),
    Repair(7, "raises, or answers with one text for every mistake", "says what was wrong", _refused),
    Repair(7, "takes calls for taxi, hospital and booking attractions", "has no such tools", _not_offered),
    Repair(7, "numbers, booleans and null are ignored or unequal", "read as the words people use", _not_text),
    Repair(7, "space around a value makes it another value", "padding does not matter", _padded),
)
