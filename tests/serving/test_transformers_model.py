"""A model behind `transformers serve`, which nobody of this project wrote."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tiny_model import CALLS, END, phrase_id
from transformers_server import TransformersServer

from simkit.core.ids import TurnKey
from simkit.core.messages import ToolMessage, ToolSpec, UserMessage
from simkit.errors import ModelNotServed, OptionRefused, ServerFailed
from simkit.models import CallKey, ChatModel, ChatRequest, ChatResponse, Sampling
from simkit.models.config import ModelConfig, RetryPolicy, TransportChoice
from simkit.models.factory import open_model

pytestmark = pytest.mark.anyio

KEY = CallKey(TurnKey(1, "task", 0, "", 0), "agent")
HELLO = (UserMessage.of("Hello"),)
SEARCH = ToolSpec.of("search_restaurant", "Finds restaurants.", {"food": {"type": "string"}}, ("food",))


@asynccontextmanager
async def opened(
    server: TransformersServer, model: str | None = None, transport: TransportChoice = "auto"
) -> AsyncGenerator[ChatModel]:
    options = ModelConfig(base_url=server.base_url, retry=RetryPolicy(max_retries=0), transport=transport)
    async with open_model(f"openai/{model or server.model}", options) as opened:
        yield opened


async def ask(model: ChatModel, seed: int = 1, **more: Any) -> ChatResponse:
    return await model.complete(ChatRequest(messages=HELLO, seed=seed, **more), KEY)


def saying(phrase: str, tokens: int) -> Sampling:
    """Makes the model say a phrase, so many times."""
    return Sampling(max_tokens=tokens, extra_body={"logit_bias": {str(phrase_id(phrase)): 100.0}})


@pytest.mark.parametrize("transport", ["auto", "httpx2"])
async def test_it_answers_and_bills(server: TransformersServer, transport: TransportChoice) -> None:
    async with opened(server, transport=transport) as model:
        response = await ask(model, sampling=saying("ünd 日本 🙂 ", 3))
    assert response.message.content == "ünd 日本 🙂 ünd 日本 🙂 ünd 日本 🙂"
    assert response.finish == "length"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (5, 3)
    assert response.model.startswith(str(server.model))


async def test_a_seed_repeats_and_another_one_differs(server: TransformersServer) -> None:
    """Seeds of 63 bits, of which the server gets 31."""
    async with opened(server) as model:
        first, again = [[await ask(model, seed=(1 << 62) + n) for n in range(6)] for _ in range(2)]
    assert [each.message.content for each in first] == [each.message.content for each in again]
    assert len({each.message.content for each in first}) > 1


async def test_parallel_calls_come_back_as_calls_and_go_into_the_next_request(server: TransformersServer) -> None:
    async with opened(server) as model:
        response = await ask(model, tools=(SEARCH,), sampling=saying(CALLS[0], 2))
        calls = response.message.tool_calls or ()
        assert [call.name for call in calls] == ["search_restaurant"] * 2
        assert {call.function.arguments for call in calls} == {'{"food": "thai", "pricerange": "cheap"}'}
        assert len({call.id for call in calls}) == 2
        assert response.finish == "tool_calls"
        results = [ToolMessage.of(call.id, "[]") for call in calls]
        request = ChatRequest(
            messages=(*HELLO, response.message, *results), tools=(SEARCH,), sampling=saying(CALLS[2], 1)
        )
        final = await model.complete(request, KEY)
        assert [call.name for call in final.message.tool_calls or ()] == ["no_such_tool"]
        assert final.usage.prompt_tokens > response.usage.prompt_tokens


async def test_a_reply_that_ends_at_once_is_empty(server: TransformersServer) -> None:
    async with opened(server) as model:
        response = await ask(model, sampling=saying(END, 4))
    assert (response.finish, response.usage.completion_tokens) == ("empty", 1)


async def test_a_reply_stops_at_a_text(server: TransformersServer) -> None:
    speaking = saying("SPEAK Which day? ", 5)
    async with opened(server) as model:
        response = await ask(model, sampling=Sampling(max_tokens=5, stop=("day?",), extra_body=speaking.extra_body))
    assert (response.message.content, response.finish) == ("SPEAK Which day?", "stop")


async def test_every_choice_it_does_not_know_is_taken(server: TransformersServer) -> None:
    """It ignores them; what counts is that it refuses none of the names simkit sends."""
    sampling = Sampling(
        temperature=0,
        top_p=0.9,
        max_tokens=4,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        reasoning_effort="low",
        parallel_tool_calls=True,
        logprobs=True,
    )
    async with opened(server) as model:
        response = await ask(
            model, tools=(SEARCH,), tool_choice="auto", response_format={"type": "text"}, sampling=sampling
        )
    assert response.usage.prompt_tokens > 0
    assert response.logprobs is None


async def test_a_field_it_does_not_have_is_refused_with_its_name(server: TransformersServer) -> None:
    async with opened(server) as model:
        with pytest.raises(OptionRefused, match=r"422 \(request .*\): Unexpected fields in the request: \{'top_q'\}"):
            await ask(model, sampling=Sampling(extra_body={"top_q": 1}))


async def test_what_makes_it_fail_is_its_failure(server: TransformersServer) -> None:
    """It answers 500 in plain text to numbers it expected with a point."""
    async with opened(server) as model:
        with pytest.raises(ServerFailed, match="500: Internal Server Error"):
            await ask(model, sampling=Sampling(extra_body={"logit_bias": {"1": 100}}))


async def test_another_model_stops_the_run(server: TransformersServer) -> None:
    async with opened(server, "another") as model:
        with pytest.raises(
            ModelNotServed, match=r"400 \(request .*\): Server is pinned to .* Check the model's name \(`another`\)"
        ):
            await ask(model)


async def test_a_wrong_base_url_stops_the_run(server: TransformersServer) -> None:
    wrong = TransformersServer(server.model, server.base_url.removesuffix("/v1"))
    async with opened(wrong) as model:
        with pytest.raises(ModelNotServed, match=r"404 \(request .*\): Not Found.*\(most end in /v1\)"):
            await ask(model)
