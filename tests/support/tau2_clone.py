"""Folders in the layout of a clone of tau2-bench, with sources made from tool schemas."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from simkit.plugins.raw_files import KnownRelease
from simkit.tools.tau2.prompts import AGENT_FILE, GREETING_FILE, USER_FILE

Schema = Mapping[str, Any]

_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "object": "dict", "null": "None"}


def tool_source(specs: Iterable[Schema]) -> bytes:
    """A file with tools that have these schemas; each is a method as in the release."""
    lines = ["class Tools:"]
    for spec in specs:
        function = spec["function"]
        parameters = function["parameters"]
        given = [_parameter(name, schema, parameters) for name, schema in parameters["properties"].items()]
        lines.append("    @is_tool(ToolType.READ)")
        lines.append(f"    def {function['name']}({', '.join(['self', *given])}):")
        lines.append(f"        {_docstring(function)!r}")
    return ("\n".join(lines) + "\n").encode()


def model_source(specs: Iterable[Schema]) -> bytes:
    """A file with the types that the parameters of these tools have."""
    types: dict[str, Schema] = {}
    for spec in specs:
        types |= spec["function"]["parameters"].get("$defs", {})
    return "".join(_type(name, schema) for name, schema in types.items()).encode()


def _parameter(name: str, schema: Schema, whole: Schema) -> str:
    default = "" if name in whole.get("required", ()) else f" = {schema['default']!r}"
    return f"{name}: {_annotation(schema)}{default}"


def _annotation(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(map(_annotation, schema["anyOf"]))
    if "enum" in schema:
        return f"Literal[{', '.join(map(repr, schema['enum']))}]"
    return f"list[{_annotation(schema['items'])}]" if schema["type"] == "array" else _PLAIN[schema["type"]]


def _docstring(function: Schema) -> str:
    lines = [function["description"]]
    described = {
        name: schema["description"]
        for name, schema in function["parameters"]["properties"].items()
        if "description" in schema
    }
    if described:
        lines += ["", "Args:"]
        for name, text in described.items():
            first, *rest = str(text).split("\n")
            lines += [f"    {name}: {first}", *(f"        {line}" for line in rest)]
    return "\n".join([*lines, "", "Returns:", "    A result."])


def _type(name: str, schema: Schema) -> str:
    text = f"    {schema['description']!r}\n" if "description" in schema else ""
    if "enum" in schema:
        members = "".join(f"    M{place} = {value!r}\n" for place, value in enumerate(schema["enum"]))
        return f"class {name}(str, Enum):\n{text}{members}\n"
    base = "BaseModelNoExtra" if schema.get("additionalProperties") is False else "BaseModel"
    fields = "".join(_field(each, part, schema) for each, part in schema["properties"].items())
    return f"class {name}({base}):\n{text}{fields}\n"


def _field(name: str, schema: Schema, whole: Schema) -> str:
    words = [] if name in whole.get("required", ()) else [f"default={schema['default']!r}"]
    words += [f"description={schema['description']!r}"] if "description" in schema else []
    return f"    {name}: {_annotation(schema)} = Field({', '.join(words)})\n"


def prompt_sources(
    agent: str = "<instructions>\n{agent_instruction}\n</instructions>\n<policy>\n{domain_policy}\n</policy>",
    user: str = "{global_user_sim_guidelines_with_persona}\n\n<scenario>\n{instructions}\n</scenario>",
    instruction: str = "Serve.",
    oracle: str | None = None,
    solo: str | None = None,
    alone: str = "Work alone, then call {stop_function_name}.",
    greeting: str = "Good day!",
) -> dict[str, bytes]:
    """The files with prompts; the agents' other prompts are made from the first one."""
    solo = f"{agent}\n<ticket>\n{{ticket}}\n</ticket>" if solo is None else solo
    texts = {
        "AGENT_INSTRUCTION": instruction,
        "SYSTEM_PROMPT": agent,
        "AGENT_GT_INSTRUCTION": "Follow the steps.",
        "SYSTEM_PROMPT_GT": f"{agent}\n{{resolution_steps}}" if oracle is None else oracle,
        "AGENT_SOLO_INSTRUCTION": alone,
        "SYSTEM_PROMPT_SOLO": solo,
    }
    agents = "".join(f"{name} = {text!r}.strip()\n" for name, text in texts.items())
    agents += "class Solo:\n    def add(self):\n        def done():\n            'End the work.'\n"
    first = f'DEFAULT_FIRST_AGENT_MESSAGE = AssistantMessage(role="assistant", content={greeting!r}, cost=0.0)\n'
    return {
        AGENT_FILE: agents.encode(),
        USER_FILE: f"SYSTEM_PROMPT = {user!r}.strip()\n".encode(),
        GREETING_FILE: first.encode(),
    }


def write_clone(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write data below `data/tau2` of a folder and sources below `src/tau2`; returns the folder."""
    for path, content in contents.items():
        target = folder / ("src/tau2" if path.endswith(".py") else "data/tau2") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def release_of(contents: Mapping[str, bytes], name: str = "1.0") -> KnownRelease:
    """A release that consists of these files."""
    checksums = {path: sha256(content).hexdigest() for path, content in contents.items()}
    return KnownRelease(name, f"the invented {name}", checksums)


def indented(text: str) -> str:
    """A text with a tab before each line, as scenarios have it."""
    return textwrap.indent(text, "\t")
