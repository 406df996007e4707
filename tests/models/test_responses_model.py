"""What is sent to OpenAI's Responses API, and how its answers are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from players_models import HELLO, KEY

from simkit.core.messages import AssistantMessage, ContentPart, ToolCall, ToolMessage, ToolSpec, UserMessage
from simkit.errors import BadRequest, MalformedReply, PromptFiltered, RateLimited, ServerFailed
from simkit.models import ChatResponse, FinishReason, Sampling, Usage
from simkit.models.config import ModelConfig
from simkit.models.provider import find_provider
from simkit.models.providers.openai_responses import (
    ResponsesEndpoint,
    ResponsesModel,
    ResponsesProvider,
)
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.providers.responses_format import read_responses_reply, to_items, to_responses_body
from simkit.models.transport.http1 import HttpReply

pytestmark = pytest.mark.anyio

READING = ReplyContext("http://there", "m")
TOOL = ToolSpec.of("book", "Books it.", {"day": {"type": "string"}}, ("day",))
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "gAAA",
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "book", "arguments": '{"day": "fri"}'}


def said(words: str, **more: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "output_text", "text": words, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts, **more}


def body(**fields: Any) -> dict[str, Any]:
    sampling = Sampling(**{name: fields.pop(name) for name in list(fields) if name in Sampling.model_fields})
    request = replace(HELLO, sampling=sampling, **fields)
    return to_responses_body("m", request, request.sent_settings())


def read(output: list[dict[str, Any]], **more: Any) -> ChatResponse:
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5}
    data = {"object": "response", "status": "completed", "error": None, "model": "m", "output": output, "usage": usage}
    return read_responses_reply(HttpReply(200, {}, orjson.dumps(data | more)), READING)


def test_a_request_stores_nothing_and_asks_for_encrypted_reasoning() -> None:
    assert body() == {
        "model": "m",
        "input": [{"role": "system", "content": "You are a clerk."}, {"role": "user", "content": "hello"}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_options_have_the_names_of_the_api() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "turn", "strict": True, "schema": {"type": "object"}}}
    made = body(
        tools=(TOOL,),
        tool_choice="book",
        response_format=form,
        seed=7,
        temperature=0.5,
        max_tokens=50,
        reasoning_effort="low",
        parallel_tool_calls=False,
    )
    assert made["tools"][0]["name"] == "book"
    assert made["tool_choice"] == {"type": "function", "name": "book"}
    assert made["text"] == {"format": {"type": "json_schema", **form["json_schema"]}}  # pyright: ignore
    assert (made["temperature"], made["max_output_tokens"], made["parallel_tool_calls"]) == (0.5, 50, False)
    assert made["reasoning"] == {"effort": "low", "summary": "auto"}
    assert "seed" not in made


@pytest.mark.parametrize("option", [{"stop": ("END",)}, {"logprobs": True}, {"presence_penalty": 0.5}])
def test_options_that_the_api_does_not_have_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=next(iter(option))):
        body(**option)


def test_calls_results_and_images_become_items() -> None:
    image = ContentPart.model_validate({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}})
    words = ContentPart.model_validate({"type": "text", "text": "Look."})
    assert to_items((
        UserMessage(role="user", content=(words, image)),
        AssistantMessage.of("Wait.", (ToolCall.of("c1", "book", {"day": "fri"}),)),
        ToolMessage.of("c1", "done"),
    )) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", "image_url": "data:image/png;base64,AA"},
            ],
        },
        {"role": "assistant", "content": "Wait."},
        {"type": "function_call", "call_id": "c1", "name": "book", "arguments": '{"day": "fri"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
    ]  # fmt: skip


def test_a_plain_answer_is_an_ordinary_message() -> None:
    response = read([said("Hello.")])
    assert response.message.to_json() == AssistantMessage.of("Hello.").to_json()
    assert (response.finish, response.usage, response.doubts) == ("stop", Usage(9, 5, 4), ())


OUTPUTS = {
    "reasoning and a call": [REASONING, CALL],
    "reasoning between": [REASONING, said("Wait."), {**REASONING, "id": "rs_2"}, CALL, {**CALL, "call_id": "c2"}],
    "a phase": [said("I look.", phase="commentary"), CALL],
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_items_go_back_as_they_came(output: list[dict[str, Any]]) -> None:
    message = AssistantMessage.model_validate_json(read(output).message.to_json())
    calls = tuple(call.model_copy(update={"id": f"t{at}"}) for at, call in enumerate(message.tool_calls or ()))
    renamed = message.model_copy(update={"tool_calls": calls})
    expected = [
        {"type": "function_call", "call_id": None, "name": "book", "arguments": each["arguments"]}
        if each["type"] == "function_call"
        else each
        for each in output
    ]
    sent = to_items((renamed,))
    assert [each["call_id"] for each in sent if "call_id" in each] == [call.id for call in calls]
    assert [{**each, "call_id": None} if "call_id" in each else each for each in sent] == expected


def test_reasoning_is_kept_apart_and_can_be_left_out() -> None:
    response = read([REASONING, said("Hello.")])
    assert (response.message.content, response.reasoning) == ("Hello.", "Hm.")
    assert to_items((response.message,), reasoning=False) == [{"role": "assistant", "content": "Hello."}]
    changed = response.message.model_copy(update={"content": "Bye."})
    assert to_items((changed,)) == [{"role": "assistant", "content": "Bye."}]


@pytest.mark.parametrize(
    ("reason", "finish", "doubts"),
    [
        ("max_output_tokens", "length", ()),
        ("content_filter", "content_filter", ()),
        ("steered", "unknown", ("unknown_finish: steered",)),
        (None, "unknown", ("unknown_finish: None",)),
    ],
)
def test_an_incomplete_answer_says_why(reason: str | None, finish: FinishReason, doubts: tuple[str, ...]) -> None:
    response = read([said("Hal")], status="incomplete", incomplete_details={"reason": reason})
    assert (response.finish, response.doubts) == (finish, doubts)


def test_a_refusal_and_an_empty_answer_have_their_reasons() -> None:
    refused = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    assert read([refused]).finish == "refusal"
    assert read([REASONING]).finish == "empty"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("rate_limit_exceeded", RateLimited), ("server_error", ServerFailed), ("invalid_prompt", PromptFiltered)],
)
def test_a_failed_response_is_an_error(code: str, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        read([], status="failed", error={"code": code, "message": "no"})


def test_an_answer_that_is_not_finished_is_a_failed_attempt() -> None:
    with pytest.raises(ServerFailed, match="is cancelled, not completed") as caught:
        read([], status="cancelled")
    assert caught.value.usage is not None
    assert caught.value.usage.prompt_tokens == 9


def test_what_is_no_response_is_a_malformed_reply() -> None:
    with pytest.raises(MalformedReply, match="not a response of the Responses API"):
        read_responses_reply(HttpReply(200, {}, b'{"choices": []}'), READING)


async def test_the_provider_posts_to_responses_and_bills_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    provider = find_provider("openai-responses/gpt-5", ModelConfig(base_url="http://there/v1"))
    assert isinstance(provider, ResponsesProvider)
    assert provider.model_name == "gpt-5"
    endpoint = ResponsesEndpoint.of(provider.config)
    assert endpoint.address.url == "http://there/v1/responses"
    posted: list[dict[str, Any]] = []

    class Transport:
        async def post(self, body: bytes) -> HttpReply:
            posted.append(orjson.loads(body))
            usage = {"input_tokens": 1_000_000, "output_tokens": 0}
            return HttpReply(
                200, {}, orjson.dumps({"status": "completed", "output": [said("Hi.END.")], "usage": usage})
            )

        async def aclose(self) -> None:
            return None

    model = ResponsesModel("gpt-5", endpoint, Transport(), price=provider.price)
    request = replace(HELLO, sampling=Sampling(stop=("END",)), seed=3)
    response = await model.complete(request, KEY)
    assert (posted[0]["model"], response.message.content, response.usage.cost) == ("gpt-5", "Hi.", 1.25)
