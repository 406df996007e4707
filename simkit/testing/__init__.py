"""Fakes and conformance suites for testing components and recipes.

await check(MyWorld())                               # every promise of the contract, or ConformanceError
played = await play(MyAgent(), store=folder, tasks=3)            # a few conversations; a fault is raised
agent, user = fixed_agent([...]), fixed_user(["Hello", "Bye"])   # a conversation without any model
"""

from __future__ import annotations

from simkit.core.recorder import MemoryRecorder
from simkit.testing.agents import check_agent
from simkit.testing.conformance import check
from simkit.testing.fixed import FixedAgent, FixedUser, fixed_agent, fixed_user
from simkit.testing.loops import check_loop
from simkit.testing.playing import Played, play
from simkit.testing.promises import ConformanceError
from simkit.testing.providers import check_provider
from simkit.testing.rewards import check_reward
from simkit.testing.snapshot import snapshot
from simkit.testing.tools import check_tool_server, hostile_calls
from simkit.testing.users import check_user
from simkit.testing.worlds import check_world

__all__ = [
    "ConformanceError",
    "FixedAgent",
    "FixedUser",
    "MemoryRecorder",
    "Played",
    "check",
    "check_agent",
    "check_loop",
    "check_provider",
    "check_reward",
    "check_tool_server",
    "check_user",
    "check_world",
    "fixed_agent",
    "fixed_user",
    "hostile_calls",
    "play",
    "snapshot",
]
