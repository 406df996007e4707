"""The contract of tool servers: their requests and replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, cast

from simkit.actors.actor import Request
from simkit.components.state import NO_STATE, Stateful, StateT, StateT_co
from simkit.core.conversation import Entry
from simkit.core.messages import JsonObject, ToolCall, ToolResult, ToolSpec
from simkit.core.records import Side
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class ToolsStart(Stateful[StateT_co]):
    """The beginning of an episode: its tools, its first world state, the rules for agents, and what was said before.

    Attributes:
        specs: the agent's tools.
        state: the world state before the first utterance.
        policy: the world's rules for agents.
        user_specs: the user's own tools, which change the same world state (dual control). The agent never sees these
            tools, their calls or their results. Only users that can call tools play such an episode.
        opening: entries of turn 0 that follow the system prompt, such as a greeting or an earlier conversation. If the
            user spoke last in them, the agent's turn is next; otherwise the user is asked.
        solo: there is no user. The agent works alone, from its first turn on, until it ends the conversation or a tool
            does.
    """

    specs: tuple[ToolSpec, ...]
    state: StateT_co = NO_STATE
    policy: str = ""
    user_specs: tuple[ToolSpec, ...] = ()
    opening: tuple[Entry, ...] = ()
    solo: bool = False


@dataclass(frozen=True, slots=True)
class ToolReturn(Stateful[StateT_co]):
    """A tool's answer, the world state after the call, and the rows that the call wrote (empty for reads).

    With `end`, the call ends the conversation, as the agent's decision to end it does: the user is not asked again.
    """

    result: ToolResult
    state: StateT_co = NO_STATE
    writes: tuple[JsonObject, ...] = ()
    end: bool = False


@dataclass(frozen=True, slots=True)
class StartTools(Request[ToolsStart[Any]]):
    """Request for the tools and the world state of one task."""

    task: Task

    def serve(self, tools: ToolServer[Any], /) -> ToolsStart[Any]:
        """Ask a tool server."""
        return tools.start(self)


@dataclass(frozen=True, slots=True)
class CallTool(Stateful[StateT_co], Request[ToolReturn[StateT_co]]):
    """Request to run one call in one branch's world; `by` says whose call it is, the agent's or the user's.

    Mistakes of a model (an unknown tool or parameter, arguments that do not parse) are answered with an error result
    that the caller can read. Only a broken tool server raises an error.
    """

    task: Task
    call: ToolCall
    state: StateT_co
    by: Side = "agent"

    def serve(self, tools: ToolServer[StateT_co], /) -> Awaitable[ToolReturn[StateT_co]]:
        """Ask a tool server."""
        return tools.call(self)


class ToolServer(ABC, Generic[StateT]):
    """Runs tool calls: state and call in, result and new state out."""

    name: ClassVar[str] = "tools"
    forkable: bool = True
    unforkable_because: str = ""
    """Why it cannot be forked, and what would help; for the message to whoever tries."""
    concurrency: int | None = None
    """Maximum number of concurrent requests, None for no limit; further requests wait."""
    sessions: int | None = None
    """Maximum number of concurrently open conversations, None for no limit; further episodes wait before they start."""

    @abstractmethod
    def start(self, request: StartTools) -> ToolsStart[StateT]:
        """The tools and the first world state of a task."""

    @abstractmethod
    async def call(self, request: CallTool[StateT]) -> ToolReturn[StateT]:
        """The result of one call."""


@asynccontextmanager
async def opened(server: ToolServer[Any]) -> AsyncGenerator[ToolServer[Any]]:
    """A tool server outside of a run, entered if it is a context manager, such as one of an MCP server."""
    if hasattr(type(server), "__aenter__"):
        async with cast("AbstractAsyncContextManager[object]", server):
            yield server
    else:
        yield server
