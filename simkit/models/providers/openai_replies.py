"""Conversion of an endpoint's HTTP reply to a `ChatResponse`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from simkit.core.messages import AssistantMessage
from simkit.core.reasoning import with_reasoning
from simkit.errors import MalformedReply
from simkit.models.base import ChatResponse, FinishReason
from simkit.models.providers.reply_errors import Reading, read_body
from simkit.models.transport.http1 import HttpReply
from simkit.models.usage import read_usage, tokens_used

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
}
"""Finish reasons of common servers and their OpenAI equivalents. Unknown ones count as `stop`."""


def read_reply(reply: HttpReply, reading: Reading) -> ChatResponse:
    """The response in a reply.

    Raises:
        ModelFault: the reply is an error, or not a chat completion.
        RunStopped: the reply means that no call can succeed.
    """
    body = read_body(reply, reading)
    try:
        return _response(body)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        shown = reading.start_of(reply.body)
        raise MalformedReply(
            f"the answer of {reading.origin} is not a chat completion ({type(error).__name__}): {shown}",
            retries=None if body.get("choices") else 2,
            usage=tokens_used(body.get("usage")),
        ) from error


def _response(body: dict[str, Any]) -> ChatResponse:
    choice = body["choices"][0]
    written = choice["message"]
    message = _message(written)
    thought = written.get("reasoning_content") or written.get("reasoning")
    if isinstance(thought, str):
        message = with_reasoning(message, thought)
    refusal = written.get("refusal")
    usage, doubt = read_usage(body.get("usage"))
    return ChatResponse(
        message=message,
        finish=_finish(message, choice.get("finish_reason"), bool(refusal)),
        usage=usage,
        model=str(body.get("model") or ""),
        logprobs=_logprobs(choice.get("logprobs")),
        doubts=() if doubt is None else (f"usage: {doubt}",),
    )


def _message(written: dict[str, Any]) -> AssistantMessage:
    """The message for the conversation: only fields that every server accepts, and the text of a refusal."""
    kept: dict[str, Any] = {"role": "assistant", "content": written.get("content")}
    if calls := written.get("tool_calls"):
        kept["tool_calls"] = [_call(call, index) for index, call in enumerate(calls)]
    if written.get("refusal"):
        kept["refusal"] = written["refusal"]
    return AssistantMessage.model_validate(kept)


def _call(call: dict[str, Any], index: int) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments")
    if not isinstance(arguments, str):  # some servers send the object itself, or nothing if there are no arguments
        arguments = _written_out(arguments if arguments is not None else {})
    name = function["name"]
    return {
        "id": call.get("id") or f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _written_out(arguments: object) -> str:
    """Arguments as JSON text. Arguments nested too deep become a string, so that the model gets an error."""
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except RecursionError:
        return json.dumps("(left out: the arguments were nested too deep to be read)")


def _finish(message: AssistantMessage, reason: str | None, refused: bool) -> FinishReason:
    finish = FINISH.get(reason or "", "stop")
    if refused:
        return "refusal"
    if finish in ("length", "content_filter", "refusal"):
        return finish
    if message.tool_calls:
        return "tool_calls"
    return "stop" if message.content else "empty"


def _logprobs(logprobs: dict[str, Any] | None) -> tuple[float, ...] | None:
    if not logprobs or logprobs.get("content") is None:
        return None
    found = tuple(float(token["logprob"]) for token in logprobs["content"])
    if not all(map(isfinite, found)):
        raise ValueError("a log probability is not a finite number")
    return found
