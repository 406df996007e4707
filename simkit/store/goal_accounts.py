"""Accounts of an episode's goals, from the rows that were recorded about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

import orjson

from simkit.rule_based.goals import GoalReport, RecordedCall, account_for
from simkit.store.tree_view import EpisodeTree

Rows: TypeAlias = Callable[[str, Mapping[str, object]], list[dict[str, Any]]]
"""Function that answers a query with parameters; the rows are by column name."""


def accounts(rows: Rows, episode: EpisodeTree) -> tuple[GoalReport, ...]:
    """The goals of an episode in their order: reached or missed, what was wanted, and the call that came nearest.

    The calls of all its branches count. A reward's own explanations take the place of simkit's.
    """
    calls = [_made(row) for row in rows(_CALLS, {"episode": episode.episode_id})]
    (task,) = rows(_GOALS, {"run": episode.run_id, "task": episode.task_id})
    goals: list[dict[str, Any]] = orjson.loads(task["goals"] or "[]")
    details: list[tuple[str, dict[str, Any]]] = [(goal["key"], goal.get("detail") or {}) for goal in goals]
    said = {row["goal"]: row["explanation"] for row in rows(_EXPLAINED, {"episode": episode.episode_id})}
    hits = rows(_CREDITED, {"episode": episode.episode_id})
    left = list(episode.achieved)
    found: list[GoalReport] = []
    for place, key in enumerate(episode.goals):
        reached = key in left
        if reached:
            left.remove(key)
        hit = next((each for each in hits if each["goal"] == key), None) if reached else None
        if hit is not None:
            hits.remove(hit)
        detail = _detail(key, episode.goals[:place].count(key), details)
        account = account_for(key, detail, calls, reached=reached, evidence=hit["evidence"] if hit else "")
        if hit is not None and not account.branch_id:
            account = replace(account, branch_id=hit["branch_id"])
        found.append(account if reached or key not in said else replace(account, difference=said[key]))
    return tuple(found)


def _made(row: Mapping[str, Any]) -> RecordedCall:
    try:
        arguments: object = orjson.loads(row["arguments"] or "")
    except orjson.JSONDecodeError:
        arguments = None
    return RecordedCall(
        branch_id=row["branch_id"],
        call_id=row["call_id"] or "",
        name=row["name"],
        arguments=row["arguments"] or "",
        parameters=cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None,
        result=None if row["result"] is None else orjson.loads(row["result"]),
        error=row["error"],
        by=row["side"],
        seq=row["seq"],
    )


def _detail(key: str, copy: int, details: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The detail of one copy of a task's goal, counted from 0; a goal of a composed reward is named `part/goal`."""
    while True:
        same = [detail for name, detail in details if name == key]
        if same:
            return same[min(copy, len(same) - 1)]
        _, slash, key = key.partition("/")
        if not slash:
            return {}


_GOALS = "SELECT any_value(goals) AS goals FROM tasks WHERE run_id = $run AND task_id = $task"

_CALLS = """
SELECT branch_id, t.call_id, t.name, t.arguments, t.result, t.error, t.side, t.seq
FROM tool_calls t JOIN branches b USING (branch_id) WHERE t.episode_id = $episode ORDER BY b.turn, b.path, t.seq
"""

_CREDITED = "SELECT goal, evidence, branch_id FROM rewards WHERE episode_id = $episode AND credited ORDER BY step"

_EXPLAINED = "SELECT goal, explanation FROM goal_explanations WHERE episode_id = $episode"
