"""Conversion of an HTTP reply of Anthropic's Messages API to a `ChatResponse`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.messages import AssistantMessage, ToolCall
from simkit.core.reasoning import with_reasoning
from simkit.errors import MalformedReply, ServerFailed
from simkit.models.base import ChatResponse
from simkit.models.providers.anthropic_requests import (
    CALL_FIELDS,
    CONTENT_BLOCKS,
    THINKING,
    THINKING_BLOCKS,
    Block,
)
from simkit.models.providers.finish_reasons import ending_doubts, finish_of, read_ending
from simkit.models.providers.reply_errors import ReplyContext, read_body
from simkit.models.transport.http1 import HttpReply
from simkit.models.usage import read_count, read_usage, tokens_used

_LONG = re.compile(rb"\d{19}")  # a number that may not fit into 64 bits: the fast parser would make a float of it
_ORDER = (*THINKING, "text", "tool_use")


@dataclass(frozen=True, slots=True)
class MessagesReply:
    """A response, and the prompt tokens of it that were written into the provider's cache, which cost more."""

    response: ChatResponse
    written: int = 0


def read_messages_reply(reply: HttpReply, reading: ReplyContext) -> MessagesReply:
    """The response in a reply.

    Raises:
        ModelFault: the reply is an error, or not a message.
        RunStopped: the reply means that no call can succeed.
    """
    body = read_body(reply, reading)
    try:
        return _reply(body, reply, reading)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise MalformedReply(
            f"the answer of {reading.origin} is not a message of the Messages API ({type(error).__name__}): "
            f"{reading.start_of(reply.body)}",
            usage=tokens_used(_counts(body.get("usage"))),
        ) from error


def _reply(body: dict[str, Any], reply: HttpReply, reading: ReplyContext) -> MessagesReply:
    content = body["content"]
    if _LONG.search(reply.body):
        content = read_body(reply, reading, exact=True)["content"]
    message = _message(content)
    reason = body.get("stop_reason")
    ending = "unknown" if reason is None or reason == "pause_turn" else read_ending(reason)
    shown = reading.clean(str(reason))[:60]
    if ending == "failed":
        raise ServerFailed(
            f"the reply of {reading.origin} failed before it was complete (stop reason `{shown}`)",
            usage=tokens_used(_counts(body.get("usage"))),
        )
    finish, doubts = finish_of(message, ending), ending_doubts(ending, message, shown)
    if finish == "refusal" and (words := _explanation(body.get("stop_details"))):
        message = message.model_copy(update={"refusal": words})
    counts = _counts(body.get("usage"))
    usage, doubt = read_usage(counts)
    if doubt is not None:
        doubts = (*doubts, f"usage: {doubt}")
    response = ChatResponse(
        message=message, finish=finish, usage=usage, model=str(body.get("model") or ""), doubts=doubts
    )
    return MessagesReply(response, counts.get("written", 0) if doubt is None else 0)


def _message(content: list[Block]) -> AssistantMessage:
    blocks = [block for block in content if block["type"] != "text" or block["text"]]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = tuple(_call(block) for block in blocks if block["type"] == "tool_use")
    message = AssistantMessage.of(text or None, calls)
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking" and block["thinking"]]
    if thoughts:
        message = with_reasoning(message, "\n\n".join(thoughts))
    if _is_usual(blocks):
        thinking = [block for block in blocks if block["type"] in THINKING]
        return message.model_copy(update={THINKING_BLOCKS: thinking}) if thinking else message
    received = [{"type": "tool_use"} if block["type"] == "tool_use" else block for block in blocks]
    return message.model_copy(update={CONTENT_BLOCKS: received})


def _is_usual(blocks: list[Block]) -> bool:
    """Whether a message's text, calls and thinking blocks alone say what was received: at most one plain text block.

    The order is thinking, text, calls.
    """
    kinds = [block["type"] for block in blocks]
    if kinds.count("text") > 1 or not set(kinds) <= set(_ORDER):
        return False
    places = [0 if kind in THINKING else _ORDER.index(kind) for kind in kinds]
    texts = (block for block in blocks if block["type"] == "text")
    return places == sorted(places) and not any(block.get("citations") for block in texts)


def _call(block: Block) -> ToolCall:
    call = ToolCall.of(str(block["id"]), str(block["name"]), block.get("input") or {})
    kept = {name: block[name] for name in CALL_FIELDS if block.get(name)}
    return call.model_copy(update=kept) if kept else call


def _explanation(details: object) -> str:
    words = cast("dict[str, Any]", details).get("explanation") if isinstance(details, dict) else None
    return words if isinstance(words, str) else ""


def _counts(usage: object) -> dict[str, Any]:
    """The usage under OpenAI's names. The API counts cached prompt tokens apart from `input_tokens`."""
    if not isinstance(usage, dict):
        return {"prompt_tokens": usage}
    fields = cast("dict[str, Any]", usage)
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    parts = {name: read_count(fields.get(name)) for name in names}
    prompt, read, written = parts.values()
    if prompt is None or read is None or written is None:
        return {"prompt_tokens": next(fields[name] for name in names if parts[name] is None)}
    return {
        "prompt_tokens": prompt + read + written,
        "completion_tokens": fields.get("output_tokens"),
        "prompt_tokens_details": {"cached_tokens": read},
        "written": written,
    }
