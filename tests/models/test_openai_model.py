from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from players_models import HELLO, KEY, Canned
from pydantic import SecretStr

from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec, UserMessage
from simkit.errors import (
    AuthFailed,
    BadRequest,
    ContextTooLong,
    MalformedReply,
    ModelNotServed,
    PromptFiltered,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    SimkitError,
    Unreachable,
    UsageError,
)
from simkit.models import ChatResponse, FinishReason, Sampling, Usage
from simkit.models.prices import Price, Prices
from simkit.models.providers.dialect import known_dialect
from simkit.models.providers.error_details import retry_after
from simkit.models.providers.openai import Endpoint, OpenAIModel
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply

pytestmark = pytest.mark.anyio

SECRET = "sk-very-secret"
READING = ReplyContext("http://there", "m", SECRET, now=lambda: 784111777.0)


def completion(message: Mapping[str, Any], finish: str | None = "stop", **more: Any) -> HttpReply:
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": finish,
        **more.pop("choice", {}),
    }
    return HttpReply(200, {}, orjson.dumps({"model": "m-2026", "choices": [choice], **more}))


def read(message: Mapping[str, Any], finish: str | None = "stop", **more: Any) -> ChatResponse:
    return read_reply(completion(message, finish, **more), READING)


# --- what is sent -----------------------------------------------------------------------------------------------------


async def sent(base_url: str, model: str = "m", **options: Any) -> dict[str, Any]:
    transport = Canned(completion({"content": "hi"}))
    tool = ToolSpec.of("f", "Does it.", {"a": {"type": "string"}})
    sampling = Sampling(
        temperature=0.0,
        max_tokens=9,
        stop=("X",),
        reasoning_effort="low",
        parallel_tool_calls=False,
        extra_body={"top_k": 5},
    )
    request = replace(HELLO, tools=(tool,), tool_choice="f", sampling=sampling, seed=KEY.seed)
    await OpenAIModel(model, Endpoint(base_url=base_url), transport, **options).complete(request, KEY)
    return transport.posted[0]


async def test_the_body_is_the_request_in_openai_form() -> None:
    body = await sent("http://localhost:8000/v1")
    assert body.pop("messages") == [message.to_openai() for message in HELLO.messages]
    assert [tool["function"]["name"] for tool in body.pop("tools")] == ["f"]
    assert body == {
        "model": "m",
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["X"],
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "seed": KEY.seed & 0x7FFFFFFF,
        "top_k": 5,
    }


async def test_the_least_request() -> None:
    transport = Canned(completion({"content": "hi"}))
    await OpenAIModel("m", Endpoint(base_url="http://x"), transport).complete(HELLO, KEY)
    assert transport.posted == [{"model": "m", **HELLO.to_openai()}]


@pytest.mark.parametrize(
    ("base_url", "has", "lacks"),
    [
        ("https://api.openai.com/v1", {"max_completion_tokens": 9, "seed": KEY.seed}, "max_tokens"),
        ("https://me.openai.azure.com/openai/v1", {"max_completion_tokens": 9}, "max_tokens"),
        ("https://api.mistral.ai/v1", {"random_seed": KEY.seed & 0x7FFFFFFF, "max_tokens": 9}, "seed"),
        ("https://api.deepseek.com", {"max_tokens": 9}, "seed"),
        ("http://notopenai.com/v1", {"max_tokens": 9}, "max_completion_tokens"),
    ],
)
async def test_what_is_known_of_endpoints_before_the_first_call(base_url: str, has: dict[str, Any], lacks: str) -> None:
    body = await sent(base_url)
    assert has.items() <= body.items()
    assert lacks not in body


def test_without_the_table_of_known_endpoints_the_form_is_plain() -> None:
    assert known_dialect("api.openai.com", "m", table=()).settings({"seed": 1, "max_tokens": 2}) == {
        "seed": 1,
        "max_tokens": 2,
    }


# --- what comes back --------------------------------------------------------------------------------------------------


def test_a_plain_answer() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    response = read({"content": "hi", "refusal": None, "annotations": []}, usage=usage)
    assert response == ChatResponse(message=AssistantMessage.of("hi"), usage=Usage(10, 5, 4), model="m-2026")


