"""Goals of an episode explained from what was recorded: what was wanted, and which call came nearest to it.

The rules of the shipped reward (`simkit.rewards.goal_calls`) are read from the goal's detail: its `tool`, its
`parameters`, and the `entity` in the field `id_field` of the answer. Goals of other rewards show their detail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.messages import JsonObject
from simkit.rule_based.matching import clean, first_row, succeeded


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A tool call as recorded; `parameters` is None if the arguments are not a JSON object, `by` says who made it."""

    branch_id: str
    call_id: str
    name: str
    arguments: str
    parameters: JsonObject | None
    result: Any
    error: bool
    by: str = "agent"
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class NearestCall:
    """A call as a report refers to it; `seq` is the index of the message with its result, None if not recorded."""

    name: str
    arguments: str
    seq: int | None


@dataclass(frozen=True, slots=True)
class ArgumentDifference:
    """An argument that is not as wanted; `got` is None if the call lacks it."""

    argument: str
    wanted: str
    got: str | None


@dataclass(frozen=True, slots=True)
class GoalReport:
    """One goal of an episode.

    Attributes:
        goal: its key.
        reached: whether the episode was credited with it.
        wanted: the call or the detail that it asks for; empty if that was not recorded.
        call: the call that reached it, or the nearest one; empty without such a call.
        branch_id: the branch of that call.
        difference: why that call does not reach a missed goal, or the reward's own explanation.
        nearest: that call, as it was recorded.
        arguments: the arguments of that call that differ from those wanted.
    """

    goal: str
    reached: bool
    wanted: str = ""
    call: str = ""
    branch_id: str = ""
    difference: str = ""
    nearest: NearestCall | None = None
    arguments: tuple[ArgumentDifference, ...] = ()


def account_for(
    goal: str, detail: Mapping[str, Any], calls: Sequence[RecordedCall], *, reached: bool, evidence: str = ""
) -> GoalReport:
    """Explain one goal by the calls of its episode; `evidence` is what the reward gave, such as the id of a call."""
    wanted = _wanted(detail)
    if reached:
        call = next((call for call in reversed(calls) if evidence and call.call_id == evidence), None)
        if call is None:
            return GoalReport(goal, True, wanted, evidence)
        return GoalReport(goal, True, wanted, _called(call), call.branch_id, nearest=_nearest(call))
    if not isinstance(detail.get("tool"), str):
        return GoalReport(goal, False, wanted)
    calls = [call for call in calls if call.by == detail.get("by", "agent")]
    same = [call for call in calls if call.name == detail["tool"]]
    if not same:
        others = ", ".join(dict.fromkeys(call.name for call in calls)) or "no tool"
        return GoalReport(goal, False, wanted, difference=f"`{detail['tool']}` was not called (called: {others})")
    differences = [(_differences(detail, call), call) for call in same]
    found, call = min(reversed(differences), key=lambda each: len(each[0]))
    why = "; ".join(found) or "nothing differs that was recorded: the reward did not credit it"
    differing = tuple(_argument_differences(detail, call))
    return GoalReport(goal, False, wanted, _called(call), call.branch_id, why, _nearest(call), differing)


def _wanted(detail: Mapping[str, Any]) -> str:
    tool, parameters = detail.get("tool"), detail.get("parameters")
    if not isinstance(tool, str) or not isinstance(parameters, Mapping):
        return json.dumps(detail, ensure_ascii=False, default=str) if detail else ""
    entity = detail.get("entity")
    answered = f" answered with {_text(entity)}" if entity and not tool.startswith("book_") else ""
    by = " by the user" if detail.get("by") == "user" else ""
    return f"{tool}({_listed(cast('Mapping[str, Any]', parameters))}){by}{answered}"


def _nearest(call: RecordedCall) -> NearestCall:
    return NearestCall(call.name, call.arguments, call.seq)


def _called(call: RecordedCall) -> str:
    return f"{call.name}({call.arguments if call.parameters is None else _listed(call.parameters)})"


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in parameters.items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _differences(detail: Mapping[str, Any], call: RecordedCall) -> list[str]:
    if call.parameters is None:
        return ["its arguments are not a JSON object", "nothing can be compared"]
    found = [
        f"{each.argument} is {'missing' if each.got is None else each.got}, wanted {each.wanted}"
        for each in _argument_differences(detail, call)
    ]
    return [*found, *_about_result(detail, call)]


def _argument_differences(detail: Mapping[str, Any], call: RecordedCall) -> Iterable[ArgumentDifference]:
    parameters = call.parameters
    if parameters is None:
        return
    asked: Mapping[str, Any] = detail.get("parameters") or {}
    wanted, made = clean(asked), clean(parameters)
    for name, value in wanted.items():
        if made.get(name) != value:
            yield ArgumentDifference(name, _text(asked[name]), _text(parameters[name]) if name in made else None)


def _about_result(detail: Mapping[str, Any], call: RecordedCall) -> Iterable[str]:
    result: object = call.result
    if not succeeded(result, error=call.error):
        yield f"it was answered with an error: {_text(call.result)[:200]}"
        return
    if call.name.startswith("book_"):
        return
    row, entity = first_row(call.result), detail.get("entity")
    if row is None:
        yield "it found nothing"
    elif entity and clean({"id": row.get(str(detail.get("id_field")))}) != clean({"id": entity}):
        yield f"it found {_text(row.get(str(detail.get('id_field'))))}, wanted {_text(entity)}"
