from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import anyio
import orjson
import pytest
from anyio import wait_all_tasks_blocked

from simkit.core.events import ModelCall
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, SystemMessage, ToolCall, ToolSpec, UserMessage
from simkit.core.recorder import MemoryRecorder
from simkit.errors import ModelFault, UsageError
from simkit.models import (
    CallKey,
    ChatModel,
    ChatRequest,
    ChatResponse,
    Clock,
    RecordedModel,
    Sampling,
    ScriptedModel,
    Usage,
    request_hash,
)
from simkit.models.middleware.request_digest import request_digest

pytestmark = pytest.mark.anyio

KEY = CallKey(TurnKey(7, "MUL0003", 1, "LR", 4), "agent", 2)
HELLO = ChatRequest(messages=(SystemMessage.of("You are a clerk."), UserMessage.of("hello")))


def answered(request: ChatRequest, *texts: str) -> ChatRequest:
    return replace(request, messages=(*request.messages, *(AssistantMessage.of(text) for text in texts)))


# --- requests and responses -------------------------------------------------------------------------------------------


def test_a_request_says_only_what_was_chosen() -> None:
    assert HELLO.to_openai() == {
        "messages": [{"role": "system", "content": "You are a clerk."}, {"role": "user", "content": "hello"}]
    }


def test_a_full_request_in_openai_form() -> None:
    tool = ToolSpec.of("search_hotel", "Finds hotels.", {"area": {"type": "string"}}, ("area",))
    request = replace(
        HELLO,
        tools=(tool,),
        tool_choice="search_hotel",
        response_format={"type": "json_object"},
        sampling=Sampling(temperature=0.0, max_tokens=64, stop=("END",), logprobs=True, extra_body={"top_k": 5}),
        seed=11,
    )
    body = request.to_openai()
    del body["messages"]
    assert body == {
        "tools": [tool.to_openai()],
        "tool_choice": {"type": "function", "function": {"name": "search_hotel"}},
        "response_format": {"type": "json_object"},
        "seed": 11,
        "temperature": 0.0,
        "max_tokens": 64,
        "logprobs": True,
        "stop": ["END"],
        "top_k": 5,
    }
    assert replace(HELLO, tool_choice="required").to_openai()["tool_choice"] == "required"


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"top_p": 1.5}, {"max_tokens": 0}, {"presence_penalty": 3}, {"frequency_penalty": -3}],
)
def test_sampling_outside_its_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", ".")):
        Sampling(**wrong)


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        HELLO.seed = 1  # type: ignore[misc]


def test_the_hash_of_a_request_follows_model_messages_and_choices() -> None:
    same = ChatRequest(messages=(SystemMessage.of("You are a clerk."), UserMessage.of("hello")))
    others = [answered(HELLO, "hi"), replace(HELLO, seed=1), replace(HELLO, sampling=Sampling(temperature=1))]
    base = request_hash("m", HELLO)
    assert base == request_hash("m", same)
    assert len(base) == 32
    hashes = {base, request_hash("n", HELLO), *(request_hash("m", each) for each in others)}
    assert len(hashes) == 5


def test_a_response_comes_back_from_the_store_as_it_was() -> None:
    call = ToolCall.of("c1", "search_hotel", {"area": "north"})
    response = ChatResponse(
        message=AssistantMessage.of(None, (call,)),
        finish="tool_calls",
        usage=Usage(10, 5, 2, 0.25),
        model="m-2026",
        logprobs=(-0.5, -1.0),
    )
    assert ChatResponse.from_json(orjson.loads(orjson.dumps(response.to_json()))) == response
    plain = ChatResponse.of(AssistantMessage.of("hi"))
    assert ChatResponse.from_json(orjson.loads(orjson.dumps(plain.to_json()))) == plain


def test_a_kept_response_of_somebody_else_is_refused() -> None:
    kept = ChatResponse.of(AssistantMessage.of("hi")).to_json() | {"message": {"role": "user", "content": "hi"}}
    with pytest.raises(UsageError, match="a message of the user"):
        ChatResponse.from_json(kept)


def test_usage_adds_up() -> None:
    total = Usage(10, 5, 2, 0.25).plus(Usage(1, 2, 3, 0.5))
    assert total == Usage(11, 7, 5, 0.75)
    assert total.tokens == 18


def test_retries_share_the_seed_of_their_call() -> None:
    assert replace(KEY, attempt=3).seed == KEY.seed == KEY.turn.seed("agent", 2)
    assert replace(KEY, call=3).seed != KEY.seed != replace(KEY, role="user").seed


# --- scripted ---------------------------------------------------------------------------------------------------------


