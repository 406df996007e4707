"""Tools and results of MCP servers in the forms of simkit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import orjson

from simkit.core.messages import FunctionSpec, ToolResult, ToolSpec
from simkit.errors import UsageError

NAME = re.compile(r"[^a-zA-Z0-9_-]")
"""What endpoints refuse in the name of a tool."""


def specs_of(tools: Iterable[Any], only: Sequence[str], without: Sequence[str]) -> dict[str, tuple[str, ToolSpec]]:
    """The tools of a server by the name that models use, each with its name at the server.

    Raises:
        UsageError: a filter names no tool of the server, or two tools have the same name for models.
    """
    listed = list(tools)
    known = {tool.name for tool in listed}
    if missing := [name for name in (*only, *without) if name not in known]:
        raise UsageError(f"the MCP server has no tool `{missing[0]}`; it has {', '.join(sorted(known)) or 'none'}")
    found: dict[str, tuple[str, ToolSpec]] = {}
    for tool in listed:
        if (only and tool.name not in only) or tool.name in without:
            continue
        name = NAME.sub("_", tool.name)[:64]
        if name in found:
            raise UsageError(f"the MCP server has two tools that models would know as `{name}`; leave one out")
        schema = orjson.loads(orjson.dumps(tool.input_schema or {"type": "object", "properties": {}}))
        described = tool.description or tool.title or tool.name
        found[name] = (
            tool.name,
            ToolSpec(type="function", function=FunctionSpec(name=name, description=described, parameters=schema)),
        )
    return found


def result_of(answer: Any) -> ToolResult:
    """The result of a call.

    Structured content is the value. Otherwise text is, and other content is described, since models are given text.
    """
    if answer.structured_content is not None:
        return ToolResult(value=answer.structured_content, error=bool(answer.is_error))
    parts = [_part(block) for block in answer.content]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        return ToolResult(value="\n".join(texts), error=bool(answer.is_error))
    return ToolResult(value=parts, error=bool(answer.is_error))


def _part(block: Any) -> Any:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return {"type": block.type, "mimeType": block.mime_type, "base64_characters": len(block.data)}
        case "resource_link":
            return {"type": "resource_link", "uri": str(block.uri), "name": block.name}
        case "resource":
            held = block.resource
            text = getattr(held, "text", None)
            if text is not None:
                return {"type": "resource", "uri": str(held.uri), "text": text}
            return {"type": "resource", "uri": str(held.uri), "base64_characters": len(getattr(held, "blob", ""))}
        case other:
            return {"type": str(other)}


def without_fields(value: Any, fields: Sequence[str]) -> Any:
    """A JSON value without the fields of these names, at any depth; text that is JSON is read as such."""
    match value:
        case dict():
            held = cast("dict[str, Any]", value)
            return {name: without_fields(each, fields) for name, each in held.items() if name not in fields}
        case list():
            return [without_fields(each, fields) for each in cast("list[Any]", value)]
        case str() if value[:1] in ("{", "["):
            try:
                return without_fields(orjson.loads(value), fields)
            except orjson.JSONDecodeError:
                return value
        case _:
            return value
