"""Agents with a loop of their own: suspended at calls and replies, run again in other branches, ended with them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from openai import AsyncOpenAI

import simkit
from simkit.agents import loop_task
from simkit.agents.loop import AgentLoop, Dialogue
from simkit.core.events import Episode
from simkit.core.messages import AssistantMessage, SystemMessage, UserMessage
from simkit.errors import ModelFault
from simkit.models.base import CallKey, ChatRequest, ChatResponse
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.testing.fixed import fixed_user
from support.drawn_model import Drawn
from support.journal_lines import episodes

pytestmark = pytest.mark.anyio

TREE = Josh(BeamSearch(beam=4), simkit.Limits(turns=3))
MID_TURN = Josh(BeamSearch(beam=4, branch_by="action"), simkit.Limits(turns=2))


class Clerk(AgentLoop):
    """Asks its model through the dialogue, and calls the tools of an answer side by side."""

    began = ended = 0

    async def converse(self, dialogue: Dialogue) -> str | None:
        self.began += 1
        try:
            messages: list[Any] = [SystemMessage.of(dialogue.policy)]
            said = dialogue.user
            while True:
                messages.append(UserMessage.of(said))
                said = await dialogue.reply(await self._answer(dialogue, messages))
        finally:
            self.ended += 1

    async def _answer(self, dialogue: Dialogue, messages: list[Any]) -> str:
        while True:
            message = (await dialogue.complete(tuple(messages), dialogue.tools)).message
            messages.append(message)
            calls = message.tool_calls or ()
            if not calls:
                return str(message.content)
            results = await asyncio.gather(*(dialogue.call(each.name, each.arguments) for each in calls))
            messages += [simkit.ToolMessage.of(call.id, result) for call, result in zip(calls, results, strict=True)]


class OverHttp(Clerk):
    """The same with OpenAI's client."""

    async def _answer(self, dialogue: Dialogue, messages: list[Any]) -> str:
        client: AsyncOpenAI = dialogue.openai_client
        tools: Any = [spec.to_openai() for spec in dialogue.tools]
        while True:
            sent: Any = [each if isinstance(each, dict) else each.to_openai() for each in messages]
            answer = await client.chat.completions.create(model="any", messages=sent, tools=tools)
            message: Any = answer.choices[0].message
            messages.append({"role": "assistant", **message.model_dump(exclude_none=True)})
            if not message.tool_calls:
                return str(message.content)
            for call in message.tool_calls:
                result = await dialogue.call(call.function.name, call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


async def played(
    store: Path, agent: AgentLoop, search: Search, tasks: int = 2, **options: Any
) -> tuple[simkit.Run, tuple[Episode, ...]]:
    async with simkit.Run(store=store, seed=4, **options) as run:
        world = run.world("builtin")
        found = await run.play(search, run.cast(world, agent=agent), run.tasks(world, "val", tasks))
    return run, found


@pytest.mark.parametrize("search", [Rollout(simkit.Limits(turns=3)), TREE, MID_TURN], ids=["rollout", "turn", "action"])
@pytest.mark.parametrize("kind", [Clerk, OverHttp])
async def test_a_loop_that_is_run_again_repeats_itself_and_asks_nothing_twice(
    tmp_path: Path, search: Search, kind: type[Clerk], anyio_backend: str
) -> None:
    if anyio_backend == "trio":
        pytest.skip("the clients of this test are asyncio's")
    lines: list[dict[str, list[str]]] = []
    for most in (256, 1):
        model = Drawn()
        agent = kind(model, most)
        run, found = await played(tmp_path / str(most), agent, search)
        assert run.status == "done"
        assert not any(each.faults for each in found)
        assert model.asked
        assert set(model.asked.values()) == {1}
        assert agent.began == agent.ended > 0
        lines.append(episodes(tmp_path / str(most), run.id))
    assert lines[0] == lines[1]


async def test_both_ways_to_the_model_give_the_same_conversations(tmp_path: Path, anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("the clients of this test are asyncio's")
    first, _ = await played(tmp_path / "a", Clerk(Drawn()), TREE)
    second, _ = await played(tmp_path / "b", OverHttp(Drawn()), TREE)
    assert episodes(tmp_path / "a", first.id) == episodes(tmp_path / "b", second.id)


class Told(AgentLoop):
    """Does what it is given."""

    def __init__(self, what: Callable[[Dialogue], Awaitable[Any]], **options: Any) -> None:
        super().__init__(**options)
        self._what = what

    async def converse(self, dialogue: Dialogue) -> str | None:
        return await self._what(dialogue)


async def test_results_and_answers_reach_the_loop(tmp_path: Path) -> None:
    heard: list[str] = []

    async def what(dialogue: Dialogue) -> str:
        heard.append(dialogue.user)
        heard.append(await dialogue.call("search_hotel", {"area": "harbour"}))
        heard.append(await dialogue.call("no_such_tool"))
        heard.append(await dialogue.reply("Found one."))
        return "Goodbye."

    async with simkit.Run(store=tmp_path) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=Told(what), user=fixed_user(["A hotel, please.", "Thanks.", "Bye."]))
        (episode,) = await run.play(Rollout(), cast, run.tasks(world, "val", 1))
    assert episode.outcome == "agent_ended"
    assert episode.turns == 2
    assert heard[0] == "A hotel, please."
    assert heard[3] == "Thanks."
    assert "silver otter inn" in heard[1]
    assert "no_such_tool" in heard[2]
    said = run.store.query("select heard from messages where heard is not null order by seq").rows
    assert [each for (each,) in said] == ["A hotel, please.", "Found one.", "Thanks.", "Goodbye."]


async def test_a_loop_that_returns_nothing_ends_without_a_word(tmp_path: Path) -> None:
    async def what(dialogue: Dialogue) -> None:
        return None

    _, (episode,) = await played(tmp_path, Told(what), Rollout(), 1)
    assert episode.outcome == "agent_ended"
    assert episode.error is None


async def test_a_reply_may_end_the_conversation(tmp_path: Path) -> None:
    async def what(dialogue: Dialogue) -> None:
        await dialogue.reply("That is all.", end=True)
        raise AssertionError("nobody answers")

    _, (episode,) = await played(tmp_path, Told(what), Rollout(), 1)
    assert episode.outcome == "agent_ended"
    assert episode.error is None


def raises(error: BaseException) -> Callable[[Dialogue], Awaitable[Any]]:
    async def what(dialogue: Dialogue) -> None:
        await dialogue.call("search_hotel", {"area": "harbour"})
        raise error

    return what


async def number(dialogue: Dialogue) -> object:
    return 7


async def leaves(dialogue: Dialogue) -> None:
    sys.exit("enough")


async def asks(dialogue: Dialogue) -> None:
    await dialogue.complete((UserMessage.of("?"),))


async def asks_for_the_address(dialogue: Dialogue) -> str:
    return dialogue.base_url


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (raises(ValueError("what now")), "ValueError: what now"),
        (raises(asyncio.CancelledError()), "was cancelled"),
        (leaves, "SystemExit: enough"),
        (number, "returned a int"),
        (asks, "choose one with --model"),
        (asks_for_the_address, "choose one with --model"),
    ],
)
async def test_what_goes_wrong_in_a_loop_is_the_agents_fault(
    tmp_path: Path, what: Callable[[Dialogue], Awaitable[Any]], said: str, anyio_backend: str
) -> None:
    if anyio_backend == "trio" and said == "was cancelled":
        pytest.skip("an error of asyncio")
    _, found = await played(tmp_path, Told(what), Rollout())
    assert [each.outcome for each in found] == ["agent_fault"] * 2
    assert all(said in (each.error or "") for each in found), found[0].error


