"""The form of requests and answers of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

from simkit.core.messages import (
    AssistantMessage,
    Content,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from simkit.core.reasoning import with_reasoning
from simkit.errors import BadRequest, MalformedReply, ServerFailed
from simkit.models.base import ChatRequest, ChatResponse, FinishReason
from simkit.models.providers.finish_reasons import finish_of
from simkit.models.providers.reply_errors import ReplyContext, read_body
from simkit.models.transport.http1 import HttpReply
from simkit.models.usage import read_usage, tokens_used

Item: TypeAlias = dict[str, Any]
"""An item of an input or output: a message, a call, its output, or reasoning."""

OUTPUT_ITEMS = "output_items"
"""Extra field of an assistant message: the items of the output, if they are more than a plain text and calls.

The calls stand in `tool_calls`; here, an item of type `function_call` without other fields marks the place of each.
"""

_CONVERTED = (
    *("max_tokens", "tool_choice", "response_format", "reasoning_effort"),
    *("seed", "stop", "logprobs", "presence_penalty", "frequency_penalty"),
)
_INCOMPLETE: Mapping[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


# --- requests ---------------------------------------------------------------------------------------------------------


def to_responses_body(
    model: str, request: ChatRequest, settings: Mapping[str, Any], *, reasoning: bool = True
) -> dict[str, Any]:
    """The body of a request. The server stores nothing, so reasoning comes encrypted and is sent again.

    Args:
        settings: the settings of the request under their OpenAI names; others are sent as they are.
        reasoning: whether the reasoning items of earlier messages are sent.

    Raises:
        BadRequest: an option has no equivalent in the API.
    """
    rest = dict(settings)
    given = {name: rest.pop(name, None) for name in _CONVERTED}
    if unsupported := [name for name in _CONVERTED[5:] if given[name] is not None]:
        raise BadRequest(f"the Responses API has no {', '.join(map(repr, unsupported))}; omit it")
    body: dict[str, Any] = {"model": model, "input": to_items(request.messages, reasoning=reasoning), "store": False}
    body["include"] = ["reasoning.encrypted_content"]
    if request.tools:
        body["tools"] = [{"type": "function", **tool.function.to_openai()} for tool in request.tools]
        if choice := given["tool_choice"]:
            body["tool_choice"] = (
                choice if isinstance(choice, str) else {"type": "function", **choice.get("function", choice)}
            )
    if given["max_tokens"] is not None:
        body["max_output_tokens"] = given["max_tokens"]
    if given["reasoning_effort"] is not None:
        body["reasoning"] = {"effort": given["reasoning_effort"], "summary": "auto"}
    if (form := given["response_format"]) is not None:
        schema = form.get("json_schema", {})
        body["text"] = {"format": {**{name: form[name] for name in form if name != "json_schema"}, **schema}}
    return body | rest


def to_items(messages: Iterable[Message], *, reasoning: bool = True) -> list[Item]:
    """The input items of a conversation."""
    items: list[Item] = []
    for message in messages:
        match message:
            case SystemMessage() | UserMessage():
                items.append({"role": message.role, "content": _content(message.content)})
            case ToolMessage():
                call_id, output = message.tool_call_id, _content(message.content)
                items.append({"type": "function_call_output", "call_id": call_id, "output": output})
            case AssistantMessage():
                items += _output_items(message, reasoning=reasoning)
    return items


def _content(content: Content) -> str | list[Item]:
    if isinstance(content, str):
        return content
    parts = [part.to_openai() for part in content]
    return [_image(part) if part["type"] == "image_url" else part | _text_type(part) for part in parts]


def _text_type(part: Item) -> Item:
    return {"type": "input_text"} if part["type"] == "text" else {}


def _image(part: Item) -> Item:
    image = part["image_url"]
    return {"type": "input_image", "image_url": image["url"] if isinstance(image, dict) else image}


def _output_items(message: AssistantMessage, *, reasoning: bool) -> list[Item]:
    """The items of an assistant message, in the order in which they were received."""
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls or ()
    ]
    received = cast("list[Item]", (message.model_extra or {}).get(OUTPUT_ITEMS) or [])
    text = text_of(message)
    places = sum(item["type"] == "function_call" for item in received)
    if not received or not reasoning or places != len(calls) or _texts(received) != text:
        return [*([{"role": "assistant", "content": text}] if text else []), *calls]
    left = iter(calls)
    return [next(left) if item["type"] == "function_call" else item for item in received]


# --- answers ----------------------------------------------------------------------------------------------------------


def read_responses_reply(reply: HttpReply, reading: ReplyContext) -> ChatResponse:
    """The response in a reply.

    Raises:
        ModelFault: the reply is an error, incomplete for an unknown reason, or not a response.
        RunStopped: the reply means that no call can succeed.
    """
    body = read_body(reply, reading)
    try:
        return _response(body, reading)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise MalformedReply(
            f"the answer of {reading.origin} is not a response of the Responses API ({type(error).__name__}): "
            f"{reading.start_of(reply.body)}",
            usage=tokens_used(_counts(body.get("usage"))),
        ) from error


def _response(body: dict[str, Any], reading: ReplyContext) -> ChatResponse:
    message = _message(body["output"])
    usage, doubt = read_usage(_counts(body.get("usage")))
    doubts = () if doubt is None else (f"usage: {doubt}",)
    status, finish = body.get("status") or "completed", finish_of(message, "stop")
    if status == "incomplete":
        details: dict[str, Any] = body.get("incomplete_details") or {}
        reason = str(details.get("reason"))
        finish = _INCOMPLETE.get(reason, "unknown")
        doubts = doubts if finish != "unknown" else (*doubts, f"unknown_finish: {reading.clean(reason)[:60]}")
    elif status != "completed":
        raise ServerFailed(
            f"the response of {reading.origin} is {reading.clean(str(status))}, not completed",
            usage=tokens_used(_counts(body.get("usage"))),
        )
    return ChatResponse(message=message, finish=finish, usage=usage, model=str(body.get("model") or ""), doubts=doubts)


def _message(output: list[Item]) -> AssistantMessage:
    calls = tuple(
        ToolCall.of(str(item["call_id"]), str(item["name"]), item["arguments"] or "{}")
        for item in output
        if item["type"] == "function_call"
    )
    message = AssistantMessage.of(_texts(output) or None, calls)
    thoughts = [part["text"] for item in output for part in _thoughts(item) if part.get("text")]
    refusals = [part["refusal"] for part in _parts(output) if part["type"] == "refusal"]
    if thoughts:
        message = with_reasoning(message, "\n\n".join(thoughts))
    if refusals:
        message = message.model_copy(update={"refusal": "\n".join(refusals)})
    if _is_plain(output):
        return message
    kept = [{"type": "function_call"} if item["type"] == "function_call" else item for item in output]
    return message.model_copy(update={OUTPUT_ITEMS: kept})


def _is_plain(output: list[Item]) -> bool:
    """Whether the output is at most one message, without a phase, followed by calls."""
    kinds = [item["type"] for item in output]
    if not set(kinds) <= {"message", "function_call"} or any(item.get("phase") for item in output):
        return False
    return kinds.count("message") < 2 and kinds == sorted(kinds, reverse=True)


def _parts(items: list[Item]) -> list[Item]:
    return [part for item in items if item["type"] == "message" for part in item["content"]]


def _texts(items: list[Item]) -> str:
    return "".join(part["text"] for part in _parts(items) if part["type"] == "output_text")


def _thoughts(item: Item) -> list[Item]:
    return (item.get("content") or item.get("summary") or []) if item["type"] == "reasoning" else []


def _counts(usage: Any) -> Any:
    """The usage under the names of chat completions."""
    if not isinstance(usage, dict):
        return usage
    fields = cast("dict[str, Any]", usage)
    return {
        "prompt_tokens": fields.get("input_tokens"),
        "completion_tokens": fields.get("output_tokens"),
        "prompt_tokens_details": fields.get("input_tokens_details"),
    }
