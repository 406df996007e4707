from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from players_models import HELLO, KEY, Timeline, key
from pydantic import SecretStr

from simkit.core.events import ModelCall
from simkit.core.messages import UserMessage
from simkit.core.recorder import MemoryRecorder
from simkit.errors import AuthFailed, BudgetExhausted, EndpointDown, ModelFault, ReplayMiss, UsageError
from simkit.models import CallKey, ChatModel, ChatRequest, Clock, Sampling
from simkit.models.config import Adaptive, ModelConfig, RetryPolicy
from simkit.models.factory import Endpoints, ModelContext, open_model
from simkit.models.middleware.budget import Allowance, Allowances, Budget
from simkit.models.middleware.replay import Recording
from simkit.models.providers.openai import Endpoint
from simkit.store.encoding import encode
from simkit.testing.behaviour import Behaviour, Faults
from simkit.testing.server import serve, serve_process

pytestmark = pytest.mark.anyio

SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def options(base_url: str, **more: Any) -> ModelConfig:
    return ModelConfig(base_url=base_url, api_key=SecretStr(SECRET), **more)


def asked(number: int, turn: int = 0) -> ChatRequest:
    return ChatRequest(messages=(*HELLO.messages, UserMessage.of(f"{number}, {turn}")), seed=number)


async def converse(model: ChatModel, conversations: int, turns: int = 3) -> dict[str, str]:
    """The texts of all answers, of so many conversations at once."""
    texts: dict[str, str] = {}

    async def one(number: int) -> None:
        for turn in range(turns):
            response = await model.complete(asked(number, turn), key(task=f"t{number}", turn=turn))
            texts[f"{number}/{turn}"] = str(response.message.content)

    async with anyio.create_task_group() as tasks:
        for number in range(conversations):
            tasks.start_soon(one, number)
    return texts


def calls(recorder: MemoryRecorder) -> list[ModelCall]:
    return [event for event in recorder.events if isinstance(event, ModelCall)]


FAULTS = Faults(
    rate_limited=0.05,
    rate_limited_bare=0.05,
    failed=0.05,
    dropped=0.05,
    half=0.05,
    slow=0.02,
    malformed=0.05,
    wrong_type=0.03,
)


async def test_every_conversation_gets_the_same_answers_however_the_endpoint_behaves() -> None:
    line = Timeline()
    async with serve() as calm, open_model("openai/m", options(calm.base_url)) as model:
        right = await converse(model, 30)
    async with serve(Behaviour(faults=FAULTS, retry_after=0.01, slow_seconds=0.01)) as server:
        recorder = MemoryRecorder()
        async with (
            Endpoints(clock=line.clock) as endpoints,
            open_model(
                "openai/m", options(server.base_url), ModelContext(recorder=recorder, run_id="run"), endpoints=endpoints
            ) as model,
        ):
            assert await converse(model, 30) == right
            metrics = endpoints.metrics
        stats = await server.stats()
    assert (stats.repeated, stats.answered, metrics.calls) == (0, 90, 90)
    assert stats.requests < 2 * 90
    failed = [call for call in calls(recorder) if call.error]
    assert len(calls(recorder)) == stats.requests
    assert (
        len(failed) == metrics.rate_limited + metrics.failed == sum(stats.faults.values()) - stats.faults.get("slow", 0)
    )
    assert len({call.error.partition(":")[0] for call in failed if call.error}) >= 3
    assert metrics.usage.tokens == stats.prompt_tokens + stats.completion_tokens


