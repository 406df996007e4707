"""Runs one call of either side's tools on the rows of a branch, as tau2-bench does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from simkit.core.messages import ToolSpec
from simkit.tools.tau.arguments import schema_problem
from simkit.tools.tau.call import Called, Function, listed
from simkit.tools.tau.rows import Draft, Rows, Side
from simkit.tools.tau.text import Refused, error_text
from simkit.tools.tau2.text import value_text

Kind: TypeAlias = Literal["read", "write", "generic", "think"]
Schemas: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool with its kind and the names of its parameters; the draft is not among them."""

    function: Function
    kind: Kind
    parameters: tuple[str, ...]
    required: tuple[str, ...]

    @classmethod
    def of(cls, kind: Kind, function: Function) -> Tool:
        """A tool from its function."""
        _, *parameters = inspect.signature(function).parameters.values()
        required = tuple(each.name for each in parameters if each.default is each.empty)
        return cls(function, kind, tuple(each.name for each in parameters), required)


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of one side by name.

    Attributes:
        title: the release's name of the tools, such as `RetailTools`; Python's words for wrong arguments contain it.
        tools: the tools.
    """

    title: str
    tools: Mapping[str, Tool]

    @classmethod
    def of(
        cls,
        title: str,
        *,
        read: Iterable[Function] = (),
        write: Iterable[Function] = (),
        generic: Iterable[Function] = (),
    ) -> Toolset:
        """The tools of one side from their functions, whose names they have, by kind."""
        kinds: dict[Kind, Iterable[Function]] = {"read": read, "write": write, "generic": generic}
        tools = [Tool.of(kind, function) for kind, functions in kinds.items() for function in functions]
        return cls(title, {tool.function.__name__: tool for tool in tools})

    def only(self, names: Collection[str]) -> Toolset:
        """These tools without those that are not named."""
        return replace(self, tools={name: tool for name, tool in self.tools.items() if name in names})

    def replaced(self, *functions: Function) -> Toolset:
        """These tools with other functions for those of the same name."""
        changed = {each.__name__: Tool.of(self.tools[each.__name__].kind, each) for each in functions}
        return replace(self, tools={**self.tools, **changed})


@dataclass(frozen=True, slots=True)
class Environment:
    """The tools of both sides, which work on the same rows.

    Attributes:
        agent: the agent's tools.
        user: the user's tools; None if the user has none.
        sync: brings each side's rows up to date with the other's after a successful call; None if nothing is shared.
        solo: whether the agent calls the user's tools, too, and the user calls none.
        functions: what tasks may name besides tools, to set up a state or to check one, by side.
        schemas: the JSON schemas that arguments are checked with before a call; None to call like the release.
    """

    agent: Toolset
    user: Toolset | None = None
    sync: Callable[[Draft], None] | None = None
    solo: bool = False
    functions: Mapping[Side, Mapping[str, Function]] = field(default_factory=dict[Side, Mapping[str, Function]])
    schemas: Schemas | None = None

    def checked(self, specs: Iterable[ToolSpec]) -> Environment:
        """These tools with checked arguments, one wording of errors, and no change by a call that fails."""
        return replace(self, schemas={spec.name: spec.function.parameters or {} for spec in specs})

    def sides(self) -> tuple[Toolset, ...]:
        """The tools of each side that has some, the agent's first."""
        return (self.agent,) if self.user is None else (self.agent, self.user)

    def only(self, agent: Collection[str], user: Collection[str]) -> Environment:
        """These tools without those that are not named; a side without any has no tools."""
        left = self.user.only(user) if self.user is not None and user else None
        return replace(self, agent=self.agent.only(agent), user=left)

    def find(self, name: str) -> Tool | None:
        """A tool of either side; the agent's comes first."""
        found = self.agent.tools.get(name)
        return found if found is not None or self.user is None else self.user.tools.get(name)

    def function(self, side: Side, name: str) -> Function:
        """A function or tool of a side that a task names.

        Raises:
            LookupError: there is none.
        """
        toolset = self.agent if side == "agent" else self.user
        tool = None if toolset is None else toolset.tools.get(name)
        function = self.functions.get(side, {}).get(name) if tool is None else tool.function
        if function is None:
            raise LookupError(f"the {side}'s side has no function {name:.100}")
        return function

    def called_by(self, side: Side, name: str) -> Toolset:
        """The tools among which a side's call looks for a name.

        Raises:
            Refused: the side has no tools.
        """
        if side == "user":
            if self.solo:
                raise Refused("User tool calls are not allowed in solo mode")
            if self.user is None:
                raise Refused("User tools not available")
            return self.user
        return self.user if self.solo and self.user is not None and name in self.user.tools else self.agent


def run_call(
    environment: Environment, rows: Rows, name: str, arguments: Mapping[str, Any], side: Side = "agent"
) -> Called:
    """Run a call of a side: as the release does, or with checks if the tools are `checked`.

    In the release, whatever a tool or the synchronization raises is the text of the result. What was changed before
    that stays changed, and is not synchronized before the next successful call. No call ends an episode.
    """
    draft = Draft(rows)
    try:
        value = _answer(environment, draft, name, arguments, side)
        if environment.sync is not None:
            environment.sync(draft)
        text = value_text(draft, value)
    except Exception as raised:
        if environment.schemas is not None:
            return Called(_failure(name, raised), rows, error=True)
        return Called(error_text(raised), *draft.done(), error=True)
    return Called(text, *draft.done())


def _answer(environment: Environment, draft: Draft, name: str, arguments: Mapping[str, Any], side: Side) -> object:
    if environment.schemas is not None:
        tool = _find_checked(environment, environment.schemas, name, arguments, side)
        return tool.function(draft, **arguments)
    _check_reserved(arguments)
    toolset = environment.called_by(side, name)
    tool = toolset.tools.get(name)
    if tool is None:
        raise Refused(f"Tool '{name}' not found.")
    _check_names(f"{toolset.title}.{name}()", tool, arguments)
    return tool.function(draft, **arguments)


def _check_reserved(arguments: Mapping[str, Any]) -> None:
    """Refuse names that collide with parameters of the release's own dispatcher, in the words of Python.

    Raises:
        Refused: an argument has such a name.
    """
    method = "Environment.make_tool_call() got multiple values for"
    if "requestor" in arguments:
        raise Refused(f"tau2.environment.environment.{method} keyword argument 'requestor'")
    for name in arguments:
        if name in ("self", "tool_name"):
            raise Refused(f"{method} argument '{name}'")


def _check_names(method: str, tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that do not fit the parameters, in the words of Python.

    Raises:
        Refused: an argument is unknown or missing.
    """
    for name in arguments:
        if name not in tool.parameters:
            raise Refused(f"{method} got an unexpected keyword argument '{name}'")
    missing = [f"'{name}'" for name in tool.required if name not in arguments]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise Refused(f"{method} missing {len(missing)} required positional argument{plural}: {listed(missing)}")


def _find_checked(
    environment: Environment, schemas: Schemas, name: str, arguments: Mapping[str, Any], side: Side
) -> Tool:
    toolset = environment.called_by(side, name)
    tool = toolset.tools.get(name)
    if tool is None:
        raise Refused(f"there is no tool {name:.100}; the tools are: {', '.join(toolset.tools)}")
    problem = schema_problem(dict(arguments), schemas.get(name, {}), closed=True)
    if problem:
        raise Refused(f"{name} was not called: {problem}")
    return tool


def _failure(name: str, raised: Exception) -> str:
    if isinstance(raised, Refused):
        return error_text(raised)
    return f"Error: {name} failed and changed nothing ({type(raised).__name__}: {raised})"
