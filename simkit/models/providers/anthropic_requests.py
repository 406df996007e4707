"""Conversion of a `ChatRequest` to a request of Anthropic's Messages API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import orjson

from simkit.core.messages import (
    AssistantMessage,
    Content,
    ContentPart,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
    parse_call,
)
from simkit.core.values import without_surrogates
from simkit.errors import BadRequest
from simkit.models.base import ChatRequest

Block: TypeAlias = dict[str, Any]
"""A content block of a message: text, thinking, a tool call, a result, an image."""

MAX_TOKENS = 16_384
"""Limit of a reply, in tokens, if neither an option nor a budget sets one: the API requires a limit."""

THINKING = frozenset({"thinking", "redacted_thinking"})

THINKING_BLOCKS = "thinking_blocks"
"""Extra field of an assistant message: its thinking blocks with their signatures, if they precede everything else."""

CONTENT_BLOCKS = "content_blocks"
"""Extra field of an assistant message: all its blocks in their order, if text and thinking are not in the usual one.

The calls stand in `tool_calls`; here, a block of type `tool_use` without other fields marks the place of each.
"""

CALL_FIELDS = ("caller", "toolset_name")
"""Fields of a `tool_use` block that are kept as extra fields of the call and go back with it."""

NO_TEXT = "(no text)"
"""Sent in place of a user message without text, because the API refuses empty ones."""

CONVERSATION_STARTS = "(The conversation starts here.)"
"""Sent as the first user message of a conversation that starts with the assistant's."""

