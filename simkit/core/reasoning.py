"""Reasoning of models: text that a model wrote for itself, which nobody hears.

A message holds it once, as its extra field `reasoning_content`.
"""

from __future__ import annotations

from simkit.core.messages import AssistantMessage, Message

FIELD = "reasoning_content"
"""Extra field of an assistant message that holds its reasoning, as text."""


def reasoning_of(message: Message) -> str | None:
    """The reasoning of a message; None if it has none."""
    extra = message.model_extra
    found = extra.get(FIELD) if extra else None
    return found if isinstance(found, str) and found else None


def with_reasoning(message: AssistantMessage, reasoning: str) -> AssistantMessage:
    """The message with this reasoning."""
    return message.model_copy(update={FIELD: reasoning})
