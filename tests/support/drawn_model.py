"""A model whose answers follow from the seeds of its calls."""

from __future__ import annotations

import random
from collections import Counter

from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.models.base import CallKey, ChatRequest, ChatResponse


class Drawn:
    """A model that searches, once or twice, or speaks, by the seed of the call; counts what it was asked."""

    name = "drawn"

    def __init__(self) -> None:
        self.asked: Counter[CallKey] = Counter()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.asked[key] += 1
        assert request.seed == key.seed
        draw = random.Random(key.seed)
        areas = draw.sample(["harbour", "old town", "hill", "riverside"], draw.choice([0, 1, 2]))
        if not areas or isinstance(request.messages[-1], ToolMessage):
            return ChatResponse.of(AssistantMessage.of(f"I say {draw.randrange(1000)}."), self.name)
        calls = tuple(ToolCall.of(f"c{i}", "search_hotel", {"area": area}) for i, area in enumerate(areas))
        return ChatResponse.of(AssistantMessage.of(None, calls), self.name)
