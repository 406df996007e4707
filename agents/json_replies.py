"""Replies of `react,constrained=true`: one JSON object, a plan and then either a call or a speech.

    {"plan": "The day is known, so I look.", "act": {"call": "rent_bicycle", "parameters": {"day": "sunday"}}}
    {"plan": "There is one. I offer it.", "act": {"speak": "The red tourer is free on Sunday. Shall I reserve it?"}}

A server that holds replies to a JSON schema makes all of them readable, also those of small models. The root is an
object, because some servers accept no alternatives there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from simkit.agents.commands import CallCommand, Command, CommandError, PlanCommand, SpeakCommand, parse
from simkit.core.messages import (
    AssistantMessage,
    JsonObject,
    Message,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
    parse_call,
    text_of,
)
from simkit.core.reasoning import without_reasoning

_FORM = (
    'write {"plan": "...", "act": {"call": "the tool", "parameters": {...}}} or '
    '{"plan": "...", "act": {"speak": "..."}}'
)
_FENCE = "```"


def reply_format(tools: Sequence[ToolSpec]) -> JsonObject:
    """The `response_format` for replies with these tools."""
    definitions: dict[str, Any] = {}
    calls = [_call_schema(tool, definitions) for tool in tools]
    act = {"anyOf": [*calls, _object({"speak": {"type": "string"}})]}
    schema: dict[str, Any] = _object({"plan": {"type": "string"}, "act": act})
    if definitions:
        schema["$defs"] = definitions
    strict = all(map(_is_strict, calls)) and not definitions
    return {"type": "json_schema", "json_schema": {"name": "agent_reply", "strict": strict, "schema": schema}}


def read_reply(text: str) -> tuple[Command, ...] | CommandError:
    """The commands in a reply: a plan, and a call or a speech; otherwise the reason for the model."""
    bare = without_reasoning(text).strip()
    if bare.startswith(_FENCE):
        bare = bare.strip("`").removeprefix("json").strip()
    try:
        value: object = json.loads(bare, strict=False)
    except (ValueError, RecursionError):
        return CommandError(f"it is not a JSON object; {_FORM}")
    fields = _fields(value)
    act = _fields(fields.get("act"))
    call, speech, plan = act.get("call"), act.get("speak"), fields.get("plan")
    if isinstance(call, str) == isinstance(speech, str):
        return CommandError(f"it must have either `call` or `speak` in `act`; {_FORM}")
    plans = (PlanCommand(plan),) if isinstance(plan, str) and plan.strip() else ()
    if isinstance(call, str):
        return (*plans, CallCommand(call, act.get("parameters", {})))
    said = str(speech).strip()
    return (*plans, SpeakCommand(said)) if said else CommandError("its `speak` is empty; say something to the customer")


def write_reply(plan: str, act: CallCommand | SpeakCommand) -> str:
    """A reply as the model writes it."""
    match act:
        case CallCommand(name, parameters):
            done: dict[str, Any] = {"call": name, "parameters": parameters}
        case SpeakCommand(text):
            done = {"speak": text}
    return json.dumps({"plan": plan, "act": done}, ensure_ascii=False)


def as_replies(messages: Sequence[Message]) -> Iterator[Message]:
    """Demonstrations as replies in this form. Of several calls in a message each becomes a reply of its own."""
    waiting: list[ToolCall] = []
    for message in messages:
        match message:
            case ToolMessage():
                yield UserMessage.of(f"APIRETURN {text_of(message)}")
                if waiting:
                    yield _calling("", waiting.pop(0))
            case AssistantMessage():
                calls, text = message.tool_calls or (), text_of(message)
                waiting = list(calls[1:])
                yield _calling(text, calls[0]) if calls else AssistantMessage.of(_from_commands(text))
            case _:
                yield message


def _calling(plan: str, call: ToolCall) -> AssistantMessage:
    return AssistantMessage.of(write_reply(plan, CallCommand(call.name, parse_call(call) or {})))


def _from_commands(text: str) -> str:
    """A reply in this form, from one in this form, from commands, or from plain speech."""
    if not isinstance(read_reply(text), CommandError):
        return text
    commands = parse(text)
    if isinstance(commands, CommandError):
        return write_reply("", SpeakCommand(text))
    plan = " ".join(command.text for command in commands if isinstance(command, PlanCommand))
    acts = [command for command in commands if not isinstance(command, PlanCommand)]
    return write_reply(plan, acts[0] if acts else SpeakCommand(text))


# --- schemas ----------------------------------------------------------------------------------------------------------


def _object(properties: JsonObject) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _call_schema(tool: ToolSpec, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a call. Definitions of the tool move to the root, where references are looked up."""
    parameters = {"type": "object", "properties": {}, "additionalProperties": False, **(tool.function.parameters or {})}
    own = {name: parameters.pop(name) for name in ("$defs", "definitions") if name in parameters}
    if own:
        prefix = f"{tool.name}."
        for named in own.values():
            definitions.update((f"{prefix}{name}", _moved(each, prefix)) for name, each in _fields(named).items())
        parameters = cast("dict[str, Any]", _moved(parameters, prefix))
    return _object({"call": {"type": "string", "enum": [tool.name]}, "parameters": parameters})


def _moved(schema: Any, prefix: str) -> Any:
    """A schema whose references to own definitions point to those at the root."""
    if isinstance(schema, Mapping):
        fields = cast("JsonObject", schema)
        return {
            key: _reference(each, prefix) if key == "$ref" else _moved(each, prefix) for key, each in fields.items()
        }
    if isinstance(schema, list):
        return [_moved(each, prefix) for each in cast("list[Any]", schema)]
    return schema


def _reference(target: Any, prefix: str) -> Any:
    for section in ("#/$defs/", "#/definitions/"):
        if isinstance(target, str) and target.startswith(section):
            return f"#/$defs/{prefix}{target.removeprefix(section)}"
    return target


def _is_strict(schema: Any) -> bool:
    """Whether a schema obeys OpenAI's strict mode: each object lists all its properties as required, and no others."""
    if isinstance(schema, list):
        return all(map(_is_strict, cast("list[Any]", schema)))
    if not isinstance(schema, Mapping):
        return True
    fields = cast("JsonObject", schema)
    if fields.get("type") == "object":
        required = cast("list[Any]", fields.get("required") or [])
        if fields.get("additionalProperties") is not False or set(_fields(fields.get("properties"))) != set(required):
            return False
    return all(map(_is_strict, fields.values()))


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
