"""Models: the contract of a chat model, providers, and what is wrapped around them.

`open_model` puts everything together; each part can be used alone. What needs a network is in modules of its own
(`simkit.models.factory`, `simkit.models.providers.openai`), so that importing this package stays cheap.
"""

from __future__ import annotations

from simkit.models.base import (
    CallKey,
    ChatModel,
    ChatRequest,
    ChatResponse,
    FinishReason,
    ReplyLimit,
    SampledModel,
    Sampling,
    Tokens,
    Usage,
    request_hash,
)
from simkit.models.clock import Clock
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.providers.scripted import Answer, ScriptedModel

__all__ = [
    "Answer",
    "CallKey",
    "ChatModel",
    "ChatRequest",
    "ChatResponse",
    "Clock",
    "FinishReason",
    "RecordedModel",
    "ReplyLimit",
    "SampledModel",
    "Sampling",
    "ScriptedModel",
    "Tokens",
    "Usage",
    "request_hash",
]
