"""The tool server of a tau2-bench domain."""

from __future__ import annotations

from typing import ClassVar

from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.messages import ToolResult, ToolSpec, parse_call
from simkit.core.tasks import Task
from simkit.tools.tau.rows import Rows, copied
from simkit.tools.tau.server import as_json
from simkit.tools.tau2.cache import DomainData
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.opening import opening_of
from simkit.tools.tau2.prompts import STOP, solo_parts
from simkit.tools.tau2.start import start_rows


class Tau2Server(ToolServer[Rows]):
    """Answers like the release, calls of the user included. The state of a branch is its `Rows`."""

    name: ClassVar[str] = "tau2"

    def __init__(self, domain: DomainName, data: DomainData, environment: Environment, policy: str) -> None:
        self._domain: DomainName = domain
        self._data = data
        self._environment = environment
        self._policy = policy

    def start(self, request: StartTools) -> ToolsStart[Rows]:
        """The tools of both sides, the rows after the task's set-up, the policy, and what was said before.

        An agent that works alone has all tools and one to end with; its policy holds the task's ticket.

        Raises:
            DataCorrupt: the task's initial state cannot be set up, or its earlier messages end the conversation.
        """
        data, rows = self._data, self.rows(request.task)
        if self._environment.solo:
            _, rest = solo_parts(data.prompts["solo"])
            policy = rest.replace("{{policy}}", self._policy).replace("{{ticket}}", str(request.task.data["ticket"]))
            return ToolsStart((*data.specs, *data.user_specs, data.stop), rows, policy, solo=True)
        opening = opening_of(request.task.data, data.prompts["greeting"])
        return ToolsStart(data.specs, rows, self._policy, self._user_specs(request.task), opening)

    def rows(self, task: Task) -> Rows:
        """The rows after a task's set-up.

        Raises:
            DataCorrupt: the task's initial state cannot be set up.
        """
        state = task.data.get("initial_state")
        return start_rows(self._domain, self._environment, Rows(self._data.base), state, f"the task `{task.id}`")

    def _user_specs(self, task: Task) -> tuple[ToolSpec, ...]:
        """The user's tools: all, or those that the task names."""
        named = task.data.get("user_tools")
        return tuple(spec for spec in self._data.user_specs if named is None or spec.name in named)

    async def call(self, request: CallTool[Rows]) -> ToolReturn[Rows]:
        """The result of one call, as the release words it.

        Arguments that are no JSON object, which stop the release, are an error. The only call that ends an episode is
        that of an agent that works alone.
        """
        name, arguments = request.call.name, parse_call(request.call)
        if arguments is None:
            text = f"Error: the arguments of {name} must be one JSON object"
            return ToolReturn(ToolResult(value=text, error=True), request.state)
        if self._environment.solo and name == STOP:
            return ToolReturn(ToolResult(value="###STOP###"), request.state, end=True)
        called = run_call(self._environment, request.state, name, copied(dict(arguments)), request.by)
        result = ToolResult(value=called.text, error=called.error)
        return ToolReturn(result, called.rows, tuple(map(as_json, called.writes)))
