"""The tool server of a tau-bench domain."""

from __future__ import annotations

from typing import Any, ClassVar

from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.messages import ToolResult, parse_call
from simkit.tools.tau.cache import DomainData
from simkit.tools.tau.call import Toolset, run_call
from simkit.tools.tau.rows import Rows, Write, copied


class TauServer(ToolServer[Rows]):
    """Answers like the release. The state of a branch is its `Rows`."""

    name: ClassVar[str] = "tau"

    def __init__(self, data: DomainData, tools: Toolset) -> None:
        self._tools = tools
        self._start = ToolsStart(data.specs, Rows(data.base), data.policy)

    def start(self, request: StartTools) -> ToolsStart[Rows]:
        """The tools, the unchanged tables, and the release's policy."""
        return self._start

    async def call(self, request: CallTool[Rows]) -> ToolReturn[Rows]:
        """The result of one call, as the release words it.

        Arguments that are no JSON object, which stop the release, are an error, and so is an unknown tool.
        """
        arguments = parse_call(request.call)
        if arguments is None:
            text = f"Error: the arguments of {request.call.name} must be one JSON object"
            return ToolReturn(ToolResult(value=text, error=True), request.state)
        name = request.call.name
        called = run_call(self._tools, request.state, name, copied(dict(arguments)))
        result = ToolResult(value=called.text, error=called.error or name not in self._tools.tools)
        return ToolReturn(result, called.rows, tuple(map(as_json, called.writes)), called.ended)


def as_json(write: Write) -> dict[str, Any]:
    """A write as the store logs it."""
    return {"table": write.table, "id": write.id, "row": write.row}
