"""The contract of tool servers: what a tool server is asked, and what it replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar

from simkit.actors.actor import Request
from simkit.components.base import State
from simkit.core.messages import JsonObject, ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class ToolsStart:
    """The tools of an episode, the world state it starts from, and the world's rules for agents."""

    specs: tuple[ToolSpec, ...]
    state: State = None
    policy: str = ""


@dataclass(frozen=True, slots=True)
class ToolReturn:
    """A tool's answer, the world as the call left it, and what the call wrote (empty for reads)."""

    result: ToolResult
    state: State = None
    writes: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class StartTools(Request[ToolsStart]):
    """Asks a tool server for the tools and the world of one task."""

    task: Task

    def serve(self, tools: ToolServer, /) -> ToolsStart:
        """Ask a tool server."""
        return tools.start(self)


@dataclass(frozen=True, slots=True)
class CallTool(Request[ToolReturn]):
    """Asks a tool server to run one call in one branch's world.

    Whatever a model can get wrong (an unknown tool or parameter, arguments that do not parse) is answered with an error
    result that the agent can read. Only a broken tool server raises.
    """

    task: Task
    call: ToolCall
    state: State

    def serve(self, tools: ToolServer, /) -> Awaitable[ToolReturn]:
        """Ask a tool server."""
        return tools.call(self)


class ToolServer(ABC):
    """Runs tool calls: state and call in, result and new state out."""

    name: ClassVar[str] = "tools"
    forkable: ClassVar[bool] = True
    concurrency: int | None = None
    """Requests it serves at once, None for no limit; further ones wait for their turn."""
    sessions: int | None = None
    """Conversations it holds open at once, None for no limit; further episodes wait before they begin."""

    @abstractmethod
    def start(self, request: StartTools) -> ToolsStart:
        """The tools and the first world state of a task."""

    @abstractmethod
    async def call(self, request: CallTool) -> ToolReturn:
        """The result of one call."""
