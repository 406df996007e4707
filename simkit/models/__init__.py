"""Models: the contract of a chat model, and the models that need no provider."""

from __future__ import annotations

from simkit.models.base import (
    CallKey,
    ChatModel,
    ChatRequest,
    ChatResponse,
    FinishReason,
    Sampling,
    Usage,
    request_hash,
)
from simkit.models.recorded import Clock, RecordedModel
from simkit.models.scripted import Answer, ScriptedModel

__all__ = [
    "Answer",
    "CallKey",
    "ChatModel",
    "ChatRequest",
    "ChatResponse",
    "Clock",
    "FinishReason",
    "RecordedModel",
    "Sampling",
    "ScriptedModel",
    "Usage",
    "request_hash",
]