async def test_a_recording_answers_without_the_server_and_strictly() -> None:
    recorder = MemoryRecorder()
    async with serve() as server:
        async with open_model(
            "openai/m", options(server.base_url), ModelContext(recorder=recorder, run_id="run")
        ) as model:
            texts = await converse(model, 5)
        recording = Recording.of("run", calls(recorder))
        async with open_model("openai/m", options(server.base_url), ModelContext(recording=recording)) as model:
            assert await converse(model, 5) == texts
            await model.complete(asked(99), KEY)
        assert (await server.stats()).requests == 16
    again = MemoryRecorder()
    closed = options("http://127.0.0.1:9")
    async with open_model(
        "openai/m", closed, ModelContext(recorder=again, run_id="b", recording=recording, strict=True)
    ) as model:
        assert await converse(model, 5) == texts
        with pytest.raises(ReplayMiss, match="has no call 2 of the agent"):
            await model.complete(asked(99), KEY)
    assert [call.error is None for call in calls(again)] == [True] * 15 + [False]


async def test_two_models_of_one_endpoint_share_its_limit() -> None:
    async with serve(Behaviour(latency=0.005)) as server, Endpoints() as endpoints:
        narrow = options(server.base_url, api_concurrency=3)
        async with (
            open_model("openai/a", narrow, endpoints=endpoints) as agent,
            open_model("openai/b", narrow, endpoints=endpoints) as user,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(converse, agent, 10)
            tasks.start_soon(converse, user, 10)
        stats = await server.stats()
    assert (stats.requests, stats.in_flight_max, stats.connections) == (60, 3, 4)  # the fourth asked for the stats


async def test_an_adaptive_limit_finds_the_capacity() -> None:
    line = Timeline()
    async with serve(Behaviour(latency=0.002, capacity=8)) as server, Endpoints(clock=line.clock) as endpoints:
        chosen = options(server.base_url, api_concurrency=Adaptive(start=64), retry=RetryPolicy(max_retries=50))
        async with open_model("openai/m", chosen, endpoints=endpoints) as model:
            assert len(await converse(model, 40)) == 120
        assert endpoints.metrics.limit < 64
        assert endpoints.metrics.rate_limited > 0


async def test_a_budget_is_never_exceeded_and_says_so(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"models": {"m": {"input": 1000, "output": 1000}}}')
    budget = Budget(Allowances(run=Allowance(cost=2.0)))
    chosen = {"prices": prices, "max_tokens": 30, "api_concurrency": 50}
    async with serve(Behaviour(latency=0.001)) as server:
        async with open_model("openai/m", options(server.base_url, **chosen), ModelContext(budget=budget)) as model:
            with pytest.raises(ExceptionGroup) as caught:
                await converse(model, 40)
        stats = await server.stats()
    assert caught.group_contains(BudgetExhausted, match=r"--max-cost")
    billed = (stats.prompt_tokens + stats.completion_tokens) / 1000
    assert 1.0 < billed <= 2.0
    assert budget.spent.cost >= billed - 1e-9


async def test_choices_of_the_options_are_used_where_a_request_makes_none() -> None:
    recorder = MemoryRecorder()
    config = ModelConfig(temperature=0.3, top_p=0.9, extra_body={"a": 1})
    async with open_model("scripted/hi", config, ModelContext(recorder=recorder, run_id="run")) as model:
        request = ChatRequest(messages=HELLO.messages, sampling=Sampling(temperature=0.0, extra_body={"b": 2}))
        await model.complete(request, KEY)
    (call,) = calls(recorder)
    assert call.request is not None
    assert call.request["digest"]["settings"] == {"temperature": 0.0, "top_p": 0.9, "a": 1, "b": 2}


async def test_nobody_there_is_one_clear_error() -> None:
    line = Timeline()
    async with Endpoints(clock=line.clock) as endpoints:
        chosen = options("http://127.0.0.1:9/v1", retry=RetryPolicy(down_at_start=30))
        async with open_model("openai/m", chosen, endpoints=endpoints) as model:
            with pytest.raises(EndpointDown, match=r"http://127\.0\.0\.1:9 cannot be reached: .* the run stops here"):
                await model.complete(HELLO, KEY)


async def test_a_server_that_comes_back_is_found_again() -> None:
    waiting, back = anyio.Event(), anyio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await back.wait()

    async with Endpoints(clock=Clock(sleep=sleep)) as endpoints:
        async with serve() as server, open_model("openai/m", options(server.base_url), endpoints=endpoints) as model:
            await model.complete(asked(1), KEY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(model.complete, asked(2), KEY)
            await waiting.wait()
            async with serve(port=server.port) as again:
                back.set()
                while endpoints.metrics.calls < 2:
                    await anyio.lowlevel.checkpoint()
                assert (await again.stats()).answered == 1


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_the_key_is_nowhere_but_in_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    recorder, line = MemoryRecorder(), Timeline()
    async with serve(Behaviour(key="another")) as server, Endpoints(clock=line.clock) as endpoints:
        chosen = options(server.base_url, record_requests=True)
        async with open_model(
            "openai/m", chosen, ModelContext(recorder=recorder, run_id="run"), endpoints=endpoints
        ) as model:
            with pytest.raises(AuthFailed, match=r"provided: \[key\].*Check OPENAI_API_KEY") as caught:
                await model.complete(HELLO, KEY)
        assert (await server.stats()).faults == {"key": 1}
    left = [*traceback.format_exception(caught.value), caplog.text, repr(chosen), repr(endpoints), repr(model)]
    left += [encode(event).decode() for event in recorder.events]
    assert not [text for text in left if SECRET in text]


async def test_a_right_key_opens() -> None:
    async with serve(Behaviour(key=SECRET)) as server, open_model("openai/m", options(server.base_url)) as model:
        assert (await model.complete(HELLO, KEY)).message.content


# --- names and options ------------------------------------------------------------------------------------------------


async def test_scripted_models() -> None:
    async with open_model("scripted/first|second") as model:
        assert (await model.complete(HELLO, KEY)).message.content == "first"
        assert model.name == "scripted/first|second"


async def test_calls_of_models_without_an_endpoint_are_counted() -> None:
    async with Endpoints() as endpoints, open_model("scripted/Hello.|Bye.", endpoints=endpoints) as model:
        answers = [await model.complete(HELLO, key(turn=turn)) for turn in (1, 2)]
    assert endpoints.metrics.calls == 2
    assert endpoints.metrics.usage.completion_tokens == sum(answer.usage.completion_tokens for answer in answers)


async def test_a_replay_names_the_recording_that_has_no_calls() -> None:
    context = ModelContext(run_id="replaying", recording=Recording("recorded"), strict=True)
    async with open_model("scripted/Hello.", context=context) as model:
        with pytest.raises(ReplayMiss, match="the recording of `recorded` has no model calls"):
            await model.complete(HELLO, KEY)


async def test_a_script_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('["from a file"]')
    async with open_model(f"scripted/{path}") as model:
        assert (await model.complete(HELLO, KEY)).message.content == "from a file"
    path.write_text('{"a": 1}')
    with pytest.raises(UsageError, match="must be a JSON list of texts"):
        async with open_model(f"scripted/{path}"):
            pass


OWN = """
from simkit.errors import ServerFailed
from simkit.core.messages import AssistantMessage
from simkit.models import ChatResponse

class Mine:
    name = "mine"

    def __init__(self, word: str = "x") -> None:
        self.word, self.asked = word, 0

    async def complete(self, request, key):
        self.asked += 1
        if self.asked == 1:
            raise ServerFailed("the first time always fails")
        return ChatResponse.of(AssistantMessage.of(self.word), "mine")

class NoModel:
    pass
"""


async def test_a_model_of_the_users_own_gets_all_the_wrappers(tmp_path: Path) -> None:
    path, recorder, line = tmp_path / "own.py", MemoryRecorder(), Timeline()
    path.write_text(OWN)
    async with (
        Endpoints(clock=line.clock) as endpoints,
        open_model(
            f"{path}:Mine,word=mine", context=ModelContext(recorder=recorder, run_id="r"), endpoints=endpoints
        ) as model,
    ):
        assert (await model.complete(HELLO, KEY)).message.content == "mine"
    assert [call.attempt for call in calls(recorder)] == [0, 1]
    with pytest.raises(UsageError, match="is not a model: it needs"):
        async with open_model(f"{path}:NoModel"):
            pass


@pytest.mark.parametrize("spec", ["gpt-4o", "openai/", "openai", "scripted/", ""])
async def test_names_that_are_none(spec: str) -> None:
    with pytest.raises(UsageError, match="names no model; write openai/NAME"):
        async with open_model(spec):
            pass


async def test_openai_without_a_key_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"no key for api\.openai\.com; set OPENAI_API_KEY"):
        async with open_model("openai/gpt-4o"):
            pass


async def test_more_connections_than_the_process_may_open_are_refused_at_once() -> None:
    chosen = options("http://there/v1", api_concurrency=1 << 30)
    with pytest.raises(UsageError, match=r"needs more connections .* raise `ulimit -n` to \d+, or lower it"):
        async with open_model("openai/m", chosen):
            pass


def test_the_environment_is_used_where_the_options_say_nothing() -> None:
    env = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://there/v1", "OPENAI_ORG_ID": "us"}
    endpoint = Endpoint.of(ModelConfig(), env)
    assert (endpoint.base_url, endpoint.secret, endpoint.organization) == ("http://there/v1", SECRET, "us")
    own = Endpoint.of(ModelConfig(base_url="http://here", api_key=SecretStr("k"), organization="me"), env)
    assert (own.base_url, own.secret, own.organization) == ("http://here", "k", "me")
    with pytest.raises(UsageError, match="--request-timeout is 0"):
        ModelConfig(request_timeout=0)


# --- the load server --------------------------------------------------------------------------------------------------


def reply(body: Mapping[str, Any]) -> Mapping[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {"role": "assistant", "content": f"{len(body['messages'])} messages", "tool_calls": [call]}


async def test_the_load_server_answers_with_what_it_is_told() -> None:
    async with serve(Behaviour(reply=reply)) as server, open_model("openai/m", options(server.base_url)) as model:
        response = await model.complete(HELLO, KEY)
    assert (response.message.content, response.finish) == ("2 messages", "tool_calls")
    assert response.usage.prompt_tokens > 0


async def test_the_load_server_repeats_its_faults_in_any_order() -> None:
    async def errors(order: list[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        async with serve(Behaviour(faults=Faults(failed=0.3, too_long=0.3), seed=5)) as server:
            chosen = options(server.base_url, retry=RetryPolicy(max_retries=0))
            async with open_model("openai/m", chosen) as model:
                for number in order:
                    try:
                        found[number] = str((await model.complete(asked(number), KEY)).message.content)
                    except ModelFault as fault:
                        found[number] = type(fault).__name__
        return found

    first = await errors(list(range(20)))
    assert await errors(list(reversed(range(20)))) == first
    assert {"ServerFailed", "ContextTooLong"} < set(first.values())


async def test_the_load_server_in_a_process_of_its_own() -> None:
    async with serve_process("--port", "0", "--latency", "0.001") as server:
        async with open_model("openai/m", options(server.base_url)) as model:
            await model.complete(HELLO, KEY)
            await model.complete(HELLO, KEY)
        stats = await server.stats()
    assert (stats.requests, stats.answered, stats.repeated) == (2, 2, 1)


async def test_a_taken_port_is_told() -> None:
    async with serve() as server:
        with pytest.raises(UsageError, match="cannot listen on port"):
            async with serve(port=server.port):
                pass


def test_shares_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="all together at most 1"):
        Faults(failed=0.6, dropped=0.6)


def test_latencies_follow_their_distribution() -> None:
    behaviour = Behaviour(latency=0.1, spread=1.0)
    assert behaviour.seconds(0.5) == pytest.approx(0.1)
    assert behaviour.seconds(0.8413447) == pytest.approx(0.1 * 2.718281828, rel=1e-4)
    assert CallKey(KEY.turn, "agent", 2) == KEY