async def test_a_loop_that_does_something_else_the_second_time_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_task, "PATIENCE", 0.05)
    count = iter(range(1000))

    async def what(dialogue: Dialogue) -> None:
        while True:
            await dialogue.call("search_hotel", {"area": f"area {next(count)}"})
            await dialogue.reply("Next?")

    _, (plain,) = await played(tmp_path / "a", Told(what), Rollout(simkit.Limits(turns=3)), 1)
    assert plain.faults == 0
    run, (episode,) = await played(tmp_path / "b", Told(what, most_waiting=1), TREE, 1)
    assert episode.faults > 0
    errors = run.store.query("select distinct error from branches where error is not null").rows
    assert any("did not repeat its steps" in error and "search_hotel" in error for (error,) in errors)


async def test_a_memory_is_a_new_beginning(tmp_path: Path) -> None:
    begun: list[tuple[Any, str, int]] = []

    async def what(dialogue: Dialogue) -> None:
        begun.append((dialogue.memory, dialogue.user, len(dialogue.history)))
        turns: int = dialogue.memory or 0
        while True:
            turns += 1
            await dialogue.reply(f"Turn {turns}.", memory=turns)

    run, (episode,) = await played(tmp_path, Told(what, most_waiting=1), TREE, 1)
    assert episode.faults == 0
    assert {memory for memory, _, _ in begun} == {None, 1, 2}
    assert all(history == 1 + 2 * (memory or 0) for memory, _, history in begun)
    said = run.store.query("select distinct heard from messages where author = 'agent' order by 1").rows
    assert [each for (each,) in said] == ["Turn 1.", "Turn 2.", "Turn 3."]


