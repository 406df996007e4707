"""Conformance suites for components and model providers, one per kind.

    from simkit.testing.conformance import check

    async def test_my_world():
        await check(MyWorld())

All have one shape: the component, then tasks to check it with, then options by name. `check` finds the suite of a
component by its kind. Each raises one `ConformanceError` that says which promise was broken. The `*_PROMISES` hold the
same promises for `pytest.mark.parametrize`; each takes the subject of its suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from simkit.components.agent import Agent
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.components.user import User
from simkit.components.world import World
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.models.provider import Provider
from simkit.testing.agents import AGENT_PROMISES, AgentSubject, check_agent
from simkit.testing.loops import LOOP_PROMISES, LoopSubject, check_loop
from simkit.testing.promises import ConformanceError, Promise
from simkit.testing.providers import PROVIDER_PROMISES, ProviderSubject, check_provider
from simkit.testing.rewards import REWARD_PROMISES, RewardSubject, check_reward
from simkit.testing.tools import TOOL_PROMISES, ToolSubject, check_tool_server, hostile_calls
from simkit.testing.users import USER_PROMISES, UserSubject, check_user
from simkit.testing.worlds import WORLD_PROMISES, WorldSubject, check_world

Component: TypeAlias = Agent | User | ToolServer | Reward | World | Callable[[], Provider]
"""What has a suite; a model provider is given as the function that makes it, because each check opens its own."""


async def check(component: Component, tasks: Sequence[Task] = (), **options: Any) -> None:
    """Check every promise of a component of any kind.

    Args:
        component: an agent, a user, a tool server, a reward, a world, or a function that makes a model provider.
        tasks: tasks to check it with; without them each suite has its own. A tool server needs some.
        options: those of the suite of its kind, such as `deterministic=False` of `check_agent`.

    Raises:
        ConformanceError: a promise was broken; the message names it.
        UsageError: it is none of these, or a tool server was given no tasks.
    """
    match component:
        case World():
            await check_world(component, tasks, **options)
        case Agent():
            await check_agent(component, tasks, **options)
        case User():
            await check_user(component, tasks, **options)
        case ToolServer():
            await check_tool_server(component, tasks, **options)
        case Reward():
            await check_reward(component, tasks, **options)
        case _ if callable(component) and not isinstance(component, type):
            await check_provider(component, **options)
        case _:
            raise UsageError(
                f"there is no conformance suite for {component!r:.80}; give an agent, a user, a tool server, a reward, "
                "a world, or a function that makes a model provider"
            )


__all__ = [
    "AGENT_PROMISES",
    "LOOP_PROMISES",
    "PROVIDER_PROMISES",
    "REWARD_PROMISES",
    "TOOL_PROMISES",
    "USER_PROMISES",
    "WORLD_PROMISES",
    "AgentSubject",
    "Component",
    "ConformanceError",
    "LoopSubject",
    "Promise",
    "ProviderSubject",
    "RewardSubject",
    "ToolSubject",
    "UserSubject",
    "WorldSubject",
    "check",
    "check_agent",
    "check_loop",
    "check_provider",
    "check_reward",
    "check_tool_server",
    "check_user",
    "check_world",
    "hostile_calls",
]
