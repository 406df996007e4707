"""Measures beside the reward of an episode's end: what doing nothing would get, and how much of the solution was made.

They are parts of the reward with the weight 0, so they are recorded with each episode and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from simkit.components.reward import RewardPart
from simkit.components.tools import StartTools
from simkit.components.world import Expected, ExpectedCall, World
from simkit.core.events import FLOOR, READS_MADE, WRITES_MADE
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError


def idle_reward(world: World, expected: Expected, start: Any) -> float:
    """The reward for an agent that does nothing and says nothing: 1 if every part that decides holds at the start.

    Statements for a judge count as true.
    """
    held = {
        "state": lambda: world.digest(start) == expected.digest,
        "said": lambda: not expected.said,
        "checks": lambda: all(world.holds(check, start) for check in expected.checks),
        "actions": lambda: not expected.actions,
        "judged": lambda: True,
    }
    return float(all(held[part]() for part in expected.basis))


def floor(world: World, split: str) -> tuple[float, ...]:
    """The reward for doing nothing in each task of a split.

    Raises:
        UsageError: the world has no such split, or does not say what a good end is.
        DataMissing, DataCorrupt: the data cannot be read.
    """
    server, found = world.tools(), list[float]()
    for task in world.tasks(split):
        expected = world.expected(task)
        if expected is None:
            raise UsageError(
                f"the world `{world.name}` does not say how {task.id} should end, so nobody knows what doing nothing "
                "gets; choose a world with `World.expected`, such as tau:retail"
            )
        found.append(idle_reward(world, expected, server.start(StartTools(task)).state))
    return tuple(found)


def end_measures(
    world: World, task: Task, expected: Expected, start: Any, calls: Sequence[CallRecord]
) -> Iterator[RewardPart]:
    """The measures of an episode: the floor, and the shares of the solution's reads and writes that were made."""
    if start is not None:
        yield RewardPart(FLOOR, idle_reward(world, expected, start), 0.0)
    gold = [(goal, call) for goal in task.goals if (call := _solution(goal)) is not None]
    for name, writing in ((READS_MADE, False), (WRITES_MADE, True)):
        wanted = [call for goal, call in gold if (goal.key in expected.writes) is writing]
        if wanted:
            made = _made(world, wanted, calls)
            yield RewardPart(name, made / len(wanted), 0.0, f"{made} of {len(wanted)}")


def _solution(goal: Goal) -> ExpectedCall | None:
    """The call that a goal stands for; None if it does not name one with its arguments."""
    detail = goal.detail
    if "tool" not in detail or "arguments" not in detail:
        return None
    return ExpectedCall(detail["tool"], cast("dict[str, Any]", detail["arguments"]), by=detail.get("by", "agent"))


def _made(world: World, wanted: Sequence[ExpectedCall], calls: Sequence[CallRecord]) -> int:
    """How many of the wanted calls were made; each call counts for one."""
    left = list(wanted)
    for call in calls:
        found = next((each for each in left if world.matches(each, call)), None)
        if found is not None:
            left.remove(found)
    return len(wanted) - len(left)
