"""A tool server of simkit as an MCP server, for one client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from simkit.components.tools import CallTool, StartTools, ToolServer
from simkit.core.boundary import described
from simkit.core.messages import ToolCall, ToolSpec
from simkit.core.redaction import redacted
from simkit.core.safe_text import visible
from simkit.core.tasks import Task
from simkit.errors import SimkitError
from simkit.plugins.extras import require


def server_of(tools: ToolServer[Any], task: Task, *, name: str) -> Any:
    """An MCP server with the agent's tools of a task. It has one state, which starts fresh with each server.

    Calls are answered one after another. A failed call is an error that the client can read.

    Raises:
        UsageError: the package `mcp` is not installed.
    """
    import simkit

    types: Any = require("mcp_types", "mcp")
    lowlevel: Any = require("mcp.server.lowlevel", "mcp")
    start = tools.start(StartTools(task))
    session = _Session(tools, task, start.state)

    async def list_tools(_context: object, _asked: object) -> Any:
        return types.ListToolsResult(tools=[_tool(types.Tool, spec) for spec in start.specs])

    async def call_tool(_context: object, asked: Any) -> Any:
        text, error = await session.call(asked.name, asked.arguments or {})
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=error)

    return lowlevel.Server(
        name,
        version=simkit.__version__,
        instructions=start.policy or None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve_stdio(server: Any) -> None:
    """Serve on standard input and output until the client closes them."""
    stdio: Any = require("mcp.server.stdio", "mcp")
    async with stdio.stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


class _Session:
    """The state of the tools between two calls."""

    def __init__(self, tools: ToolServer[Any], task: Task, state: Any) -> None:
        self._tools = tools
        self._task = task
        self._state = state
        self._calls = 0
        self._lock = anyio.Lock()

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """The text of a result, and whether it is an error."""
        async with self._lock:
            self._calls += 1
            call = ToolCall.of(f"call_{self._calls}", name, arguments)
            try:
                done = await self._tools.call(CallTool(self._task, call, self._state))
            except SimkitError as error:
                return visible(redacted(str(error))), True
            except Exception as error:  # a function of the world failed: the client hears so, and may go on
                return visible(redacted(f"the tool `{name}` failed: {described(error)}")), True
            self._state = done.state
            return visible(done.result.text), done.result.error


def _tool(kind: Callable[..., Any], spec: ToolSpec) -> Any:
    function = spec.function
    schema = {"type": "object", **(function.parameters or {})}
    return kind(name=function.name, description=function.description, input_schema=schema)
