"""Messages and tools in the form that chat templates of transformers expect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from simkit.core.messages import (
    AssistantMessage,
    JsonObject,
    Message,
    ToolCall,
    ToolMessage,
    ToolSpec,
    arguments_text,
    text_of,
)
from simkit.core.reasoning import FIELD, reasoning_of
from simkit.errors import InvalidArguments, UsageError

THOUGHT_FIELDS = (FIELD, "thinking")
"""Fields in which chat templates and response templates have reasoning."""


def template_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]] | None:
    """Tools in the form that chat templates expect."""
    return [tool.to_openai() for tool in tools] or None


def template_messages(messages: Sequence[Message], *, last_reasoning: bool = False) -> list[dict[str, Any]]:
    """Messages in the form that chat templates expect: content as text, valid arguments as objects, tool names.

    The last message has its `reasoning` if it is a reply to learn from. Earlier ones have none: a model is not shown
    the reasoning of its earlier replies.
    """
    names: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    for place, message in enumerate(messages, start=1):
        if isinstance(message, AssistantMessage):
            names.update((call.id, call.name) for call in message.tool_calls or ())
        written.append(_template_message(message, names, last_reasoning and place == len(messages)))
    return written


def _template_message(message: Message, names: Mapping[str, str], reasoning: bool) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    written: dict[str, Any] = {"role": role, "content": text_of(message)}
    if reasoning and (thought := reasoning_of(message)):
        written |= dict.fromkeys(THOUGHT_FIELDS, thought)
    if isinstance(message, AssistantMessage) and message.tool_calls:
        written["tool_calls"] = [_template_call(call) for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        written |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
    return written


def _template_call(call: ToolCall) -> JsonObject:
    try:
        arguments: object = call.parse_arguments()
    except InvalidArguments:
        arguments = call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def with_text_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """The message with the arguments of its calls as JSON text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": arguments_text(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def reads(template: str, name: str) -> bool:
    """Whether a chat template reads a value of this name."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def check_names(tokenizer: Any, values: Mapping[str, Any]) -> None:
    """Check that the chat template reads each of these values.

    Raises:
        UsageError: it does not read one.
    """
    for name in values:
        if not reads(str(tokenizer.chat_template), name):
            raise UsageError(
                f"`{name}` is no option of local models, and the chat template of {name_of(tokenizer)} does not read "
                "it; leave it out, or see the options in docs/local.md"
            )


def name_of(tokenizer: Any) -> str:
    """The name of a tokenizer for messages."""
    return f"`{getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}`"
