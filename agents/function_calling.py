"""An agent for models with tool calling (the OpenAI chat format)."""

from __future__ import annotations

from typing import ClassVar

from simkit.agents.model_agent import ModelAgent, aloud, named_calls, told, trouble, written
from simkit.components.agent import Act, Decision
from simkit.components.model_view import mended
from simkit.core.messages import Message, ToolSpec
from simkit.models.base import ChatResponse


class FunctionCallingAgent(ModelAgent):
    """An agent that uses its model's own tool calling, and speaks when an answer holds no call.

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
        return mended(message)

    def read(self, response: ChatResponse, request: Act) -> Decision:
        """The calls, or else what is said aloud."""
        message = written(response)
        if message.tool_calls:
            calls = named_calls(message, request)
            return Decision(message.model_copy(update={"tool_calls": calls}), calls=calls)
        wrong = trouble(response)
        return Decision(message, say=aloud(message)) if wrong is None else told(message, wrong)