async def test_by_turn_is_a_function_of_the_request() -> None:
    model: ChatModel = ScriptedModel.by_turn(["first", "second"])
    for _ in range(2):
        assert (await model.complete(answered(HELLO, "first"), KEY)).message.content == "second"
        assert (await model.complete(HELLO, KEY)).message.content == "first"


async def test_in_order_gives_each_answer_once_in_every_form() -> None:
    call = AssistantMessage.of(None, (ToolCall.of("c1", "search_hotel", {}),))
    whole = ChatResponse(message=AssistantMessage.of(""), usage=Usage(1, 2), model="other")
    model = ScriptedModel.in_order(["", call, whole, TimeoutError("slow")], name="m")
    assert await model.complete(HELLO, KEY) == ChatResponse.of(AssistantMessage.of(""), "m")
    assert (await model.complete(HELLO, KEY)).finish == "tool_calls"
    assert await model.complete(HELLO, KEY) is whole
    with pytest.raises(TimeoutError, match="slow"):
        await model.complete(HELLO, KEY)


@pytest.mark.parametrize("model", [ScriptedModel.by_turn([], name="m"), ScriptedModel.in_order([], name="m")])
async def test_running_out_is_a_model_fault_that_names_the_call(model: ScriptedModel) -> None:
    with pytest.raises(
        ModelFault, match=r"`m` has no answer left for call 2 of the agent, turn 4 of MUL0003/1 at `LR`"
    ):
        await model.complete(HELLO, KEY)


async def test_a_function_sees_request_and_key() -> None:
    model = ScriptedModel(lambda request, key: f"{len(request.messages)} {key.role}")
    assert (await model.complete(HELLO, KEY)).message.content == "2 agent"


# --- recorded ---------------------------------------------------------------------------------------------------------


def ticking() -> Clock:
    times = iter([2.0, 2.5] * 10)
    return Clock(now=lambda: 1000.0, timer=lambda: next(times))


def recorded(recorder: MemoryRecorder) -> list[ModelCall]:
    return [event for event in recorder.events if isinstance(event, ModelCall)]


async def test_an_answer_is_recorded_whole() -> None:
    response = ChatResponse(message=AssistantMessage.of("hi"), usage=Usage(10, 5, 0, 0.25), model="m-2026")
    recorder = MemoryRecorder()
    model: ChatModel = RecordedModel(ScriptedModel.in_order([response], name="m"), recorder, "run", clock=ticking())
    assert await model.complete(HELLO, replace(KEY, attempt=1)) is response
    assert recorder.events == [
        ModelCall(
            episode_id="run/MUL0003/1",
            branch_id="run/MUL0003/1/LR.4",
            role="agent",
            step=2,
            attempt=1,
            model="m",
            request_hash=request_hash("m", HELLO),
            request={"model": "m", **HELLO.to_openai()},
            response=response.to_json(),
            error=None,
            prompt_tokens=10,
            completion_tokens=5,
            cost=0.25,
            seconds=0.5,
            at=1000.0,
        )
    ]


async def test_a_failed_attempt_is_recorded_and_raised() -> None:
    recorder = MemoryRecorder()
    model = RecordedModel(ScriptedModel.in_order([TimeoutError("slow")], name="m"), recorder, "run", bodies=False)
    with pytest.raises(TimeoutError, match="slow"):
        await model.complete(HELLO, KEY)
    (call,) = recorded(recorder)
    assert (call.error, call.response, call.model) == ("TimeoutError: slow", None, "m")
    assert call.request == request_digest(HELLO, "m")
    assert call.request_hash == request_hash("m", HELLO)


class Silent:
    name = "silent"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_cancelled_attempt_is_recorded() -> None:
    recorder = MemoryRecorder()
    model = RecordedModel(Silent(), recorder, "run")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(model.complete, HELLO, KEY)
        await wait_all_tasks_blocked()
        assert recorder.events == []
        tasks.cancel_scope.cancel()
    assert [call.error for call in recorded(recorder)] == ["cancelled"]


def test_choices_over_defaults() -> None:
    defaults = Sampling(
        temperature=0.7, stop=("A",), logprobs=True, parallel_tool_calls=True, extra_body={"a": 1, "b": 1}
    )
    mine = Sampling(temperature=0.0, parallel_tool_calls=False, extra_body={"b": 2})
    assert mine.over(defaults) == defaults.model_copy(
        update={"temperature": 0.0, "parallel_tool_calls": False, "extra_body": {"a": 1, "b": 2}}
    )
    assert mine.over(Sampling()) == mine
    assert Sampling().over(defaults) == defaults
