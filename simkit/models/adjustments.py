"""Adjustments of requests to what an endpoint accepts, learned once per endpoint and model of a run, and recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

MESSAGE_RULES = (
    *("system-role", "no-system", "one-system", "texts", "no-nulls", "filled", "answered", "alternating", "user-first"),
    *("user-last", "short-ids", "parts"),
)
"""Names of the rules about messages that some endpoints enforce (`simkit.models.providers.message_rules`)."""

AGENT = "agent"
"""Kind of the adjustment that another agent than the default one plays a model, because it cannot be given tools."""


class Adjustment(NamedTuple):
    """One change of requests: what kind of change, of which setting or part, and how it is sent instead."""

    kind: str
    name: str
    sent_as: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "setting":
                return f"`{self.name}` is sent as `{self.sent_as}`" if self.sent_as else f"`{self.name}` is not sent"
            case "at_most":
                return f"`{self.name}` is at most {self.sent_as}"
            case "value":
                return f"`{self.name}` is `{self.sent_as}`"
            case "schema":
                return f"tools are sent without `{self.name}`"
            case "message_field":
                return f"messages are sent without `{self.name}`"
            case "reasoning":
                return "reasoning is sent back" if self.sent_as == "sent" else "reasoning is not sent back"
            case _ if self.kind == AGENT:
                return f"the agent is `{self.sent_as}` instead of `{self.name}`"
            case _:
                return f"messages follow the rule `{self.name}`"


EndpointModel: TypeAlias = tuple[str, str]
"""Name of an endpoint, and of a model there."""

Report: TypeAlias = Callable[[EndpointModel, Adjustment, str], None]
"""Receives an adjustment that was learned, with the server's reason."""


def _unreported(place: EndpointModel, adjustment: Adjustment, reason: str) -> None:
    return None


@dataclass(slots=True)
class LearnedAdjustments:
    """Adjustments of all endpoints and models of a run, in the order in which they were learned.

    `report` records them.
    """

    known: dict[EndpointModel, tuple[Adjustment, ...]] = field(
        default_factory=dict[EndpointModel, tuple[Adjustment, ...]]
    )
    report: Report = _unreported

    def at(self, place: EndpointModel) -> tuple[Adjustment, ...]:
        """The adjustments for one model at one endpoint."""
        return self.known.get(place, ())

    def add(self, place: EndpointModel, adjustment: Adjustment, reason: str) -> None:
        """Add an adjustment, and report it unless it is known."""
        before = self.at(place)
        if adjustment not in before:
            self.known[place] = (*before, adjustment)
            self.report(place, adjustment, reason)