def test_parallel_calls_in_every_form_servers_send() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}, "index": 0},
        {"id": "", "function": {"name": "g", "arguments": {"y": "ü"}}},
        {"function": {"name": "h"}},
    ]
    response = read({"content": None, "tool_calls": calls}, "stop")
    assert response.finish == "tool_calls"
    assert response.message == AssistantMessage.of(
        None,
        (ToolCall.of("a", "f", '{"x": 1}'), ToolCall.of("call_1", "g", {"y": "ü"}), ToolCall.of("call_2", "h", "{}")),
    )


@pytest.mark.parametrize(
    ("message", "told", "finish"),
    [
        ({"content": "hi"}, "stop", "stop"),
        ({"content": "hi"}, None, "stop"),
        ({"content": "hi"}, "eos", "stop"),
        ({"content": "hi"}, "never seen", "unknown"),
        ({"content": "cut o"}, "length", "length"),
        ({"content": None}, "length", "length"),
        ({"content": ""}, "content_filter", "content_filter"),
        ({"content": ""}, "stop", "empty"),
        ({"content": None}, "stop", "empty"),
        ({"content": None, "tool_calls": []}, "tool_calls", "empty"),
        ({"content": None, "refusal": "I cannot."}, "stop", "refusal"),
    ],
)
def test_how_replies_end(message: dict[str, Any], told: str | None, finish: FinishReason) -> None:
    assert read(message, told).finish == finish


def test_words_of_a_refusal_stay_in_the_message() -> None:
    assert read({"content": None, "refusal": "I cannot."}).message.to_openai()["refusal"] == "I cannot."


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_a_field_of_the_message(name: str) -> None:
    response = read({"content": "hi", name: "hm"})
    assert response.reasoning == "hm"
    assert response.message.to_openai() == {"role": "assistant", "content": "hi", "reasoning_content": "hm"}
    assert ChatResponse.from_json(response.to_json()) == response


def test_log_probabilities() -> None:
    logprobs = {"content": [{"token": "h", "logprob": -0.5}, {"token": "i", "logprob": -1}]}
    assert read({"content": "hi"}, choice={"logprobs": logprobs}).logprobs == (-0.5, -1.0)
    assert read({"content": "hi"}, choice={"logprobs": None}).logprobs is None


def test_an_emoji_cut_in_half_is_mended() -> None:
    body = rb'{"choices": [{"message": {"content": "ok \ud83d"}, "finish_reason": "length"}]}'
    response = read_reply(HttpReply(200, {}, body), READING)
    assert response.message.content == "ok \ufffd"
    assert orjson.loads(response.message.to_json())["content"] == "ok \ufffd"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"<html>Be right back</html>",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": null, "tool_calls": [{"id": "a"}]}}]}',
        b'{"choices": "x"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_completion_may_be_asked_again(body: bytes) -> None:
    with pytest.raises(MalformedReply, match="http://there") as caught:
        read_reply(HttpReply(200, {"content-type": "text/html"}, body), READING)
    assert caught.value.trouble == "transient"
    assert len(str(caught.value)) < 600


def refused(status: int, error: object = None, headers: dict[str, str] | None = None) -> HttpReply:
    return HttpReply(status, headers or {}, orjson.dumps(error if error is not None else {}))


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (refused(401, {"error": {"message": "Incorrect API key"}}), AuthFailed, "Incorrect API key.* OPENAI_API_KEY"),
        (refused(403, {"detail": "not yours"}), AuthFailed, "not yours"),
        (refused(400, [{"error": {"message": "API key not valid. Pass one."}}]), AuthFailed, "API key not valid"),
        (refused(403, {"error": {"message": "input was flagged"}}), PromptFiltered, "flagged"),
        (HttpReply(413, {}, b"Request Entity Too Large"), ContextTooLong, "Entity Too Large"),
        (refused(404, {"error": {"message": "no model m"}}), ModelNotServed, "no model m.*base URL"),
        (refused(308, None, {"location": "https://new/v1"}), ModelNotServed, "points to https://new/v1"),
        (refused(402, {"error": {"message": "Insufficient Balance"}}), QuotaExhausted, "Top up"),
        (refused(429, {"error": {"message": "x", "code": "insufficient_quota"}}), QuotaExhausted, "Top up"),
        (refused(429, {"error": {"message": "slow down"}}), RateLimited, "slow down"),
        (refused(500, {"error": "boom"}), ServerFailed, "boom"),
        (refused(503), Unreachable, "answered 503"),
        (refused(529), Unreachable, "answered 529"),
        (HttpReply(502, {"content-type": "text/html"}, b"<html>nginx</html>"), Unreachable, "answered 502$"),
        (refused(400, {"error": {"message": "bad tool schema"}}), BadRequest, "bad tool schema"),
        (refused(400, {"detail": "Server is pinned to 'a'; requested 'm'."}), ModelNotServed, "model's name"),
        (refused(400, {"error": {"message": "Invalid model name passed in model=m"}}), ModelNotServed, "model's name"),
        (refused(400, {"error": {"message": "x", "code": "model_not_found"}}), ModelNotServed, "model's name"),
        (refused(422, {"detail": [{"loc": ["temperature"]}]}), BadRequest, "temperature"),
        (refused(400, {"error": {"message": "x", "code": "context_length_exceeded"}}), ContextTooLong, "larger model"),
        (refused(400, {"message": "maximum context length is 4096 tokens"}), ContextTooLong, "4096"),
        (refused(500, {"error": {"message": "request exceeds the available context size"}}), ContextTooLong, "size"),
        (refused(400, {"error": {"message": "x", "code": "content_filter"}}), PromptFiltered, "content filter"),
        (refused(200, {"error": {"message": "slow down", "code": 429}}), RateLimited, "slow down"),
        (refused(200, {"error": {"message": "upstream"}}), ServerFailed, "upstream"),
    ],
)
def test_errors_are_told_apart(reply: HttpReply, kind: type[SimkitError], told: str) -> None:
    with pytest.raises(kind, match=told) as caught:
        read_reply(reply, READING)
    assert type(caught.value) is kind


