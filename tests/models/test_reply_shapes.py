"""Answers in the shapes that servers give them: what they mean is read, and what is unusual is noticed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from simkit.core.messages import AssistantMessage, ToolCall, arguments_text
from simkit.errors import ModelFault, ServerFailed, Unreachable
from simkit.models import ChatResponse, FinishReason
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply

READING = ReplyContext("http://there", "m")
USAGE = {"prompt_tokens": 40, "completion_tokens": 2}


def read(choice: Any, **more: Any) -> ChatResponse:
    return read_reply(HttpReply(200, {}, orjson.dumps({"choices": [choice], "usage": USAGE, **more})), READING)


def of(finish: Any = "stop", **message: Any) -> ChatResponse:
    return read({"message": {"role": "assistant", **message}, "finish_reason": finish})


@pytest.mark.parametrize(
    ("finish", "reasons"),
    [
        ("stop", ("STOP", "eos_token", "end-turn", "EndTurn", "COMPLETE", "FINISH_REASON_STOP", {"type": "stop"})),
        ("length", ("MAX_TOKENS", "FinishReason.MAX_TOKENS", "limit", "model_length", "model_context_window_exceeded")),
        ("content_filter", ("SAFETY", "RECITATION", "ERROR_TOXIC", "guardrail_intervened", "sensitive")),
        ("refusal", ("refusal", "Refused")),
        ("unknown", ("made up", 7, ["stop"], "FINISH_REASON_UNSPECIFIED", "OTHER")),
    ],
)
def test_finish_reasons_of_all_servers(finish: FinishReason, reasons: tuple[Any, ...]) -> None:
    for reason in reasons:
        response = of(reason, content="Which day?")
        assert (response.finish, response.message) == (finish, AssistantMessage.of("Which day?")), reason
        assert [doubt.partition(":")[0] for doubt in response.doubts] == ["unknown_finish"] * (finish == "unknown")


@pytest.mark.parametrize(
    "reason",
    ["error", "ABORT", "MALFORMED_FUNCTION_CALL", "insufficient_system_resource", "load", "TIMEOUT", "network_error"],
)
def test_a_reply_that_failed_halfway_is_a_failed_attempt_and_is_billed(reason: str) -> None:
    with pytest.raises(ServerFailed, match=f"http://there.*{reason}") as caught:
        of(reason, content="Which d")
    assert caught.value.usage is not None
    assert caught.value.usage.prompt_tokens == 40


def test_an_error_in_a_choice_is_that_error() -> None:
    with pytest.raises(Unreachable, match="Provider gone") as caught:
        read({"message": {"content": "Whi"}, "error": {"message": "Provider gone", "code": 502}})
    assert caught.value.usage is not None
    with pytest.raises(ModelFault):
        read({"message": {"content": "Whi"}, "finish_reason": "stop"}, error={"message": "later", "code": 500})


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Which day?"}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            None,
            "Which ",
            {"type": "text", "text": "day?"},
        ],
        [{"type": "reasoning", "summary": [{"text": "hm"}]}, {"type": "output_text", "text": "Which day?"}],
        [{"type": "text", "text": "<think>hm"}, {"type": "text", "text": "</think>Which day?"}],
    ],
)
def test_parts_become_text_and_reasoning(content: Any) -> None:
    response = of(content=content)
    assert (response.message.content, response.reasoning, response.finish) == ("Which day?", "hm", "stop")


def test_parts_that_are_no_text_stay_and_calls_in_parts_are_calls() -> None:
    image = {"type": "image_url", "image_url": {"url": "u"}}
    assert of(content=[{"type": "text", "text": "a"}, image]).message.to_openai()["content"][1] == image
    used = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    assert of(content=[used]).message.tool_calls == (ToolCall.of("t", "f", '{"a": 1}'),)
    assert of(content=[{"type": "refusal", "refusal": "No."}]).finish == "refusal"
    signed = {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert (of(content=[signed, "a"]).message.model_extra or {})["thinking_blocks"] == [signed]


@pytest.mark.parametrize(
    "call",
    [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "a", "name": "f", "arguments": '{"x": 1}'},
        {"id": "a", "type": "function", "name": "f", "parameters": {"x": 1}},
        {"id": "a", "function": "f", "arguments": {"x": 1}},
        {"id": "a", "function": {"name": "f", "arguments": '"{\\"x\\": 1}"'}},
        {"id": "a", "function": {"name": "f", "arguments": [{"x": 1}]}},
    ],
)
def test_calls_in_every_form(call: Any) -> None:
    message = of("tool_calls", content=None, tool_calls=[None, call]).message
    assert message.tool_calls is not None
    assert [(one.id, one.name, one.parse_arguments()) for one in message.tool_calls] == [("a", "f", {"x": 1})]


@pytest.mark.parametrize("arguments", ["null", " null ", "None", None, [], ""])
def test_no_arguments_in_every_form(arguments: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    made = of(content=None, tool_calls=[call]).message.tool_calls
    assert made is not None
    assert [one.parse_arguments() for one in made] == [{}]


@pytest.mark.parametrize("text", ['{"x": 1}', '{"x": ', "[1]", '"words"', '"[1]"', "7", '"'])
def test_arguments_that_are_something_else_stay_as_written(text: str) -> None:
    assert arguments_text(text) == text


def test_the_older_form_of_a_call_and_calls_in_a_choice_of_their_own() -> None:
    older = of("function_call", content=None, function_call={"name": "f", "arguments": "{}"})
    assert (older.finish, older.message.tool_calls) == ("tool_calls", (ToolCall.of("call_0", "f", "{}"),))
    call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    body = {"choices": [{"message": {"content": "I look."}}, {"message": {"content": None, "tool_calls": [call]}}]}
    response = read_reply(HttpReply(200, {}, orjson.dumps(body)), READING)
    assert response.message == AssistantMessage.of("I look.", (ToolCall.of("a", "f", "{}"),))
    assert response.doubts == ("several_choices: 2",)


def test_ids_that_are_missing_or_double_are_made_up() -> None:
    function = {"name": "f", "arguments": "{}"}
    calls = [*({"id": name, "function": function} for name in ("a", "a", 5)), {"function": function}]
    made = of(content=None, tool_calls=calls).message.tool_calls or ()
    assert [call.id for call in made] == ["a", "call_1", "5", "call_3"]


def test_integers_of_any_length_are_exact_in_arguments_and_own_fields() -> None:
    number = 12345678901234567890123
    body = (
        b'{"choices":[{"message":{"content":null,"mark":{"n":%d},"tool_calls":[{"id":"a","function":{"name":"f",'
        % number
    )
    body += b'"arguments":{"n":%d}}}]}}]}' % number
    message = read_reply(HttpReply(200, {}, body), READING).message
    assert message.tool_calls is not None
    assert message.tool_calls[0].parse_arguments() == {"n": number}
    assert (message.model_extra or {})["mark"] == {"n": number}
    assert str(number) in message.to_json().decode()


def test_a_providers_own_fields_are_kept_and_empty_ones_are_not() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s"}]
    google = {"google": {"thought_signature": "s"}}
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": google}
    message = of(
        content="a", reasoning="hm", reasoning_details=details, provider_specific_fields={"x": None}, tool_calls=[call]
    ).message
    assert message.to_openai() == {
        "role": "assistant",
        "content": "a",
        "tool_calls": [{**call}],
        "reasoning_details": details,
        "reasoning_content": "hm",
    }
    assert ChatResponse.from_json(of(content="a", reasoning="hm").to_json()).reasoning == "hm"
    plain = of(content="a", refusal=None, annotations=[], audio=None, function_call=None, reasoning_content="")
    assert plain.message.to_json() == AssistantMessage.of("a").to_json()


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"content": "<think>hm</think>a", "reasoning_content": "hm"}, "hm"),
        ({"content": "<think>y</think>a", "reasoning": "x"}, "x\n\ny"),
        ({"content": "a", "thinking": "hm"}, "hm"),
        ({"content": "a", "reasoning_content": [{"type": "text", "text": "hm"}]}, "hm"),
        ({"content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}, "hm"),
    ],
)
def test_reasoning_stands_once_wherever_it_came_from(message: dict[str, Any], reasoning: str) -> None:
    response = of(**message)
    assert (response.reasoning, response.message.content) == (reasoning, "a")


def test_choices_without_a_message() -> None:
    assert read({"delta": {"content": "a"}, "finish_reason": "stop"}).message == AssistantMessage.of("a")
    assert read({"text": "a", "finish_reason": "stop"}).message == AssistantMessage.of("a")
    filtered = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False}}
    assert read({"finish_reason": "content_filter", "content_filter_results": filtered}).finish == "content_filter"
    assert read({"message": {"content": "a"}, "content_filter_results": filtered}).finish == "content_filter"
    harmless = {"hate": {"filtered": False}, "error": {"code": "content_filter_error"}}
    assert read({"message": {"content": "a"}, "content_filter_results": harmless}).finish == "stop"


def test_a_lone_surrogate_anywhere_is_replaced() -> None:
    body = rb'{"choices":[{"message":{"content":"a\ud83d","own":{"b":"\udc00"}}}]}'
    message = read_reply(HttpReply(200, {}, body), READING).message
    assert orjson.loads(message.to_json()) == {"role": "assistant", "content": "a\ufffd", "own": {"b": "\ufffd"}}


@pytest.mark.parametrize(
    "choice",
    [
        7,
        None,
        {"message": []},
        {"message": "x"},
        {"message": {"content": 7}},
        {"message": {"content": [7]}},
        {"message": {"content": [{"type": 7}]}},
        {"message": {"content": None, "tool_calls": 7}},
        {"message": {"content": None, "tool_calls": [7]}},
        {"message": {"content": None, "tool_calls": [{"function": {"name": None}}]}},
        {"message": {"content": None, "tool_calls": "x"}},
        {"message": {"content": None, "function_call": 7}},
        {"message": {"content": "x"}, "finish_reason": {"a": [1]}, "logprobs": "x"},
        {"message": {"content": "x", "deep": orjson.Fragment(b"[" * 300 + b"]" * 300), "__class__": 1, "_json": "y"}},
    ],
)
def test_a_hostile_shape_is_an_answer_or_a_malformed_one(choice: Any) -> None:
    try:
        response = read(choice)
    except ModelFault:
        return
    assert response.message.content == "x"
    assert ChatResponse.from_json(orjson.loads(response.json_text())).message == response.message
