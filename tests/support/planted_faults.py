"""A bicycle shop whose conversations fail by the fault of a known party, to test reviewers of failures.

`Planted.of(number)` says whose fault the failure of task `number` is, drawn from a seed. Nothing of it is in the task:
the players know it, and whoever reads the conversation has to find it. Every task asks for the same thing in the same
words but for a day and a number of bicycles; its reward is missed in the same way whoever is at fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeAlias

from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.cast import Cast
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.messages import ToolCall, ToolMessage, ToolResult, ToolSpec, text_of
from simkit.core.ontology import Ontology
from simkit.core.tasks import Goal, Task
from simkit.rewards.goal_calls import GoalCalls
from simkit.run.run import Run

Label: TypeAlias = Literal["agent", "user", "tool"]

LABELS: tuple[Label, ...] = ("agent", "user", "tool")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
REFUSED = "ERROR: the shop is closed on {day}"
SPEC = ToolSpec.of(
    "reserve",
    "Reserve bicycles. The shop is open every day of the week.",
    {
        "type": "object",
        "properties": {"day": {"type": "string", "enum": list(DAYS)}, "count": {"type": "integer"}},
        "required": ["day", "count"],
    },
)
_ASKED = re.compile(r"(\d+) bicycles? on (\w+)")


@dataclass(frozen=True, slots=True)
class Planted:
    """The faults of all tasks: `each` of every kind, in an order drawn from `seed`."""

    each: int = 20
    seed: int = 0

    @property
    def labels(self) -> tuple[Label, ...]:
        """The party at fault, by the number of the task."""
        drawn: list[Label] = [label for label in LABELS for _ in range(self.each)]
        Random(self.seed).shuffle(drawn)
        return tuple(drawn)

    def of(self, task: Task) -> Label:
        """The party at fault in a task."""
        return self.labels[int(task.id.removeprefix("order"))]

    def evidence(self, task: Task) -> str:
        """The words of the conversation that show the fault."""
        day, count = wanted(task)
        other = other_day(day)
        match self.of(task):
            case "agent":
                return json.dumps({"day": other, "count": count})
            case "user":
                return f"on {other}"
            case "tool":
                return REFUSED.format(day=day)


def wanted(task: Task) -> tuple[str, int]:
    """The day and the number of bicycles of a task."""
    parameters: Mapping[str, Any] = task.goals[0].detail["parameters"]
    return parameters["day"], parameters["count"]


def other_day(day: str) -> str:
    """The day after a day."""
    return DAYS[(DAYS.index(day) + 1) % len(DAYS)]


class Shop(World):
    """Tasks to reserve bicycles."""

    name = "shop"
    splits = ("test",)

    def __init__(self, planted: Planted) -> None:
        self._planted = planted

    def tasks(self, split: str) -> Sequence[Task]:
        return [_task(number) for number in range(self._planted.each * len(LABELS))]

    def tools(self) -> ToolServer[Any]:
        return ShopTools(self._planted)

    @property
    def ontology(self) -> Ontology:
        return Ontology(())


def _task(number: int) -> Task:
    day, count = DAYS[number % len(DAYS)], 2 + number % 3
    goal = Goal("reserve", {"tool": "reserve", "parameters": {"day": day, "count": count}, "booking": True})
    return Task(
        id=f"order{number:02}",
        world="shop",
        split="test",
        instructions=f"You want {count} bicycles on {day}. Have them reserved, and ask for the number of the order.",
        goals=(goal,),
    )


class ShopTools(ToolServer[Any]):
    """Reserves what it is asked for, and refuses without a reason where its fault is planted."""

    name = "shop"

    def __init__(self, planted: Planted) -> None:
        self._planted = planted

    def start(self, request: StartTools) -> ToolsStart[Any]:
        return ToolsStart((SPEC,), policy="Reserve what the customer wants.")

    async def call(self, request: CallTool[Any]) -> ToolReturn[Any]:
        given: dict[str, Any] = json.loads(request.call.arguments)
        if self._planted.of(request.task) == "tool":
            return ToolReturn(ToolResult(value=REFUSED.format(day=given["day"]), error=True))
        number = f"B{int(request.task.id.removeprefix('order')) + 700}"
        return ToolReturn(ToolResult(value={"order": number, **given}), writes=({"order": number},))


class ShopUser(User[int]):
    """Asks for what it was told, or for another day where its fault is planted."""

    name = "shop_user"

    def __init__(self, planted: Planted) -> None:
        self._planted = planted

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        turn, (day, count) = request.state or 0, wanted(request.task)
        said = other_day(day) if self._planted.of(request.task) == "user" else day
        texts = (
            "Hello! I would like to rent bicycles.",
            f"Please reserve {count} bicycles on {said}.",
            "All right. What is the number of the order?",
        )
        return UserTurn(texts[turn], state=turn + 1) if turn < len(texts) else UserTurn("Thanks, bye.", end=True)


class ShopAgent(Agent[Any]):
    """Reserves what the user asks for, or for another day where its fault is planted."""

    name = "shop_agent"

    def __init__(self, planted: Planted) -> None:
        self._planted = planted

    def start(self, request: StartAgent) -> AgentStart[Any]:
        return AgentStart(system="You rent out bicycles.")

    async def act(self, request: Act[Any]) -> Decision[Any]:
        messages = request.conversation.messages()
        last, text = messages[-1], text_of(messages[-1])
        if isinstance(last, ToolMessage):
            refused = text.startswith("ERROR")
            return Decision.speak("I am sorry, that is not possible." if refused else "Done, it is reserved.")
        asked = _ASKED.search(text)
        if asked is None:
            return Decision.speak(
                "For which day, and how many?" if "rent" in text else "You will find it in your mail."
            )
        planted = self._planted.labels[int(request.key.task_id.removeprefix("order"))]
        day = other_day(asked[2]) if planted == "agent" else asked[2]
        return Decision.call(ToolCall.of("c", "reserve", {"day": day, "count": int(asked[1])}))


def shop_cast(run: Run, world: Shop, planted: Planted) -> Cast:
    """The players of a shop with planted faults."""
    return run.cast(world, agent=ShopAgent(planted), user=ShopUser(planted), reward=GoalCalls(world))
