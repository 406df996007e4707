"""An agent for models with tool calling (the OpenAI chat format)."""

from __future__ import annotations

import json
import re
from typing import ClassVar

from simkit.agents.answers import ModelAgent, aloud, named_calls, told, trouble, written
from simkit.components import Act, Decision, parse_call
from simkit.messages import AssistantMessage, FunctionCall, Message, ToolCall, ToolSpec
from simkit.models.base import ChatResponse

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


class FunctionCallingAgent(ModelAgent):
    """Calls the world's tools by the model's own tool calling, and speaks when an answer holds no call.

    All calls of an answer are one decision; text beside them stays in the conversation and is heard by nobody.
    Arguments that are not JSON go to the tool server as they are, whose error the model reads.
    """

    name: ClassVar[str] = "function_calling"
    prompt_file: ClassVar[str] = "function-calling-1.txt"

    def tools(self, request: Act) -> tuple[ToolSpec, ...]:
        """All of them."""
        return request.tools

    def mend(self, message: Message) -> Message:
        """Endpoints refuse a history with arguments that are no JSON object, or with names no tool can have."""
        if not isinstance(message, AssistantMessage) or not message.tool_calls:
            return message
        if all(_fine(call) for call in message.tool_calls):
            return message
        return message.model_copy(update={"tool_calls": tuple(_mended(call) for call in message.tool_calls)})

    def read(self, response: ChatResponse, request: Act) -> Decision:
        """The calls, or else what is said aloud."""
        message = written(response)
        if message.tool_calls:
            calls = named_calls(message, request)
            return Decision(message.model_copy(update={"tool_calls": calls}), calls=calls)
        wrong = trouble(response)
        return Decision(message, say=aloud(message)) if wrong is None else told(message, wrong)


def _mended(call: ToolCall) -> ToolCall:
    if _fine(call):
        return call
    broken = parse_call(call) is None
    arguments = json.dumps({"not_valid_json": call.arguments}, ensure_ascii=False) if broken else call.arguments
    name = _NO_NAME.sub("_", call.name)[:64] or "unnamed"
    return call.model_copy(update={"function": FunctionCall(name=name, arguments=arguments)})


def _fine(call: ToolCall) -> bool:
    return _NAME.fullmatch(call.name) is not None and parse_call(call) is not None
