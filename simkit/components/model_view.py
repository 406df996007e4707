"""The view of a conversation that is sent to a model, shared by agents and training data.

The record keeps every message as it was written. Chat templates and endpoints reject some of them, so a request omits
empty answers, joins consecutive user messages, and repairs calls that endpoints reject in a history. Training examples
are made with the same functions, because a model should learn from the input that it will get.
"""

from __future__ import annotations

import json
import re

from simkit.core.messages import AssistantMessage, FunctionCall, Message, ToolCall, UserMessage, parse_call, text_of
from simkit.core.persistent_list import JsonList

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


def and_send(sent: JsonList[Message], message: Message) -> JsonList[Message]:
    """Add a message in the form that endpoints accept: empty answers are omitted, consecutive user messages joined."""
    if says_nothing(message):
        return sent
    if isinstance(message, UserMessage) and isinstance(sent.last, UserMessage):
        return sent.before.append(UserMessage.of(f"{text_of(sent.last)}\n{text_of(message)}"))
    return sent.append(message)


def says_nothing(message: Message) -> bool:
    """Whether it is an assistant message without calls and text."""
    if not isinstance(message, AssistantMessage):
        return False
    content = message.content
    return not message.tool_calls and (not content or (isinstance(content, str) and not content.strip()))


def with_valid_calls(message: Message) -> Message:
    """The message, repaired if necessary: its calls have JSON objects as arguments, and valid tool names.

    Endpoints reject a history with anything else.
    """
    if not isinstance(message, AssistantMessage) or not message.tool_calls or all(map(_is_valid, message.tool_calls)):
        return message
    return message.model_copy(update={"tool_calls": tuple(_valid_call(call) for call in message.tool_calls)})


def _valid_call(call: ToolCall) -> ToolCall:
    if _is_valid(call):
        return call
    broken = parse_call(call) is None
    arguments = json.dumps({"not_valid_json": call.arguments}, ensure_ascii=False) if broken else call.arguments
    name = _NO_NAME.sub("_", call.name)[:64] or "unnamed"
    return call.model_copy(update={"function": FunctionCall(name=name, arguments=arguments)})


def _is_valid(call: ToolCall) -> bool:
    return _NAME.fullmatch(call.name) is not None and parse_call(call) is not None
