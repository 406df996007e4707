"""Models: the chat model contract, providers, and middleware.

`open_model` assembles a model with its middleware; each part also works alone. Code that needs a network is in
separate modules (`simkit.models.factory`, `simkit.models.providers.openai`), so that importing this package is cheap.
"""

from __future__ import annotations

from simkit.core.limits import Clock
from simkit.models.base import (
    CallKey,
    ChatModel,
    ChatRequest,
    ChatResponse,
    FinishReason,
    ReplyLimit,
    SampledModel,
    Tokens,
    Usage,
    request_hash,
)
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.providers.scripted import Answer, ScriptedModel
from simkit.models.sampling import Sampling

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
