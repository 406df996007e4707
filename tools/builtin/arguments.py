"""Checks and normalises the arguments of a call before a tool sees them; errors are worded for the agent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from simkit.core.frozen import FrozenMap
from simkit.core.messages import ToolCall, ToolSpec
from simkit.core.ontology import SlotKind
from simkit.errors import InvalidArguments
from simkit.rule_based.normalise import NO_FILTER, normal
from simkit.tools.builtin import vocabulary

LONGEST = 200
_TIME = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d", re.ASCII)
_NUMBER = re.compile(r"\d{1,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a tool.

    Attributes:
        name: its name.
        kind: the kind of its values.
        description: its description for the model; empty if the name explains it.
        values: all possible values, if the schema lists them.
        pattern: a regular expression of its values; empty if the schema has none.
    """

    name: str
    kind: SlotKind
    description: str
    values: tuple[str, ...] = ()
    pattern: str = ""

    def schema(self) -> dict[str, object]:
        """Its JSON schema."""
        listed: dict[str, object] = {"enum": list(self.values)} if self.values else {}
        formed: dict[str, object] = {"pattern": self.pattern} if self.pattern else {}
        described = {"description": self.description} if self.description else {}
        return {"type": "string", **described, **listed, **formed}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its parameters, either all required or all optional."""

    name: str
    description: str
    parameters: FrozenMap[str, Parameter]
    required: bool

    @classmethod
    def of(cls, name: str, description: str, parameters: tuple[Parameter, ...], *, required: bool) -> Tool:
        """A tool from its parts."""
        return cls(name, description, FrozenMap({entry.name: entry for entry in parameters}), required)

    def spec(self) -> ToolSpec:
        """The tool's specification for a model."""
        properties = {name: entry.schema() for name, entry in self.parameters.items()}
        return ToolSpec.of(self.name, self.description, properties, tuple(properties) if self.required else ())


@dataclass(frozen=True, slots=True)
class InvalidCall:
    """Reason why a call is invalid, worded for the agent."""

    reason: str


def read_arguments(tool: Tool, call: ToolCall) -> dict[str, str] | InvalidCall:
    """The arguments of a call in normal form; "no preference" for an optional parameter counts as absent."""
    try:
        given = call.parse_arguments()
    except InvalidArguments as error:
        return InvalidCall(printable(str(error)))
    unknown = next((name for name in given if name not in tool.parameters), None)
    if unknown is not None:
        return InvalidCall(f"{tool.name} has no parameter `{printable(unknown)}`; it has: {', '.join(tool.parameters)}")
    return _clean(tool, given)


def printable(text: str) -> str:
    """A model's text, shortened and made valid UTF-8 for display."""
    shown = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return shown.encode("utf-8", "replace").decode()


def _clean(tool: Tool, given: Mapping[str, object]) -> dict[str, str] | InvalidCall:
    arguments: dict[str, str] = {}
    for name, parameter in tool.parameters.items():
        value = given.get(name)
        text = _text(parameter, value)
        if isinstance(text, InvalidCall):
            return text
        if text in NO_FILTER:
            if tool.required:
                hint = f": {parameter.description}" if parameter.description else ""
                return InvalidCall(f"{tool.name} needs `{name}`{hint}")
            continue
        read = _read(parameter, text)
        if isinstance(read, InvalidCall):
            return read
        arguments[name] = read
    return arguments


def _text(parameter: Parameter, value: object) -> str | InvalidCall:
    if value is None:
        return ""
    if parameter.kind == "number" and type(value) is int:
        return str(value) if abs(value) < 10_000 else InvalidCall(f"`{parameter.name}` is out of range")
    if not isinstance(value, str):
        return InvalidCall(f"`{parameter.name}` is a JSON {type(value).__name__}; send it as a string")
    if len(value) > LONGEST:
        return InvalidCall(f"`{parameter.name}` is longer than {LONGEST} characters")
    return normal(value)


def _read(parameter: Parameter, text: str) -> str | InvalidCall:
    match parameter.kind:
        case "time":
            return text.zfill(5) if _TIME.fullmatch(text) else InvalidCall(f"`{parameter.name}` must be a time, HH:MM")
        case "day" if text not in vocabulary.DAYS:
            return InvalidCall(f"`{parameter.name}` must be one of: {', '.join(vocabulary.DAYS)}")
        case "number" if not _NUMBER.fullmatch(text):
            return InvalidCall(f"`{parameter.name}` must be a whole number")
        case "number":
            return str(int(text))
        case _:
            return text