def test_a_key_that_a_server_echoes_is_not_shown() -> None:
    for reply in (
        refused(401, {"error": {"message": f"Incorrect API key provided: {SECRET}"}}),
        refused(400, {"detail": SECRET}),
        HttpReply(200, {}, f"<p>{SECRET}".encode()),
        HttpReply(200, {}, f'{{"choices": "{SECRET}"}}'.encode()),
    ):
        with pytest.raises(SimkitError) as caught:
            read_reply(reply, READING)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in repr(READING) + repr(Endpoint(api_key=SecretStr(SECRET)))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT"}, 10.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, READING.now()) == seconds


async def test_a_call_that_the_server_cannot_parse_is_an_empty_answer_with_a_doubt() -> None:
    error = {"message": "no call", "code": "tool_use_failed", "failed_generation": "<function=f{</function>"}
    model = OpenAIModel("m", Endpoint(base_url="http://x"), Canned(refused(400, {"error": error})))
    response = await model.complete(HELLO, KEY)
    assert (response.finish, response.message.content) == ("empty", None)
    assert response.doubts[0].startswith("unparsed_call: ")
    assert "<function=f{</function>" in response.doubts[0]


# --- prices -----------------------------------------------------------------------------------------------------------


async def test_an_answer_comes_with_its_cost() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}
    transport = Canned(completion({"content": "hi"}, usage=usage))
    price = Price(input=2.0, cached=0.5, output=10.0)
    model = OpenAIModel("m-2026-01-31", Endpoint(base_url="http://x"), transport, price=price)
    assert (await model.complete(HELLO, KEY)).usage == Usage(1000, 100, 400, 600 * 2e-6 + 400 * 0.5e-6 + 100 * 10e-6)


def test_prices_by_name_date_and_publisher() -> None:
    prices = Prices.load()
    assert prices.find("gpt-4o-2024-08-06") == prices.find("openai/gpt-4o") == prices.find("gpt-4o") is not None
    assert prices.find("gpt-4o-mini") != prices.find("gpt-4o")
    assert prices.find("my-own") is None


def test_the_users_prices_win(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"gpt-4o": {"input": 1, "output": 2}}}')
    prices = Prices.load(path)
    assert prices.find("gpt-4o") == Price(input=1, output=2)
    assert prices.find("gpt-4o-mini") is not None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": {"m": {"input": -1, "output": 1}}}', '{"models": 1}'])
def test_price_files_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"prices\.json is not a valid price file: .*dollars per million tokens"):
        Prices.load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Prices.load(tmp_path / "none.json")


# --- bytes made once --------------------------------------------------------------------------------------------------


def test_a_message_remembers_its_json_and_copies_do_not() -> None:
    message = UserMessage.of("a")
    assert message.to_json() is message.to_json()
    assert orjson.loads(message.to_json()) == message.to_openai()
    copy = message.model_copy(update={"content": "b"})
    assert orjson.loads(copy.to_json()) == {"role": "user", "content": "b"}
    assert message == UserMessage.of("a")
    assert hash(message) == hash(UserMessage.of("a"))
