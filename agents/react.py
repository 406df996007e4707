"""An agent for models without tool calling: it plans, calls and speaks in a text protocol (`simkit.agents.commands`).

After Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models" (ICLR 2023), in the form of the JOSH
paper.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

from simkit.agents.commands import CallCommand, Command, CommandError, PlanCommand, SpeakCommand, parse, render
from simkit.agents.json_replies import as_replies, read_reply, reply_format
from simkit.agents.model_agent import (
    CUT_OFF,
    EMPTY,
    FILTERED,
    UNPARSED,
    ModelAgent,
    call_id,
    reply_flags,
    response_message,
    retry_with,
    say,
    spoken_text,
    unusable_reason,
)
from simkit.components.agent import Act, Decision, StartAgent
from simkit.core.messages import (
    AssistantMessage,
    JsonObject,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
    parse_call,
    text_of,
)
from simkit.core.text_calls import marked_calls
from simkit.models.base import ChatModel, ChatResponse
from simkit.plugins.prompts import PromptChoice

_ANY_TEXT = "A text."
UNREADABLE = "ERROR: your reply was not understood: "
IGNORED = "format_ignored: agent_reply"
GO_ON = "Your plan was noted. Go on with APICALL or SPEAK."
UNHEARD = "(Your SPEAK stood beside an APICALL, so the customer did not hear it. SPEAK once you know what came back.)"


class ReactAgent(ModelAgent):
    """An agent that plans, calls tools and speaks by commands in plain text (ReAct).

    The conversation keeps every reply as the model wrote it; results of tools are user messages that begin with
    `APIRETURN`. A reply with a call does not speak, whatever else it contains. A reply that cannot be parsed has no
    effect: the model receives the reason and decides again.

    Args:
        model, prompt, examples: see `ModelAgent`.
        constrained: whether each reply is one JSON object instead (`simkit.agents.json_replies`), which the server
            holds to a schema with the tools' own parameters. A reply that does not follow it has the flag
            `format_ignored`.
    """

    name: ClassVar[str] = "react"
    prompt_file: ClassVar[str] = "react-1.txt"
    needed_places: ClassVar[tuple[str, ...]] = ("tools", "signatures", "parameters")

    def __init__(
        self, model: ChatModel, prompt: PromptChoice = None, examples: Path | None = None, constrained: bool = False
    ) -> None:
        self._constrained = constrained
        self._format: tuple[tuple[ToolSpec, ...], JsonObject] = ((), reply_format(()))
        super().__init__(model, prompt, examples)

    @property
    def prompt_name(self) -> str:
        """The prompt for commands, or for JSON."""
        return "react-json-2.txt" if self._constrained else self.prompt_file

    def response_format(self, request: Act) -> JsonObject | None:
        """The schema of a reply with these tools, if replies are constrained."""
        if not self._constrained:
            return None
        if self._format[0] is not request.tools:
            self._format = (request.tools, reply_format(request.tools))
        return self._format[1]

    def places(self, request: StartAgent) -> dict[str, str]:
        """The world's rules, and its tools in words, as signatures, or with the names of their parameters."""
        forms = {"tools": describe, "signatures": signature, "parameters": parameters}
        described = {place: "\n".join(map(form, request.tools)) for place, form in forms.items()}
        return {"policy": request.policy, **described}

    def as_written(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Demonstrations in the agent's form: calls, results as `APIRETURN`, and other replies as speech."""
        if self._constrained:
            return list(as_replies(messages))
        return [_as_commands(message) for message in messages]

    def read(self, response: ChatResponse, request: Act) -> Decision:
        """The reply's calls, its speech, or a note about its error."""
        message = response_message(response)
        refused = message is not response.message  # the text of a refusal does not follow the protocol
        message = message.without_calls()  # a server may have read some into the reply; here the text alone counts
        if response.finish == "content_filter":
            return retry_with(message, FILTERED)
        if not text_of(message).strip():
            return retry_with(message, unusable_reason(response) or EMPTY, *reply_flags(response))
        if refused:
            return say(message, spoken_text(message))
        if self._constrained:
            return self._read_json(message, response, request)
        commands = parse(text_of(message))
        if response.finish == "length":
            commands = _complete(commands)
        if isinstance(commands, CommandError):
            flags = () if response.unparsed is None else reply_flags(response)
            return retry_with(message, f"{UNREADABLE}{commands.reason}", *flags)
        decided = _decided(message, commands, request)
        if decided.say is not None and (found := marked_calls(decided.say)):
            return retry_with(message, UNPARSED, f"call_as_text: {found.notation}")
        flags = reply_flags(response) if response.unparsed is None else ()
        return replace(decided, flags=(*flags, *decided.flags)) if flags else decided

    def _read_json(self, message: AssistantMessage, response: ChatResponse, request: Act) -> Decision:
        """The call or the speech of a JSON object. A cut-off one holds neither."""
        if response.finish == "length":
            return retry_with(message, CUT_OFF)
        commands = read_reply(text_of(message))
        if isinstance(commands, CommandError):
            return retry_with(message, f"{UNREADABLE}{commands.reason}", IGNORED)
        decided = _decided(message, commands, request)
        return replace(decided, flags=(*reply_flags(response), *decided.flags))


def _complete(commands: tuple[Command, ...] | CommandError) -> tuple[Command, ...] | CommandError:
    """The complete commands of a reply that was cut off."""
    whole = (
        ()
        if isinstance(commands, CommandError)
        else tuple(c for c in commands if isinstance(c, CallCommand) or c.whole)
    )
    acts = any(not isinstance(command, PlanCommand) for command in whole)
    return whole if acts else CommandError(CUT_OFF.removeprefix("ERROR: "))


def _decided(message: AssistantMessage, commands: tuple[Command, ...], request: Act) -> Decision:
    calls = [command for command in commands if isinstance(command, CallCommand)]
    speech = "\n".join(command.text for command in commands if isinstance(command, SpeakCommand))
    if calls:
        return _calling(message, calls, request, unheard=bool(speech))
    return say(message, speech) if speech else retry_with(message, GO_ON)


def _calling(message: AssistantMessage, calls: list[CallCommand], request: Act, *, unheard: bool) -> Decision:
    made = tuple(
        ToolCall.of(call_id(request, index), call.name, json.dumps(call.parameters, ensure_ascii=False))
        for index, call in enumerate(calls)
    )

    def observe(call: ToolCall, result: ToolResult) -> Message:
        text = f"APIRETURN {result.text}"
        return UserMessage.of(f"{text}\n{UNHEARD}" if unheard and call is made[-1] else text)

    return Decision(message, calls=made, observe=observe)


def describe(tool: ToolSpec) -> str:
    """A tool in words: its purpose, and a line for each parameter."""
    head = f"{tool.name}: {tool.function.description or 'no description'}"
    required = (tool.function.parameters or {}).get("required")
    needed = cast("list[str]", required) if isinstance(required, list) else []
    return "\n".join([head, *(f"  - {line}" for line in _parameters(tool.properties, needed))])


def signature(tool: ToolSpec) -> str:
    """A tool in one line: its parameters, with a question mark after optional ones, and their descriptions."""
    required = (tool.function.parameters or {}).get("required")
    needed = cast("list[str]", required) if isinstance(required, list) else []
    fields = ", ".join(
        f"{name}{'' if name in needed else '?'}{_hint(schema)}" for name, schema in tool.properties.items()
    )
    return f"{tool.name}({fields})"


def parameters(tool: ToolSpec) -> str:
    """A tool as its name and those of its parameters."""
    return f"{tool.name}({', '.join(tool.properties)})"


def _hint(schema: Any) -> str:
    """A parameter in few words: its values, or its description, which replaces a pattern."""
    fields = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
    if fields.get("type") == "string" and fields.get("description"):
        fields = {name: value for name, value in fields.items() if name != "pattern"}
    values = cast("list[Any]", fields.get("enum") or [])
    if values and not fields.get("description"):
        return f": {'|'.join(map(str, values))}"
    words = _schema(fields or schema)
    named = words.removeprefix("one of: ")
    return "" if words == _ANY_TEXT else f": {words}" if named == words else f": {named.replace(', ', '|')}"


def _as_commands(message: Message) -> Message:
    if isinstance(message, ToolMessage):
        return UserMessage.of(f"APIRETURN {text_of(message)}")
    if not isinstance(message, AssistantMessage):
        return message
    text, calls = text_of(message), message.tool_calls or ()
    if not calls and not isinstance(parse(text), CommandError):
        return message
    commands: list[Command] = [CallCommand(call.name, parse_call(call) or {}) for call in calls]
    return AssistantMessage.of(render(commands or [SpeakCommand(text)]))


def _parameters(properties: dict[str, Any], needed: list[str]) -> Iterable[str]:
    for name, schema in properties.items():
        yield f"{name}{' (required)' if name in needed else ''}: {_schema(schema)}"


def _schema(schema: Any) -> str:
    """A parameter in words: its description and values, or its schema where these are not enough."""
    if not isinstance(schema, dict):
        return json.dumps(schema, ensure_ascii=False)
    fields = cast("dict[str, Any]", schema)
    kind, values = fields.get("type"), cast("list[Any]", fields.get("enum") or [])
    if kind in (None, "object", "array") or fields.keys() - {"type", "description", "enum"}:
        return json.dumps(fields, ensure_ascii=False)
    said = [fields.get("description", "")]
    said += [] if kind == "string" else [f"A JSON {kind}."]
    said += [f"One of: {', '.join(str(value) for value in values)}."] if values else []
    return " ".join(part for part in said if part) or _ANY_TEXT
