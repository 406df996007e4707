"""Reward for goals that are reached by the right tool calls: used by ToolWOZ and the built-in world."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simkit.components.reward import Hit, Reward, ScoreTurn
from simkit.components.world import World
from simkit.core.messages import ToolSpec
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.rule_based.matching import clean, covers, first_row, succeeded


@dataclass(frozen=True, slots=True)
class Rules:
    """Comparison rules: `literal` compares as the ToolWOZ release does, `errors_count` credits failed bookings."""

    literal: bool
    errors_count: bool


class GoalCalls(Reward):
    """Credits the goals of a task that tool calls reach.

    A goal's detail names its `tool`, the `parameters` to be covered, the `id_field` of entities and the `entity` that
    was, or is to be, booked (None for none). It is the goal of a booking if its `booking` is true; without that field,
    if its tool is called `book_...`. With `by` "user" it is reached by a call of the user's own tool. A booking counts
    when the call's parameters cover the goal's and its result is neither an error nor has `success` false. A search
    counts when it returned something and
    - its parameters cover the goal's, and the entity came back (or the goal names no entity); or
    - its parameters are a part of the goal's, and the entity came back (without one: the result satisfies the goal).
    Case, apostrophes and "don't care" values are ignored. Each call credits at most one copy of a goal, and each copy
    is credited once.

    Args:
        world: read for its variant; `variant="paper"` turns both switches below on.
        literal: compare like the ToolWOZ release, which knows fewer spellings of "don't care" and reads numbers as
            different from their text.
        errors_count: credit a booking that was answered with an error, like the release.
        search_forgets_booking: once the booking of a domain is credited, let its search be answered with any entity.
            The release does so while harvesting, which makes its harvest reward exceed the evaluation's; for
            comparisons with its recordings only.
    """

    name = "goal_calls"

    def __init__(
        self,
        world: World | None = None,
        *,
        literal: bool | None = None,
        errors_count: bool | None = None,
        search_forgets_booking: bool = False,
    ) -> None:
        paper = getattr(world, "variant", None) == "paper"
        self._rules = Rules(
            literal=paper if literal is None else literal,
            errors_count=paper if errors_count is None else errors_count,
        )
        self._forgets = search_forgets_booking

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        """Check that each goal's detail is complete and names one of the tools.

        Raises:
            UsageError: a goal could never be reached.
        """
        names = {tool.name for tool in tools}
        for goal in self.goals(task):
            problem = _problem(goal.detail, names)
            if problem:
                raise UsageError(
                    f"the goal `{goal.key}` of task `{task.id}` (world `{task.world}`) can never be reached by"
                    f" `{self.name}`: its detail {problem}"
                )

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        """The remaining goals that the calls of the turn reached, in the order of the calls."""
        if not request.calls:
            return ()
        open_goals = list(request.remaining)
        booked = {_search_key(goal) for goal in open_goals if _is_booking(goal.detail)}
        hits: list[Hit] = []
        for record in request.calls:
            for goal in self._reached(record, open_goals, booked):
                open_goals.remove(goal)
                hits.append(Hit(goal.key, evidence=record.call_id, step=record.step))
        return tuple(hits)

    def _reached(self, record: CallRecord, goals: list[Goal], booked: set[str]) -> list[Goal]:
        """The goals that one call reaches, at most one per key."""
        reached: dict[str, Goal] = {}
        for goal in goals:
            free = self._forgets and goal.key not in booked
            if goal.key not in reached and reaches(record, goal, self._rules, any_entity=free):
                reached[goal.key] = goal
        return list(reached.values())


def _problem(detail: Mapping[str, Any], tools: Collection[str]) -> str | None:
    """The reason why no call can reach a goal; None if one can."""
    tool = detail.get("tool")
    if tool not in tools:
        named = f"names the tool `{tool}`" if tool else "names no `tool`"
        return f"{named}; the tool server has: {', '.join(sorted(tools)) or 'no tools'}"
    if not isinstance(detail.get("parameters"), Mapping):
        return f"has no `parameters`; add the arguments that a call of `{tool}` must have, {{}} for none"
    if detail.get("entity") and "id_field" not in detail:
        return "names an `entity` but no `id_field`; add the name of the field that identifies entities"
    return None


def _is_booking(detail: Mapping[str, Any]) -> bool:
    return bool(detail.get("booking", detail.get("tool", "").startswith("book_")))


def _search_key(goal: Goal) -> str:
    """Key of the search goal that belongs to a booking goal."""
    return goal.key.replace("book_", "search_", 1)


def reaches(record: CallRecord, goal: Goal, rules: Rules, *, any_entity: bool) -> bool:
    """Whether one call reaches one goal; `any_entity` ignores the entity of the goal."""
    detail = goal.detail
    if (
        record.name != detail.get("tool")
        or record.by != detail.get("by", "agent")
        or (parameters := record.parameters) is None
    ):
        return False
    called = clean(parameters, lenient=not rules.literal)
    wanted = clean(detail["parameters"], lenient=not rules.literal)
    if _is_booking(detail):
        return covers(called, wanted) and (rules.errors_count or succeeded(record.result, error=record.error))
    row = None if record.error else first_row(record.result)
    if row is None:
        return False
    entity = None if any_entity else detail.get("entity")
    if covers(called, wanted):
        return not entity or _same_entity(row, detail, rules)
    if not covers(wanted, called):
        return False
    return _same_entity(row, detail, rules) if entity else _satisfies(row, wanted, rules)


def _same_entity(row: Mapping[str, Any], detail: Mapping[str, Any], rules: Rules) -> bool:
    found, entity = row.get(detail["id_field"]), detail["entity"]
    return found == entity if rules.literal else covers(clean({"id": found}), clean({"id": entity}))


def _satisfies(row: Mapping[str, Any], wanted: Mapping[str, Any], rules: Rules) -> bool:
    if rules.literal:
        return covers(clean(row, lenient=False), wanted)
    held = clean(row)
    return all(_holds(held.get(key), key, value) for key, value in wanted.items())


def _holds(found: object, key: str, wanted: object) -> bool:
    """Whether a field of an entity has the wanted value; for times, whether it is within the bound."""
    if isinstance(found, str) and isinstance(wanted, str) and key in ("leaveAt", "arriveBy"):
        return found >= wanted if key == "leaveAt" else found <= wanted
    return found == wanted