_CONVERTED = (
    *("max_tokens", "stop", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
    *("seed", "logprobs", "presence_penalty", "frequency_penalty"),
)
"""Settings that the API does not have, or has in another form."""

_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
_OLDER = re.compile(r"claude-(?:[23](?!\d)|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?!\d)(?!-\d{1,2}(?!\d)))")
"""Models that think up to a budget of tokens; all others take an effort."""

_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")
_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ThinkingForm:
    """The form of thinking in a request.

    Attributes:
        sent: whether the thinking blocks of earlier messages are sent.
        budget: whether a reasoning effort is sent as a budget of tokens; None leaves it to the model's name.
    """

    sent: bool = True
    budget: bool | None = None


def to_messages_body(
    model: str,
    request: ChatRequest,
    settings: Mapping[str, Any],
    *,
    max_tokens: int = MAX_TOKENS,
    thinking: ThinkingForm | None = None,
) -> dict[str, Any]:
    """The body of a Messages request. The API has no seed, so none is sent.

    Args:
        settings: the settings of the request under their OpenAI names; others are sent as they are.
        max_tokens: limit of the reply if the settings have none.
        thinking: the form of thinking; None for the usual one.

    Raises:
        BadRequest: an option has no equivalent in the API.
    """
    rest = dict(settings)
    given = {name: rest.pop(name, None) for name in _CONVERTED}
    if unsupported := [
        name for name in ("logprobs", "presence_penalty", "frequency_penalty") if given[name] is not None
    ]:
        raise BadRequest(f"the Messages API has no {', '.join(map(repr, unsupported))}; omit it")
    limit, thinking = given["max_tokens"] or max_tokens, thinking or ThinkingForm()
    system, turns = convert_messages(request.messages, thinking=thinking.sent)
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": turns}
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if choice := _tool_choice(given["tool_choice"], given["parallel_tool_calls"]):
            body["tool_choice"] = choice
    if given["stop"]:
        body["stop_sequences"] = given["stop"]
    output = _output_format(given["response_format"])
    if given["reasoning_effort"] is not None:
        body["thinking"], effort = _thinking(model, given["reasoning_effort"], limit, thinking.budget)
        output |= effort
    if output:
        body["output_config"] = output
    return body | rest


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON text."""
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer of more than 64 bits, or a lone surrogate
        return json.dumps(without_surrogates(dict(body)), ensure_ascii=False, separators=(",", ":")).encode()


def convert_messages(messages: Iterable[Message], *, thinking: bool = True) -> tuple[list[Block], list[dict[str, Any]]]:
    """The system blocks and the turns of a conversation, with the thinking blocks of earlier messages or without.

    Turns alternate between user and assistant and start with the user. Tool results are part of a user turn, before
    its text. Messages without content are left out.
    """
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        match message:
            case SystemMessage():
                system += _blocks(message.content)
            case UserMessage():
                _extend(turns, "user", _blocks(message.content) or [{"type": "text", "text": NO_TEXT}])
            case ToolMessage():
                _extend(turns, "user", [_result(message)])
            case AssistantMessage():
                _extend(turns, "assistant", _assistant_blocks(message, thinking=thinking))
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": CONVERSATION_STARTS}]})
    return system, turns


def _extend(turns: list[dict[str, Any]], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if not turns or turns[-1]["role"] != role:
        turns.append({"role": role, "content": blocks})
        return
    merged = [*turns[-1]["content"], *blocks]
    turns[-1]["content"] = sorted(merged, key=_after_results) if role == "user" else merged


def _after_results(block: Block) -> bool:
    return block["type"] != "tool_result"


def _blocks(content: Content | None) -> list[Block]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return [block for part in content if (block := _part(part))]


def _part(part: ContentPart) -> Block | None:
    """The block of a content part; None for a text part without text. Parts of unknown types go as they are."""
    fields = part.to_openai()
    if part.type == "text":
        return fields if str(fields.get("text") or "").strip() else None
    if part.type != "image_url":
        return fields
    image = fields.get("image_url")
    url = str(cast("dict[str, Any]", image).get("url") if isinstance(image, dict) else image)
    data = _DATA_URL.fullmatch(url)
    if data is None:
        return {"type": "image", "source": {"type": "url", "url": url}}
    return {"type": "image", "source": {"type": "base64", "media_type": data[1], "data": data[2]}}


def _result(message: ToolMessage) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
    if content := _blocks(message.content):
        block["content"] = content
    if (message.model_extra or {}).get("is_error") is True:
        block["is_error"] = True
    return block


def _assistant_blocks(message: AssistantMessage, *, thinking: bool) -> list[Block]:
    """The blocks of an assistant message, with its thinking blocks exactly as they were received, in their order."""
    extra = message.model_extra
    calls = [_tool_use(call) for call in message.tool_calls or ()]
    text = _blocks(message.content)
    if not extra:
        return [*text, *calls]
    received = _typed(extra.get(CONTENT_BLOCKS))
    blocks = _in_received_order(received, text, calls)
    if blocks is None:
        thoughts = _typed(extra.get(THINKING_BLOCKS)) or received
        blocks = [*(block for block in thoughts if block["type"] in THINKING), *text, *calls]
    others = [block for block in blocks if block["type"] not in THINKING]
    return blocks if others and thinking else others


def _typed(value: object) -> list[Block]:
    """The values of a list that are blocks: objects with a type."""
    if not isinstance(value, list):
        return []
    return [
        cast("Block", each)
        for each in cast("list[object]", value)
        if isinstance(each, dict) and isinstance(cast("Block", each).get("type"), str)
    ]


def _in_received_order(received: list[Block], text: list[Block], calls: list[Block]) -> list[Block] | None:
    """The received blocks with the calls in their places; None if the message was changed since it was received."""
    said = "".join(str(block.get("text", "")) for block in received if block["type"] == "text")
    places = sum(block["type"] == "tool_use" for block in received)
    if not received or said != "".join(str(block.get("text", "")) for block in text) or places != len(calls):
        return None
    left = iter(calls)
    return [next(left) if block["type"] == "tool_use" else block for block in received]


def _tool_use(call: ToolCall) -> Block:
    arguments, extra = parse_call(call), call.model_extra or {}
    return {
        "type": "tool_use",
        "id": _id(call.id),
        "name": call.name,
        "input": {"not_valid_json": call.arguments} if arguments is None else arguments,
        **{name: extra[name] for name in CALL_FIELDS if extra.get(name)},
    }


def _id(call_id: str) -> str:
    """An id in the characters that the API accepts."""
    return _NO_ID.sub("_", call_id) or "_"


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = tool.function
    schema = {"type": "object", **(function.parameters or {"properties": {}})}
    made: dict[str, Any] = {"name": function.name, "input_schema": schema}
    if function.description:
        made["description"] = function.description
    if (strict := (function.model_extra or {}).get("strict")) is not None:
        made["strict"] = strict
    return made


def _tool_choice(choice: str | Mapping[str, Any] | None, parallel: bool | None) -> dict[str, Any] | None:
    if choice is None and parallel is not False:
        return None
    made: dict[str, Any]
    if isinstance(choice, Mapping):
        named = choice.get("function")
        made = {"type": "tool", "name": named["name"]} if named else dict(choice)
    else:
        made = {"type": {None: "auto", "required": "any"}.get(choice, choice)}
    if parallel is False and made["type"] != "none":
        made["disable_parallel_tool_use"] = True
    return made


def _output_format(form: Mapping[str, Any] | None) -> dict[str, Any]:
    """The output format for an OpenAI `response_format`. `json_object` has no equivalent and is left out."""
    if form is None or form.get("type") != "json_schema":
        return {}
    return {"format": {"type": "json_schema", "schema": form.get("json_schema", form).get("schema")}}


def _thinking(model: str, effort: str, limit: int, budget: bool | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields `thinking` and `output_config` for a reasoning effort."""
    if effort == "none":
        return {"type": "disabled"}, {}
    if not (_OLDER.search(model) if budget is None else budget):
        wanted = "low" if effort == "minimal" else effort
        return {"type": "adaptive", "display": "summarized"}, {"effort": wanted}
    if effort not in _BUDGETS:
        raise BadRequest(f"`{model}` has no reasoning effort {effort!r}; choose none, {', '.join(_BUDGETS)}")
    if limit <= _BUDGETS["minimal"]:
        raise BadRequest(
            f"a reply of at most {limit:,} tokens leaves no room for the thinking of `{model}`; raise --max-tokens "
            f"above {_BUDGETS['minimal']:,}, or omit --reasoning-effort"
        )
    return {"type": "enabled", "budget_tokens": min(_BUDGETS[effort], limit - 1)}, {}
