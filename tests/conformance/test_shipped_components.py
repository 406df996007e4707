"""Every component that the installed package offers keeps every promise of its contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simkit.components.agent import Agent
from simkit.components.reward import Reward
from simkit.components.tools import StartTools
from simkit.components.user import User
from simkit.components.world import World
from simkit.core.conversation import Utterance
from simkit.core.tasks import Task
from simkit.errors import DataMissing
from simkit.models import ScriptedModel
from simkit.plugins.loading import ComponentKind, available, find_class, load
from simkit.testing import check_agent, check_reward, check_tool_server, check_user

pytestmark = pytest.mark.anyio

WORLDS: ComponentKind[World] = ComponentKind("world", "simkit.worlds", World)  # type: ignore[type-abstract]
AGENTS: ComponentKind[Agent] = ComponentKind("agent", "simkit.agents", Agent)  # type: ignore[type-abstract]
USERS: ComponentKind[User] = ComponentKind("user", "simkit.users", User)  # type: ignore[type-abstract]
REWARDS: ComponentKind[Reward] = ComponentKind("reward", "simkit.rewards", Reward)


SINGLE = [name for name in available("simkit.worlds") if not find_class(WORLDS, name).domains]
"""The worlds that are no family; those of tau-bench have tests of their own (tests/tau)."""


@pytest.fixture(params=SINGLE)
def world(request: pytest.FixtureRequest) -> World:
    return load(WORLDS, str(request.param))


@pytest.fixture
def tasks(world: World) -> tuple[Task, ...]:
    """Tasks with a booking in them, and a dialogue to replay."""
    try:
        found = [task for task in world.tasks("val")[:30] if any(wish.book for wish in task.agenda)][:3]
    except DataMissing as error:
        pytest.skip(f"the world `{world.name}` cannot be had here: {error}")
    spoken = (Utterance("user", "Hello."), Utterance("agent", "Yes?"), Utterance("user", "I need a train."))
    return tuple(replace(task, reference=task.reference or spoken) for task in found)


def test_something_is_shipped() -> None:
    for group, name in (("worlds", "builtin"), ("agents", "scripted"), ("users", "agenda"), ("rewards", "goal_calls")):
        assert name in available(f"simkit.{group}")


async def test_tool_server(world: World, tasks: tuple[Task, ...]) -> None:
    await check_tool_server(world, tasks[:1])


@pytest.mark.parametrize("name", available("simkit.agents"))
async def test_agent(name: str, world: World, tasks: tuple[Task, ...]) -> None:
    if name == "solution" and "solution" not in tasks[0].data:
        pytest.skip("the agent `solution` plays worlds whose tasks have one (tests/file_worlds)")
    if name == "http_chat":
        pytest.skip("the agent `http_chat` needs an endpoint: tests/agents/test_http_chat.py")
    tools = world.tools().start(StartTools(tasks[0])).specs
    await check_agent(load(AGENTS, name, _given(world)), tools=tools)


@pytest.mark.parametrize("name", available("simkit.users"))
async def test_user(name: str, world: World, tasks: tuple[Task, ...]) -> None:
    if name == "none":
        pytest.skip("the user `none` is never asked")
    user = load(USERS, name, _given(world))
    if not user.forkable:
        pytest.skip(f"the user `{name}` is a person at a terminal, not a function of its seed")
    await check_user(user, tasks)


@pytest.mark.parametrize("name", available("simkit.rewards"))
async def test_reward(name: str, world: World, tasks: tuple[Task, ...]) -> None:
    if find_class(REWARDS, name).final and world.expected(tasks[0]) is None:
        pytest.skip(f"the reward `{name}` judges ends, and the world `{world.name}` does not say what a good one is")
    await check_reward(load(REWARDS, name, _given(world)), tasks)


def _given(world: World) -> dict[str, Any]:
    return {"world": world, "model": ScriptedModel(lambda request, key: "SPEAK Which day, please?")}
