"""Where simkit answers or counts otherwise than the release on purpose, by quirk of ../shared/golden/README.md.

A recorded call that differs must be one of these; a call that is one of these must differ in just this way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simkit.messages import ToolResult


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
)
