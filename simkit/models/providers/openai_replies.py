"""Conversion of an endpoint's HTTP reply to a `ChatResponse`."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, cast

import orjson

from simkit.core.messages import AssistantMessage
from simkit.errors import MalformedReply, ModelFault, RunStopped, ServerFailed
from simkit.models.base import ChatResponse
from simkit.models.providers.finish_reasons import ending_doubts, finish_of, read_ending
from simkit.models.providers.openai_messages import read_message
from simkit.models.providers.reply_errors import ReplyContext, read_body, read_error
from simkit.models.transport.http1 import HttpReply
from simkit.models.usage import read_usage, tokens_used

_LONG = re.compile(rb"\d{19}")  # a number that may not fit into 64 bits: orjson would make a float of it
_SHOWN = 60
_USUAL = ("stop", "length", None)


def read_reply(reply: HttpReply, reading: ReplyContext) -> ChatResponse:
    """The response in a reply.

    Raises:
        ModelFault: the reply is an error, or not a chat completion.
        RunStopped: the reply means that no call can succeed.
    """
    body = read_body(reply, reading)
    try:
        return _response(body, reply, reading)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        shown = reading.start_of(reply.body)
        raise MalformedReply(
            f"the answer of {reading.origin} is not a chat completion ({type(error).__name__}): {shown}",
            retries=None if body.get("choices") else 2,
            usage=tokens_used(body.get("usage")),
        ) from error


def _response(body: dict[str, Any], reply: HttpReply, reading: ReplyContext) -> ChatResponse:
    choices = body["choices"]
    if choices == []:
        raise MalformedReply(
            f"the answer of {reading.origin} holds no choice: {reading.start_of(reply.body)}",
            retries=2,
            usage=tokens_used(body.get("usage")),
        )
    choice = choices[0]
    if choice.get("error") and not choice.get("message"):
        raise _failed(choice["error"], None, body, reading)
    message, exact = read_message(choice)
    if not exact and _LONG.search(reply.body):
        message, _ = read_message(read_body(reply, reading, exact=True)["choices"][0])
    usage, doubt = read_usage(body.get("usage"))
    doubts: tuple[str, ...] = () if doubt is None else (f"usage: {doubt}",)
    reason = choice.get("finish_reason") or choice.get("finishReason")
    ending = read_ending(reason)
    if ending == "failed" or choice.get("error"):
        raise _failed(choice.get("error"), reason, body, reading)
    if ending not in _USUAL:
        doubts = (*doubts, *ending_doubts(ending, message, reading.clean(str(reason))[:_SHOWN]))
    if len(choices) > 1:
        message, doubts = _joined(message, choices[1:]), (*doubts, f"several_choices: {len(choices)}")
    logprobs = None
    if (reported := choice.get("logprobs")) is not None:
        logprobs, wrong = _logprobs(reported)
        doubts = doubts if wrong is None else (*doubts, f"logprobs: {wrong}")
    if "content_filter_results" in choice and _is_filtered(choice["content_filter_results"]):
        ending = "content_filter"
    return ChatResponse(
        message=message,
        finish=finish_of(message, ending),
        usage=usage,
        model=str(body.get("model") or ""),
        logprobs=logprobs,
        doubts=doubts,
    )


def _failed(error: object, reason: object, body: dict[str, Any], reading: ReplyContext) -> ModelFault | RunStopped:
    """The error for a reply that failed halfway."""
    if error:
        reported = orjson.dumps({"error": error, "usage": body.get("usage")}, default=str)
        return read_error(HttpReply(200, {}, reported), reading)
    shown = reading.clean(str(reason))[:_SHOWN]
    failed = ServerFailed(f"the reply of {reading.origin} failed before it was complete (finish reason `{shown}`)")
    failed.usage = tokens_used(body.get("usage"))
    return failed


def _joined(message: AssistantMessage, others: list[dict[str, Any]]) -> AssistantMessage:
    """The message with the calls of other choices: some gateways give words and calls a choice each."""
    if message.tool_calls:
        return message
    for choice in others:
        if calls := read_message(choice)[0].tool_calls:
            return message.model_copy(update={"tool_calls": calls})
    return message


def _is_filtered(results: object) -> bool:
    """Whether one of Azure's content filters withheld something."""
    if not isinstance(results, dict):
        return False
    found = cast("dict[str, object]", results).values()
    return any(isinstance(each, dict) and cast("dict[str, object]", each).get("filtered") is True for each in found)


def _logprobs(reported: Any) -> tuple[tuple[float, ...] | None, str | None]:
    """The log probabilities, or the reason why there are none that can be used."""
    tokens = cast("dict[str, Any]", reported).get("content") if isinstance(reported, dict) else reported
    if tokens is None:
        return None, None
    try:
        found = tuple(float(token["logprob"]) for token in tokens)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None, "null, or in an unknown form"
    return (found, None) if all(map(isfinite, found)) else (None, "not finite")
