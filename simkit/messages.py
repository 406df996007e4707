"""Old place of the messages, for scripts that were written before `simkit.core`."""

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage

__all__ = ["AssistantMessage", "Message", "SystemMessage", "ToolCall", "ToolMessage", "ToolSpec", "UserMessage"]
