"""Answers in forms that were not requested: streams of the three APIs, bare lines, wrappers, JSON within JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simkit.core.messages import parse_call
from simkit.errors import MalformedReply, ModelFault, QuotaExhausted, RateLimited, Unreachable
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.providers.responses_format import read_responses_reply
from simkit.models.transport.http1 import HttpReply

READING = ReplyContext("http://there", "m")
LONG = 12345678901234567890123
USAGE = {"prompt_tokens": 3, "completion_tokens": 1}
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
RESPONSE: dict[str, Any] = {
    "object": "response",
    "status": "completed",
    "error": None,
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}],
    "usage": {"input_tokens": 9, "output_tokens": 5},
}


def reply(body: object, kind: str = "application/json") -> HttpReply:
    return HttpReply(200, {"content-type": kind}, (body if isinstance(body, str) else json.dumps(body)).encode())


def stream(*events: dict[str, Any]) -> HttpReply:
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return reply(text, "text/event-stream")


def delta(index: int, kind: str, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


START: dict[str, Any] = {
    "type": "message_start",
    "message": {"type": "message", "model": "claude", "content": [], "usage": {"input_tokens": 10, "output_tokens": 1}},
}
SPOKEN: tuple[dict[str, Any], ...] = (
    {"type": "ping"},
    block(0, "thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="He wants "),
    delta(0, "thinking_delta", thinking="a table."),
    delta(0, "signature_delta", signature="c2ln"),
    block(1, "text", text=""),
    delta(1, "text_delta", text="Let me "),
    delta(1, "text_delta", text="see."),
    block(2, "tool_use", id="t1", name="book", input={}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"day": "fri", '),
    delta(2, "input_json_delta", partial_json=f'"guest": {LONG}}}'),
    block(3, "tool_use", id="t2", name="list", input={}),
)
STOP: tuple[dict[str, Any], ...] = (
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
)


def test_the_events_of_the_messages_api_are_joined() -> None:
    response = read_messages_reply(stream(START, *SPOKEN, *STOP), READING).response
    message = response.message
    assert (message.content, response.reasoning, response.finish) == ("Let me see.", "He wants a table.", "tool_calls")
    assert [parse_call(call) for call in message.tool_calls or ()] == [{"day": "fri", "guest": LONG}, {}]
    assert (response.usage.prompt_tokens, response.usage.completion_tokens, response.model) == (10, 15, "claude")
    assert (message.model_extra or {})["thinking_blocks"][0]["signature"] == "c2ln"


def test_a_call_that_a_stream_cuts_off_keeps_its_text() -> None:
    ended = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}}
    response = read_messages_reply(stream(START, *SPOKEN[:11], ended), READING).response
    calls = [call.arguments for call in response.message.tool_calls or ()]
    assert (response.finish, calls) == ("length", ['{"day": "fri", '])


def test_an_error_within_a_stream_is_that_error_with_the_usage_so_far() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(Unreachable, match="Overloaded") as raised:
        read_messages_reply(stream(START, *SPOKEN[:4], error), READING)
    assert raised.value.usage is not None
    assert raised.value.usage.prompt_tokens == 10


@pytest.mark.parametrize("count", [1, 4, len(SPOKEN)])
def test_a_stream_without_an_end_is_no_answer(count: int) -> None:
    with pytest.raises(MalformedReply, match="ended before the answer was complete"):
        read_messages_reply(stream(START, *SPOKEN[:count]), READING)


def test_the_last_event_of_the_responses_api_holds_the_response() -> None:
    begun: dict[str, Any] = {
        "type": "response.created",
        "response": {**RESPONSE, "status": "in_progress", "output": []},
    }
    words = {"type": "response.output_text.delta", "delta": "Hi"}
    response = read_responses_reply(stream(begun, words, {"type": "response.completed", "response": RESPONSE}), READING)
    assert (response.message.content, response.usage.tokens) == ("Hi", 14)
    with pytest.raises(MalformedReply, match="ended before"):
        read_responses_reply(stream(begun, words), READING)
    error = {"code": "rate_limit_exceeded", "message": "Slow down"}
    failed: dict[str, Any] = {"type": "response.failed", "response": {**RESPONSE, "status": "failed", "error": error}}
    with pytest.raises(RateLimited, match="Slow down"):
        read_responses_reply(stream(begun, failed), READING)


CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "H"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "i"}, "finish_reason": "stop"}], "usage": USAGE},
]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(COMPLETION),
        [COMPLETION],
        "\n".join(map(json.dumps, CHUNKS)) + "\n",
        ": PROCESSING\n\n: PROCESSING\n\n" + json.dumps(COMPLETION),
        {"data": COMPLETION, "code": 200, "msg": "success"},
        {"result": COMPLETION, "success": True, "errors": [], "messages": []},
    ],
    ids=["JSON text", "list", "lines of chunks", "comments first", "in data", "in result"],
)
def test_an_answer_in_another_form_is_read(body: object) -> None:
    response = read_reply(reply(json.dumps(body) if body == json.dumps(COMPLETION) else body), READING)
    assert (response.message.content, response.finish, response.usage.tokens) == ("Hi", "stop", 4)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"code": 1113, "msg": "Insufficient balance", "data": None}, QuotaExhausted),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, RateLimited),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, ModelFault),
        ({"success": False, "errors": [{"code": 7009, "message": "Upstream unavailable"}]}, ModelFault),
        (json.dumps(COMPLETION) + json.dumps(COMPLETION), MalformedReply),
        ("3", MalformedReply),
        ("", MalformedReply),
    ],
)
def test_an_answer_without_choices_is_the_error_that_it_describes(body: object, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        read_reply(reply(body), READING)


def test_an_error_in_place_of_a_message_is_that_error() -> None:
    with pytest.raises(RateLimited, match="Slow down"):
        read_reply(reply({"choices": [{"index": 0, "error": {"code": 429, "message": "Slow down"}}]}), READING)


@pytest.mark.parametrize("reason", ["tool_calls", "TOOL_USE", "function_call"])
def test_announced_calls_that_are_missing_are_a_doubt(reason: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "One moment."}, "finish_reason": reason}
    response = read_reply(reply({"choices": [choice]}), READING)
    assert (response.finish, response.doubts) == ("stop", (f"missing_calls: {reason}",))
    message = {"type": "message", "content": [{"type": "text", "text": "One moment."}], "stop_reason": "tool_use"}
    assert read_messages_reply(reply(message), READING).response.doubts == ("missing_calls: tool_use",)


def test_integers_of_any_length_are_exact_in_every_form() -> None:
    made = {"id": "c", "type": "function", "function": {"name": "book", "arguments": {"guest": LONG}}}
    message = {"role": "assistant", "content": None, "tool_calls": [made]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    for form in (body, [body], {"data": body}):
        calls = read_reply(reply(form), READING).message.tool_calls or ()
        assert [parse_call(call) for call in calls] == [{"guest": LONG}]
    content = [{"type": "tool_use", "id": "t", "name": "book", "input": {"guest": LONG}}]
    whole = {"type": "message", "content": content, "stop_reason": "tool_use"}
    for form in (whole, [whole]):
        calls = read_messages_reply(reply(form), READING).response.message.tool_calls or ()
        assert [parse_call(call) for call in calls] == [{"guest": LONG}]
