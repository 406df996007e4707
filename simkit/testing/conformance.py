"""Conformance suites for components and model providers, one per kind.

    from simkit.testing.conformance import check_world

    async def test_my_world():
        await check_world(MyWorld())

Each `check_*` raises one `ConformanceError` that says which promise was broken. The `*_PROMISES` hold the same promises
for `pytest.mark.parametrize`; each takes the subject of its suite.
"""

from __future__ import annotations

from simkit.testing.agents import AGENT_PROMISES, AgentSubject, check_agent
from simkit.testing.promises import ConformanceError, Promise
from simkit.testing.providers import PROVIDER_PROMISES, ProviderSubject, check_provider
from simkit.testing.rewards import REWARD_PROMISES, RewardSubject, check_reward
from simkit.testing.tools import TOOL_PROMISES, ToolSubject, check_tool_server, hostile_calls
from simkit.testing.users import USER_PROMISES, UserSubject, check_user
from simkit.testing.worlds import WORLD_PROMISES, WorldSubject, check_world

__all__ = [
    "AGENT_PROMISES",
    "PROVIDER_PROMISES",
    "REWARD_PROMISES",
    "TOOL_PROMISES",
    "USER_PROMISES",
    "WORLD_PROMISES",
    "AgentSubject",
    "ConformanceError",
    "Promise",
    "ProviderSubject",
    "RewardSubject",
    "ToolSubject",
    "UserSubject",
    "WorldSubject",
    "check_agent",
    "check_provider",
    "check_reward",
    "check_tool_server",
    "check_user",
    "check_world",
    "hostile_calls",
]
