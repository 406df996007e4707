"""Texts and goals of tau2-bench's tasks, which both its worlds and imported result files have."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, cast

from simkit.core.records import Side
from simkit.core.tasks import Goal, goals_of_calls

Json = Mapping[str, Any]

_TITLES = {
    "reason_for_call": "Reason for call",
    "known_info": "Known info",
    "unknown_info": "Unknown info",
    "task_instructions": "Task instructions",
}


def scenario_text(scenario: Json) -> str:
    """What a user is told: the persona, if there is one, and the instructions, both indented."""
    persona, told = scenario.get("persona"), scenario.get("instructions")
    parts = [] if persona is None else ["Persona:", textwrap.indent(str(persona), "\t")]
    text = _instructions_text(cast("Json", told)) if isinstance(told, Mapping) else str(told or "")
    return "\n".join([*parts, "Instructions:", textwrap.indent(text, "\t")])


def _instructions_text(instructions: Json) -> str:
    lines = [f"Domain: {instructions.get('domain', '')}"]
    for name, title in _TITLES.items():
        if (text := instructions.get(name)) is not None:
            lines.append(f"{title}:\n" + textwrap.indent(str(text), "\t"))
    return "\n".join(lines)


def goals_of(actions: Sequence[Json]) -> tuple[Goal, ...]:
    """A goal for each gold action; those of the user's calls say so."""
    goals = goals_of_calls((action["name"], action["arguments"]) for action in actions)
    return tuple(
        Goal(goal.key, {**goal.detail, "by": "user"}) if side_of(action) == "user" else goal
        for goal, action in zip(goals, actions, strict=True)
    )


def side_of(action: Json) -> Side:
    """The side that makes a gold action."""
    return "user" if action.get("requestor") == "user" else "agent"
