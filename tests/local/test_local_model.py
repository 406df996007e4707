"""A local model in a run: asked by many at once, cancelled, closed, recorded, named on the command line."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, UserMessage
from simkit.errors import BadRequest, ContextTooLong, ModelFault, UsageError
from simkit.local.engine import LocalEngine
from simkit.local.job import Job
from simkit.local.model import LocalModel, finish_of
from simkit.local.worker import Worker, parse_local
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling
from simkit.models.config import ModelConfig
from simkit.models.factory import Endpoints, build_model, open_model
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from support.tiny_llama import CONVERSATION, FIND, tiny_engine

pytestmark = pytest.mark.anyio

SHORT = Sampling(max_tokens=15)


def key(number: int) -> CallKey:
    return CallKey(TurnKey(1, f"task{number}", 0, "", 0), "agent")


def request(sampling: Sampling = SHORT, end: int = 2) -> ChatRequest:
    return ChatRequest(messages=CONVERSATION[:end], tools=(FIND,), sampling=sampling)


async def ask_all(model: LocalModel, count: int) -> list[ChatResponse]:
    found: dict[int, ChatResponse] = {}

    async def ask(number: int) -> None:
        found[number] = await model.complete(request(), key(number))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(ask, number)
    return [found[number] for number in range(count)]


async def test_many_at_once_get_what_each_gets_alone(engine: LocalEngine) -> None:
    worker = Worker(engine)
    model = LocalModel(worker, "local/tiny")
    together = await ask_all(model, 20)
    alone = [await model.complete(request(), key(number)) for number in range(20)]
    await anyio.to_thread.run_sync(worker.close)
    assert [each.message for each in together] == [each.message for each in alone]
    assert len({each.tokens for each in together}) > 10, "each has its own seed"
    for each in together:
        assert each.tokens is not None
        assert each.usage.completion_tokens == len(each.tokens.ids) <= 15
        assert each.usage.prompt_tokens == len(each.tokens.prompt_ids)
        assert each.finish in ("stop", "length", "empty")
    assert sum(each.usage.cached_tokens for each in together) > 0, "the prompt that they share was read once"


async def test_tokens_are_kept_beside_logprobs(engine: LocalEngine) -> None:
    worker = Worker(engine)
    model = LocalModel(worker, "local/tiny")
    with_them = await model.complete(request(Sampling(max_tokens=4, logprobs=True)), key(1))
    without = await model.complete(request(Sampling(max_tokens=4)), key(1))
    await anyio.to_thread.run_sync(worker.close)
    assert ChatResponse.from_json(with_them.to_json()) == with_them
    assert with_them.logprobs is not None
    assert with_them.tokens is not None
    assert len(with_them.logprobs) == len(with_them.tokens.ids)
    assert "tokens" not in without.to_json()
    assert without.tokens == with_them.tokens


async def test_a_cancelled_call_leaves_the_batch(engine: LocalEngine) -> None:
    """It is cancelled at its first token; the others go on, and its row is given away."""
    worker = Worker(engine)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: worker.ask(request(Sampling(max_tokens=300)), 1, lambda _: group.cancel_scope.cancel())
            )
        reply = await worker.ask(request(), 2)
        while engine.busy:
            await worker.ask(request(), 3)
    await anyio.to_thread.run_sync(worker.close)
    assert reply.generation.ids
    assert not engine.busy


class Broken(LocalEngine):
    """Fails in its second pass."""

    passes = 0

    def step(self) -> list[Job]:
        self.passes += 1
        if self.passes == 2:
            raise RuntimeError("out of memory, say")
        return super().step()


async def test_a_failed_pass_is_told_to_those_who_wait_and_the_next_work() -> None:
    plain = tiny_engine()
    worker = Worker(Broken(plain.model, plain.chat.tokenizer))
    with pytest.raises(ModelFault, match="out of memory, say; if memory ran out"):
        await worker.ask(request(), 1)
    asked = request()
    (expected,) = plain.generate([plain.chat.prompt(asked.messages, asked.tools)], SHORT, [1])
    assert (await worker.ask(asked, 1)).generation == expected, "nothing of the failed pass is remembered"
    await anyio.to_thread.run_sync(worker.close)


class Endless(LocalEngine):
    """Gives a first token and then no more."""

    passes = 0

    def step(self) -> list[Job]:
        self.passes += 1
        return super().step() if self.passes == 1 else []


async def test_closing_tells_those_who_wait() -> None:
    plain = tiny_engine()
    worker = Worker(Endless(plain.model, plain.chat.tokenizer))
    closing = threading.Thread(target=worker.close)
    with pytest.raises(ModelFault, match="closed before it answered"):
        await worker.ask(request(Sampling(max_tokens=400)), 1, lambda _: closing.start())
    closing.join()
    with pytest.raises(ModelFault, match="was closed"):
        await worker.ask(request(), 1)


async def test_what_local_models_do_not_do(engine: LocalEngine) -> None:
    worker = Worker(engine)
    model = LocalModel(worker, "local/tiny")
    with pytest.raises(BadRequest, match="there are no `tools`"):
        await model.complete(ChatRequest(messages=CONVERSATION[:2], tool_choice="required"), key(1))
    with pytest.raises(BadRequest, match=r"`response_format.type` is 'xml'"):
        await model.complete(ChatRequest(messages=CONVERSATION[:2], response_format={"type": "xml"}), key(1))
    with pytest.raises(ContextTooLong, match="the model reads 512"):
        await model.complete(ChatRequest(messages=(UserMessage.of("hotel " * 600),)), key(1))
    for unknown, name in (
        (Sampling(extra_body={"top_k": 3}), "top_k"),
        (Sampling(reasoning_effort="low"), "reasoning_effort"),
        (Sampling(parallel_tool_calls=False), "parallel_tool_calls"),
    ):
        with pytest.raises(BadRequest, match=f"do not support '{name}'"):
            await model.complete(request(unknown), key(1))
    await anyio.to_thread.run_sync(worker.close)


def test_how_a_reply_ended() -> None:
    call = AssistantMessage.of(None, (ToolCall.of("call_0", "find_hotel", {}),))
    assert finish_of(call, "stop") == "tool_calls"
    assert finish_of(call, "length") == "length"
    assert finish_of(AssistantMessage.of("hi"), "stop") == "stop"
    assert finish_of(AssistantMessage.of(None), "stop") == "empty"


async def test_a_name_with_options_opens_one_engine_for_all(folder: Path) -> None:
    async with Endpoints() as endpoints:
        first = build_model(f"local/{folder},max_batch=4", endpoints=endpoints)
        build_model(f"local/{folder},max_batch=4", endpoints=endpoints)
        assert first.name == f"local/{folder}"
        assert len(endpoints.resources) == 1
        response = await first.complete(request(), key(1))
        assert endpoints.metrics.calls == 1
        assert response.model == f"local/{folder}"
    with pytest.raises(ModelFault, match="was closed"):
        await first.complete(request(), key(2))


async def test_names_and_options_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    for spec, told in (
        (f"local/{folder},max_bach=4", "no option `max_bach` .did you mean `max_batch`"),
        (f"local/{folder},max_batch=many", "option `max_batch` is `many`"),
        (f"local/{folder},window=soon", "option `window` is `soon`"),
        (f"local/{folder},enable_thinking=false", "chat template of .* does not read it"),
        (f"local/{tmp_path}", "no model can be loaded"),
    ):
        with pytest.raises(UsageError, match=told):
            async with open_model(spec):
                pass
    path, options, window = parse_local("some/model,threads=2,window=7.5,device=cpu")
    assert (path, options.threads, options.device, window) == ("some/model", 2, "cpu", 7.5)
    assert options.template_kwargs == ()


def test_names_that_are_no_options_are_for_the_chat_template() -> None:
    _, options, _ = parse_local("some/model,enable_thinking=false,threads=2,effort=low,budget=12,date_string=1 May")
    assert options.template_kwargs == (
        ("enable_thinking", False),
        ("effort", "low"),
        ("budget", 12),
        ("date_string", "1 May"),
    )
    assert options.threads == 2
    for name in ("thread", "dtyp", "max-batch", "template_kwargs"):
        with pytest.raises(UsageError, match=f"no option `{name}`"):
            parse_local(f"some/model,{name}=2")


async def test_agent_and_user_of_a_run_are_played_by_one_model(folder: Path, tmp_path: Path) -> None:
    """It babbles, in a context that is too short for real instructions: every ending is an outcome or a fault."""
    models = ModelConfig(model=f"local/{folder},context=400")
    async with Run(store=tmp_path, seed=1, models=models) as run:
        world = run.world()
        await run.play(Rollout(), run.cast(world, agent="react"), run.tasks(world, "test", "2"))
    calls = run.store.query("select model, error, prompt_tokens from model_calls").rows
    assert calls
    assert {row[0] for row in calls} == {f"local/{folder}"}
    assert run.store.query("select count(*) from episodes").rows == [(2,)]
