"""Runs one call of a release's tools on the rows of a branch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from simkit.core.messages import ToolSpec
from simkit.tools.tau.arguments import schema_problem
from simkit.tools.tau.rows import Draft, Rows, Write
from simkit.tools.tau.text import Refused, error_text, value_text

Function: TypeAlias = Callable[..., object]
"""A tool: a draft of the rows first, then the call's arguments by name; they may be of any JSON type."""

TRANSFER: Final = "transfer_to_human_agents"
"""The tool that ends an episode."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and the names of its parameters; the draft is not among them."""

    function: Function
    parameters: tuple[str, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, function: Function) -> Tool:
        """A tool from its function."""
        parameters = tuple(inspect.signature(function).parameters)[1:]
        return cls(function, parameters, frozenset(parameters))


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of a domain.

    Attributes:
        domain: `retail` or `airline`; Python's words for a call with an argument named `data` contain it.
        tools: the tools by name.
        schemas: the JSON schemas that arguments are checked with before a call; None to call like the release.
    """

    domain: str
    tools: Mapping[str, Tool]
    schemas: Mapping[str, Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, domain: str, *functions: Function) -> Toolset:
        """The tools of a domain from their functions, whose names they have."""
        return cls(domain, {function.__name__: Tool.of(function) for function in functions})

    def replaced(self, *functions: Function) -> Toolset:
        """These tools with other functions for those of the same name."""
        return replace(self, tools={**self.tools, **{function.__name__: Tool.of(function) for function in functions}})

    def checked(self, specs: Iterable[ToolSpec]) -> Toolset:
        """These tools with checked arguments, one wording of errors, and no change by a call that fails."""
        return replace(self, schemas={spec.name: spec.function.parameters or {} for spec in specs})


@dataclass(frozen=True, slots=True)
class Called:
    """Result of a call.

    Attributes:
        text: what the agent reads.
        rows: the rows after the call.
        writes: the rows that the call changed.
        error: whether the tool refused the call or failed.
        ended: whether the call ended the episode.
    """

    text: str
    rows: Rows
    writes: tuple[Write, ...] = ()
    error: bool = False
    ended: bool = False


def run_call(toolset: Toolset, rows: Rows, name: str, arguments: Mapping[str, Any]) -> Called:
    """Run a call: as the release does, or with checks if the tools are `checked`.

    In the release, whatever a tool raises is the text of the result, and what it changed before that stays changed.
    An unknown tool is no error.
    """
    if toolset.schemas is not None:
        return _run_checked(toolset, toolset.schemas, rows, name, arguments)
    tool = toolset.tools.get(name)
    if tool is None:
        return Called(f"Unknown action {name}", rows)
    draft = Draft(rows)
    error = False
    try:
        _check_names(toolset, tool, arguments)
        text = value_text(tool.function(draft, **arguments))
    except Exception as raised:
        text, error = error_text(raised), True
    after, writes = draft.done()
    return Called(text, after, writes, error, ended=name == TRANSFER)


def _run_checked(
    toolset: Toolset, schemas: Mapping[str, Mapping[str, Any]], rows: Rows, name: str, arguments: Mapping[str, Any]
) -> Called:
    tool = toolset.tools.get(name)
    if tool is None:
        return Called(
            f"Error: there is no tool {name:.100}; the tools are: {', '.join(toolset.tools)}", rows, error=True
        )
    draft = Draft(rows)
    try:
        problem = schema_problem(dict(arguments), schemas.get(name, {}), closed=True)
        if problem:
            raise Refused(f"{name} was not called: {problem}")
        text = value_text(tool.function(draft, **arguments))
    except Refused as refused:
        return Called(error_text(refused), rows, error=True)
    except Exception as raised:
        return Called(f"Error: {name} failed and changed nothing ({type(raised).__name__}: {raised})", rows, error=True)
    after, writes = draft.done()
    return Called(text, after, writes, ended=name == TRANSFER)


def _check_names(toolset: Toolset, tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that do not fit the parameters, in the words of Python for the release's method.

    Raises:
        Refused: an argument is unknown or missing.
    """
    if tool.names == frozenset(arguments):
        return
    method = f"{''.join(word.capitalize() for word in tool.function.__name__.split('_'))}.invoke()"
    if "data" in arguments:
        module = f"tau_bench.envs.{toolset.domain}.tools.{tool.function.__name__}"
        raise Refused(f"{module}.{method} got multiple values for keyword argument 'data'")
    unexpected = next((name for name in arguments if name not in tool.names), None)
    if unexpected is not None:
        raise Refused(f"{method} got an unexpected keyword argument '{unexpected}'")
    missing = [f"'{name}'" for name in tool.parameters if name not in arguments]
    plural = "s" if len(missing) > 1 else ""
    raise Refused(f"{method} missing {len(missing)} required positional argument{plural}: {listed(missing)}")


def listed(names: list[str]) -> str:
    """Names as Python's messages list them."""
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"
