"""An agent for models with tool calling (the OpenAI chat format)."""

from __future__ import annotations

from typing import ClassVar

from simkit.agents.model_agent import (
    ModelAgent,
    named_calls,
    response_message,
    retry_with,
    spoken_text,
    unusable_reason,
)
from simkit.components.agent import Act, Decision
from simkit.components.model_view import with_valid_calls
from simkit.core.messages import Message, ToolSpec
from simkit.models.base import ChatResponse


class FunctionCallingAgent(ModelAgent):
    """An agent that uses its model's own tool calling, and speaks when an answer holds no call.

    All calls of an answer form one decision; text beside them stays in the conversation but is not spoken. Arguments
    that are not JSON go unchanged to the tool server, and the model reads its error.
    """

    name: ClassVar[str] = "function_calling"
    prompt_file: ClassVar[str] = "function-calling-1.txt"

    def tools(self, request: Act) -> tuple[ToolSpec, ...]:
        """All tools of the request."""
        return request.tools

    def for_endpoint(self, message: Message) -> Message:
        """The message with valid arguments and tool names, because endpoints refuse a history without them."""
        return with_valid_calls(message)

    def read(self, response: ChatResponse, request: Act) -> Decision:
        """The calls, or otherwise the spoken text."""
        message = response_message(response)
        if message.tool_calls:
            calls = named_calls(message, request)
            return Decision(message.model_copy(update={"tool_calls": calls}), calls=calls)
        wrong = unusable_reason(response)
        return Decision(message, say=spoken_text(message)) if wrong is None else retry_with(message, wrong)
