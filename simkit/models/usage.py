"""Validation of the usage that a server reports for a call."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeGuard, cast

from simkit.core.boundary import boundary
from simkit.core.messages import AssistantMessage
from simkit.core.reasoning import separated
from simkit.core.values import shown
from simkit.errors import MalformedReply, ModelFault, TokensUsed, UnparsedCall
from simkit.models.base import CallKey, ChatRequest, ChatResponse, ModelWrapper, Usage

TOKENS_AT_MOST = 1_000_000_000
"""Maximum plausible tokens of one call: a thousand times the longest context."""

COST_AT_MOST = 1e6
"""Maximum plausible cost of one call, in US dollars."""


def read_usage(reported: object) -> tuple[Usage, str | None]:
    """The usage in a reply, and the reason if it was rejected; a missing or rejected usage is all zeros.

    A missing or null number counts as 0; a whole number written as 12.0 or as text is accepted. Budgets charge a call
    without usage the full amount reserved for it.
    """
    if reported is None or reported == {}:
        return Usage(), None
    if not isinstance(reported, dict):
        return Usage(), f"the usage is {shown(reported)}"
    usage = cast("dict[str, Any]", reported)
    details = usage.get("prompt_tokens_details")
    cached = cast("dict[str, Any]", details).get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens")
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if cached is None and _is_count(prompt) and _is_count(completion) and "completion_tokens_details" not in usage:
        return Usage(prompt, completion), None  # the common case
    if prompt is None and completion is None:
        prompt, completion = usage.get("input_tokens"), usage.get("output_tokens")
    counts = read_count(prompt), read_count(completion), read_count(cached)
    if None in counts:
        names = ("prompt_tokens", "completion_tokens", "cached_tokens")
        place = counts.index(None)
        return Usage(), f"{names[place]} is {shown((prompt, completion, cached)[place])}"
    prompt, completion, cached = cast("tuple[int, int, int]", counts)
    completion += _uncounted_reasoning(usage, prompt + completion)
    return Usage(prompt, completion, min(cached, prompt)), None


def _uncounted_reasoning(usage: dict[str, Any], counted: int) -> int:
    """Tokens of reasoning that some servers bill, and count in the total, but not among those of the completion."""
    details = usage.get("completion_tokens_details")
    reasoning = (
        read_count(cast("dict[str, Any]", details).get("reasoning_tokens")) if isinstance(details, dict) else None
    )
    return reasoning if reasoning and read_count(usage.get("total_tokens")) == counted + reasoning else 0


def tokens_used(reported: object) -> TokensUsed | None:
    """The usage reported with a failed call; None if there is none, or it is implausible."""
    usage, _ = read_usage(reported)
    return TokensUsed(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) if usage.tokens else None


_DIGITS = re.compile(r"[0-9]{1,12}")


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= TOKENS_AT_MOST


def read_count(value: object) -> int | None:
    """A reported number of tokens, 0 if it is missing; None if it is no such number."""
    if (type(value) is float and value.is_integer()) or (type(value) is str and _DIGITS.fullmatch(value)):
        value = int(value)
    if _is_count(value):
        return value
    return 0 if value is None else None


def _separated(response: ChatResponse) -> ChatResponse:
    """The response with the reasoning in its text kept apart."""
    message = separated(response.message)
    if message is response.message:
        return response
    finish = "empty" if response.finish == "stop" and not message.content else response.finish
    return replace(response, message=message, finish=finish)


def validated(response: ChatResponse) -> ChatResponse:
    """The response with a valid usage. An invalid one is replaced by zeros, and `doubts` gives the reason."""
    why = doubt(response.usage)
    return response if why is None else replace(response, usage=Usage(), doubts=(*response.doubts, f"usage: {why}"))


def doubt(usage: object) -> str | None:
    """The reason why a usage is invalid; None if it is valid."""
    if type(usage) is not Usage:
        return f"the usage is {shown(usage)}"
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        value = getattr(usage, name)
        if type(value) is not int or not 0 <= value <= TOKENS_AT_MOST:
            return f"{name} is {shown(value)}"
    if type(usage.cost) is not float or not 0 <= usage.cost <= COST_AT_MOST:
        return f"cost is {shown(usage.cost)}"
    return None


class ValidatedModel(ModelWrapper):
    """Checks a third-party model: its exceptions and invalid answers become faults of the model."""

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with a valid usage.

        Raises:
            ModelFault: the model raised an exception.
            MalformedReply: the answer is not a `ChatResponse`.
        """
        with boundary(ModelFault, lambda: f"model `{self.name}`, {key}"):
            try:
                response = cast("object", await self._model.complete(request, key))
            except UnparsedCall as error:
                response = ChatResponse.of_unparsed(error, self.name)
            if isinstance(response, ChatResponse) and isinstance(cast("object", response.message), AssistantMessage):
                return validated(_separated(response))
        raise MalformedReply(f"model `{self.name}`, {key}: it answered with {shown(response)}; return a ChatResponse")
