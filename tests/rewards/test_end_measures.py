"""What a reward of the end measures beside its value: doing nothing, and the calls of the solution that were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from simkit.components.reward import RewardPart
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.world import Check, EndPart, Expected, ExpectedCall, World
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.rewards.end_measures import end_measures, floor, idle_reward


class Shelf(ToolServer[str]):
    """A world state that is a text; nothing is called."""

    name = "shelf"

    def start(self, request: StartTools) -> ToolsStart[str]:
        return ToolsStart((), request.task.id)

    async def call(self, request: CallTool[str]) -> ToolReturn[str]:
        raise AssertionError("nothing is called")


@dataclass
class ShelfWorld(World):
    """A world that expects what a test says."""

    ends: dict[str, Expected] = field(default_factory=dict[str, Expected])

    name = "shelf"
    splits = ("test",)

    def tasks(self, split: str) -> Sequence[Task]:
        return [Task(id=name, world="shelf", split="test", instructions="") for name in self.ends]

    def tools(self) -> ToolServer[str]:
        return Shelf()

    @property
    def ontology(self) -> Ontology:
        return Ontology(())

    def expected(self, task: Task) -> Expected | None:
        return self.ends.get(task.id)

    def digest(self, state: Any) -> str:
        return str(state)

    def holds(self, check: Check, state: Any) -> bool:
        return bool(check.detail["holds"])


def end(*basis: EndPart, **more: Any) -> Expected:
    return Expected(digest="same", basis=basis, **more)


HELD, BROKEN = Check("yes", {"holds": True}), Check("no", {"holds": False})
ENDS: dict[str, tuple[Expected, float]] = {
    "state": (end("state"), 1.0),
    "other state": (Expected(digest="other", basis=("state",)), 0.0),
    "state is not judged": (Expected(digest="other", basis=("said",)), 1.0),
    "words": (end("state", "said", said=("10",)), 0.0),
    "words are not judged": (end("state", said=("10",)), 1.0),
    "checks hold": (end("checks", checks=(HELD, HELD)), 1.0),
    "a check does not": (end("checks", checks=(HELD, BROKEN)), 0.0),
    "calls": (end("actions", actions=(ExpectedCall("look"),)), 0.0),
    "no calls": (end("actions"), 1.0),
    "a judge": (end("judged", judged=("polite",)), 1.0),
}


@pytest.mark.parametrize("name", ENDS)
def test_doing_nothing_is_rewarded_if_every_part_that_decides_holds_at_the_start(name: str) -> None:
    expected, reward = ENDS[name]
    assert idle_reward(ShelfWorld(), expected, "same") == reward


def test_the_floor_of_a_split_has_a_reward_for_each_task() -> None:
    world = ShelfWorld({"same": end("state"), "changed": end("state")})
    assert floor(world, "test") == (1.0, 0.0)


def test_a_world_that_does_not_say_how_a_task_ends_has_no_floor() -> None:
    class Silent(ShelfWorld):
        def expected(self, task: Task) -> Expected | None:
            return None

    with pytest.raises(UsageError, match="does not say how same should end"):
        floor(Silent({"same": end("state")}), "test")


def called(name: str, arguments: dict[str, Any], by: Any = "agent") -> CallRecord:
    return CallRecord.of(ToolCall.of("c", name, arguments), ToolResult(value="ok"), by=by)


def gold(key: str, tool: str, by: str | None = None, **arguments: Any) -> Goal:
    return Goal(key, {"tool": tool, "arguments": arguments, **({"by": by} if by else {})})


GOALS = (
    gold("look", "look", id=1),
    gold("look", "look", id=1),
    gold("look:2", "look", id=2),
    gold("take", "take", id=1),
    gold("press", "press", by="user"),
    Goal("other", {"tool": "look", "parameters": {}}),
    Goal("none", {"arguments": {"id": 1}}),
)


@pytest.mark.parametrize(
    ("calls", "reads", "writes"),
    [
        ([], "0 of 3", "0 of 2"),
        ([called("look", {"id": 1})], "1 of 3", "0 of 2"),
        ([called("look", {"id": 1})] * 3, "2 of 3", "0 of 2"),
        ([called("look", {"id": 2}), called("take", {"id": 2})], "1 of 3", "0 of 2"),
        ([called("take", {"id": 1}), called("press", {}, "user")], "0 of 3", "2 of 2"),
        ([called("take", {"id": 1}, "user"), called("press", {})], "0 of 3", "0 of 2"),
    ],
)
def test_calls_of_the_solution_are_counted_once_each(calls: list[CallRecord], reads: str, writes: str) -> None:
    task = Task(id="T", world="shelf", split="test", instructions="", goals=GOALS)
    expected = end("state", writes=("take", "press"))
    floor_, *made = end_measures(ShelfWorld(), task, expected, "same", calls)
    assert floor_ == RewardPart("floor", 1.0, 0.0)
    assert [(part.name, part.weight, part.evidence) for part in made] == [
        ("reads_made", 0.0, reads),
        ("writes_made", 0.0, writes),
    ]
    for part in made:
        hit, of = map(int, part.evidence.split(" of "))
        assert part.value == hit / of


def test_without_a_solution_nothing_is_measured_but_the_floor() -> None:
    task = Task(id="T", world="shelf", split="test", instructions="")
    assert [part.name for part in end_measures(ShelfWorld(), task, end("state"), "same", ())] == ["floor"]
    assert list(end_measures(ShelfWorld(), task, end("state"), None, ())) == []
