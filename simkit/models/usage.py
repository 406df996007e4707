"""What a server says that a call used, as far as it can be believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeGuard, cast

from simkit.core.boundary import boundary
from simkit.core.messages import AssistantMessage
from simkit.core.values import shown
from simkit.errors import MalformedReply, ModelFault
from simkit.models.base import CallKey, ChatRequest, ChatResponse, ModelWrapper, Usage

TOKENS_AT_MOST = 1_000_000_000
"""Tokens of one call that can be believed: a thousand times what the longest context holds."""

COST_AT_MOST = 1e6
"""US dollars of one call that can be believed."""


def read_usage(told: object) -> tuple[Usage, str | None]:
    """The usage in a reply, and why it is not believed; a usage that is missing or not believed is all zeros.

    A number that is left out or null is 0, a whole number written as 12.0 is one. Whoever keeps a budget takes a call
    without usage to have used all that was put aside for it.
    """
    if told is None or told == {}:
        return Usage(), None
    if not isinstance(told, dict):
        return Usage(), f"the usage is {shown(told)}"
    usage = cast("dict[str, Any]", told)
    details = usage.get("prompt_tokens_details")
    cached = cast("dict[str, Any]", details).get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens")
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if cached is None and _is_count(prompt) and _is_count(completion):  # what nearly all servers say
        return Usage(prompt, completion), None
    counts = _count(prompt), _count(completion), _count(cached)
    if None in counts:
        names = ("prompt_tokens", "completion_tokens", "cached_tokens")
        place = counts.index(None)
        return Usage(), f"{names[place]} is {shown((prompt, completion, cached)[place])}"
    prompt, completion, cached = cast("tuple[int, int, int]", counts)
    return Usage(prompt, completion, min(cached, prompt)), None


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= TOKENS_AT_MOST


def _count(value: object) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    if _is_count(value):
        return value
    return 0 if value is None else None


def believed(response: ChatResponse) -> ChatResponse:
    """A response whose usage can be counted; one that cannot is left out, with the reason."""
    why = doubt(response.usage)
    return response if why is None else replace(response, usage=Usage(), usage_doubt=why)


def doubt(usage: object) -> str | None:
    """Why a usage cannot be; None when it can."""
    if type(usage) is not Usage:
        return f"the usage is {shown(usage)}"
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        value = getattr(usage, name)
        if type(value) is not int or not 0 <= value <= TOKENS_AT_MOST:
            return f"{name} is {shown(value)}"
    if type(usage.cost) is not float or not 0 <= usage.cost <= COST_AT_MOST:
        return f"cost is {shown(usage.cost)}"
    return None


class BelievedModel(ModelWrapper):
    """Checks the answers of a third-party model: what it raises, and what it answers, is its own fault."""

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with a usage that can be counted.

        Raises:
            ModelFault: it raised.
            MalformedReply: it answered with something else than a response.
        """
        with boundary(ModelFault, lambda: f"model `{self.name}`, {key}"):
            response = cast("object", await self._model.complete(request, key))
            if isinstance(response, ChatResponse) and isinstance(cast("object", response.message), AssistantMessage):
                return believed(response)
        raise MalformedReply(f"model `{self.name}`, {key}: it answered with {shown(response)}; return a ChatResponse")