async def test_loops_of_branches_that_are_gone_are_ended(tmp_path: Path) -> None:
    most = 0

    class Counting(Drawn):
        async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
            nonlocal most
            most = max(most, agent.began - agent.ended)
            return await super().complete(request, key)

    agent = Clerk(Counting())
    async with simkit.Run(store=tmp_path) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=agent, user=fixed_user(["Go on."] * 20))
        (episode,) = await run.play(Josh(BeamSearch(beam=4), simkit.Limits(turns=12)), cast, run.tasks(world, "val", 1))
    assert episode.branches > 40
    assert most <= 16
    assert agent.began == agent.ended


async def test_a_cancelled_run_ends_its_loops(tmp_path: Path) -> None:
    waiting = anyio.Event()
    ended: list[str] = []

    async def what(dialogue: Dialogue) -> None:
        try:
            waiting.set()
            await anyio.Event().wait()
        finally:
            ended.append(dialogue.user)

    async with anyio.create_task_group() as group:
        group.start_soon(played, tmp_path, Told(what), Rollout(), 1)
        await waiting.wait()
        group.cancel_scope.cancel()
    assert len(ended) == 1


async def test_a_resumed_loop_takes_its_answers_from_the_journal(tmp_path: Path, anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("the clients of this test are asyncio's")
    here = f"{Path(__file__)}:OverHttp"
    models = simkit.ModelConfig(model="scripted/One.|Two.|Three.")

    async def asked(**options: Any) -> simkit.Run:
        async with simkit.Run(store=tmp_path, models=models, **options) as run:
            world = run.world("builtin")
            await run.play(Rollout(simkit.Limits(turns=3)), run.cast(world, agent=here), run.tasks(world, "val", 2))
        return run

    first = await asked()
    again = await asked(replay=first.id)
    assert first.progress.metrics is not None
    assert again.progress.metrics is not None
    assert first.progress.metrics.calls == again.progress.metrics.replayed > 0
    assert again.progress.metrics.calls == 0


class Failing:
    """Answers once, then fails or waits for ever."""

    name = "failing"
    asked = 0

    def __init__(self, waits: bool) -> None:
        self._waits = waits
        self.waiting = anyio.Event()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.asked += 1
        if self.asked == 1:
            return ChatResponse.of(AssistantMessage.of("Hello."), self.name)
        self.waiting.set()
        if self._waits:
            await anyio.Event().wait()
        raise ModelFault("the model is gone")


@pytest.mark.parametrize("waits", [False, True], ids=["fails", "is cancelled"])
def test_a_call_over_http_that_is_not_answered_is_ended_before_the_event_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    async def play(model: Failing) -> None:
        policy = simkit.FaultPolicy(max_share=1.0)
        _, found = await played(tmp_path, OverHttp(model), Rollout(), 1, policy=policy)
        assert [episode.outcome for episode in found] == ["model_fault"]

    async def whole() -> None:
        model = Failing(waits)
        async with anyio.create_task_group() as group:
            group.start_soon(play, model)
            await model.waiting.wait()
            if waits:
                group.cancel_scope.cancel()

    anyio.run(whole)
    assert caplog.text == ""


async def test_the_address_answers_as_openai_does(tmp_path: Path, anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("the server is asyncio's")
    seen: list[Any] = []

    async def what(dialogue: Dialogue) -> None:
        url, key = dialogue.base_url, {"authorization": f"Bearer {dialogue.api_key}"}
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        async with httpx2.AsyncClient() as client:
            for answer in (
                await client.post(f"{url}/chat/completions", json=body),
                await client.post(f"{url}/chat/completions", json=body, headers={"authorization": "Bearer other"}),
                await client.post(f"{url}/chat/completions", content=b"{", headers=key),
                await client.post(f"{url}/chat/completions", json={**body, "n": 3}, headers=key),
                await client.get(f"{url}/embeddings", headers=key),
                await client.get(f"{url}/models", headers=key),
            ):
                seen.append((answer.status_code, answer.json()))
        async with AsyncOpenAI(base_url=url, api_key=dialogue.api_key, max_retries=0) as openai:
            parts = await openai.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            seen.append([part async for part in parts])

    await played(tmp_path, Told(what, model=Drawn()), Rollout(), 1)
    *plain, parts = seen
    assert [status for status, _ in plain] == [401, 401, 400, 400, 404, 200]
    assert "no open conversation has this key" in plain[0][1]["error"]["message"]
    assert "/v1/embeddings" in plain[4][1]["error"]["message"]
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text or any(part.choices and part.choices[0].delta.tool_calls for part in parts)
    assert parts[-2].choices[0].finish_reason in ("stop", "tool_calls")
    assert parts[-1].usage is not None


def test_at_least_one_loop_has_to_wait() -> None:
    with pytest.raises(simkit.UsageError, match="most_waiting is 0"):
        Clerk(most_waiting=0)
