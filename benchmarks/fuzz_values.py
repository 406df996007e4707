"""Hostile values, and components that return them in every field."""

from __future__ import annotations

import dataclasses
import decimal
import threading
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar, cast

from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, AgentStart, Decision, StartAgent
from simkit.components.reward import EpisodeReward, Hit, RewardPart, ScoreEpisode, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.components.world import World
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.tasks import Goal, Task
from simkit.rewards.goal_calls import GoalCalls
from simkit.users.agenda import AgendaUser

T = TypeVar("T")

RATE = 0.15
"""Share of replies with a hostile value."""


class Odd:
    """An object that raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __iter__(self) -> Any:
        raise RuntimeError("no items")

    def __float__(self) -> float:
        raise RuntimeError("no number")


def circle() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def hostile_json(random: Random) -> Any:
    """A value that JSON text can carry, and that is not what was expected."""
    values: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, 1e-320),
        *("", " ", "x", "\0", "\x1b[2J", "\ud800", "é" * 1000, "a" * 100_000, "null", "1", "{}", "[DONE]", "NaN"),
        *([], {}, [[]], [None], {"": None}, {"a": {"b": {"c": []}}}, [1, "two", {"three": 3}], {"id": "x"}),
        *(float("nan"), float("inf"), float("-inf"), ["x"] * 1000, {str(n): n for n in range(300)}),
        *(deep(20), deep(200), deep(900)),
    )
    return random.choice(values)


def hostile(random: Random) -> Any:
    """Any value at all."""
    made: tuple[Callable[[], Any], ...] = (
        *(Odd, object, set[int], lambda: b"\xff", lambda: {1: 2}, lambda: {b"k": 1}, circle, lambda: deep(50_000)),
        *(lambda: (x for x in ()), threading.Lock, lambda: decimal.Decimal("NaN"), lambda: 1j, lambda: hostile),
        *(lambda: {"a": {1, 2}}, lambda: Exception("a value"), lambda: range(3), lambda: memoryview(b"x"), lambda: int),
        *(lambda: {"a": circle()}, lambda: ["\ud800"], lambda: float("nan"), lambda: -5.0, lambda: "0.7", lambda: ...),
    )
    make: Callable[[], Any] = random.choice(made)
    return make() if random.random() < 0.5 else hostile_json(random)


def spoiled(random: Random, value: T) -> T:
    """A reply with a hostile value in one of its fields, or in place of all of it; mostly the reply itself."""
    if random.random() >= RATE:
        return value
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or random.random() < 0.1:
        return hostile(random)
    names = [each.name for each in dataclasses.fields(value)]
    copy: Any = object.__new__(type(value))
    for name in names:
        object.__setattr__(copy, name, getattr(value, name))
    name = random.choice(names)
    inner = getattr(value, name)
    if isinstance(inner, tuple) and inner and random.random() < 0.5:
        items = cast("tuple[Any, ...]", inner)
        spoilt: Any = (*items[:-1], spoiled(random, items[-1]))
    else:
        spoilt = hostile(random)
    object.__setattr__(copy, name, spoilt)
    return copy


class HostileAgent(ScriptedAgent):
    """The scripted agent, whose decisions are sometimes something else."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world)
        self._random = random

    def start(self, request: StartAgent) -> AgentStart:
        return spoiled(self._random, super().start(request)) if self._random.random() < 0.1 else super().start(request)

    async def act(self, request: Act) -> Decision:
        decision = await super().act(request)
        if self._random.random() < RATE:
            call = ToolCall.of("c", "search_hotel", {"area": "north"})
            arguments = self._random.choice(
                ("{", "[" * 990, '{"a": ' * 990, "null", "9" * 5000, '"\\ud800"', '{"a":1e999}')
            )
            call = call.model_copy(update={"function": call.function.model_copy(update={"arguments": arguments})})
            return Decision.call(call, state=decision.state)
        return spoiled(self._random, decision)


class HostileUser(AgendaUser):
    """The agenda user, whose turns are sometimes something else."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world)
        self._random = random

    async def speak(self, request: Speak) -> UserTurn:
        return spoiled(self._random, await super().speak(request))


class HostileTools(ToolServer):
    """A world's tool server, whose answers are sometimes something else."""

    name = "hostile"

    def __init__(self, tools: ToolServer, random: Random) -> None:
        self._tools = tools
        self._random = random

    def start(self, request: StartTools) -> ToolsStart:
        start = self._tools.start(request)
        return spoiled(self._random, start) if self._random.random() < 0.2 else start

    async def call(self, request: CallTool) -> ToolReturn:
        found = await self._tools.call(request)
        if self._random.random() < RATE:
            result = ToolResult.model_construct(value=hostile(self._random), error=False)
            return dataclasses.replace(found, result=result)
        if self._random.random() < RATE:
            return dataclasses.replace(found, writes=({"row": hostile(self._random)},))
        return spoiled(self._random, found)


class HostileReward(GoalCalls):
    """The reward of goal calls, whose scores are sometimes something else."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world)
        self._random = random

    def goals(self, task: Task) -> tuple[Goal, ...]:
        goals = super().goals(task)
        return spoiled(self._random, goals) if self._random.random() < 0.2 else goals

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        return spoiled(self._random, await super().score_turn(request))

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        found = await super().score_episode(request)
        if self._random.random() < RATE:
            return EpisodeReward(found.value, (RewardPart("x", hostile(self._random), hostile(self._random)),))
        return spoiled(self._random, found)
