from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from players_models import HELLO, KEY, Played, key, said

from simkit.core.events import ModelCall
from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec, UserMessage
from simkit.core.reasoning import with_reasoning
from simkit.core.recorder import MemoryRecorder
from simkit.errors import ContextTooLong, ReplayMiss, ServerFailed, StoreUnreadable
from simkit.models import CallKey, ChatRequest, ChatResponse, RecordedModel, Sampling, ScriptedModel, Usage
from simkit.models.middleware.metrics import CallMetrics
from simkit.models.middleware.replay import Recording, ReplayedModel
from simkit.store.encoding import JournalEvents, encode

pytestmark = pytest.mark.anyio

CALLING = ChatResponse(
    message=with_reasoning(AssistantMessage.of("so", (ToolCall.of("c1", "f", {"a": 1}),)), "hm"),
    finish="tool_calls",
    doubts=("unknown_finish: done",),
    usage=Usage(10, 5, 2, 0.25),
    model="m-2026",
    logprobs=(-1.0,),
)
TOOLS = (ToolSpec.of("f", "Does it.", {}), ToolSpec.of("g", "Does more.", {}))
ASKED = replace(HELLO, tools=TOOLS, sampling=Sampling(temperature=0.5), seed=3)


async def recorded(*answers: ChatResponse | Exception, bodies: bool = False) -> list[ModelCall]:
    """What a run leaves that asked the same call so often."""
    recorder = MemoryRecorder()
    model = RecordedModel(Played.of(answers), recorder, "run", bodies=bodies)
    for answer in answers:
        with nullcontext() if isinstance(answer, ChatResponse) else pytest.raises(type(answer)):
            await model.complete(ASKED, KEY)
    return [event for event in recorder.events if isinstance(event, ModelCall)]


def test_an_answer_recorded_before_reasoning_was_part_of_the_message() -> None:
    told: dict[str, Any] = {"finish": "stop", "usage": {}, "model": "m", "reasoning": "hm", "usage_doubt": "cost is -1"}
    old = ChatResponse.from_json({"message": {"role": "assistant", "content": "hi"}, **told})
    assert old.message == AssistantMessage.of("hi")
    assert (old.reasoning, old.doubts) == ("hm", ("usage: cost is -1",))
    assert ChatResponse.from_json(old.to_json()) == old


@pytest.mark.parametrize("bodies", [False, True])
async def test_an_answer_comes_back_from_a_journal_as_it_was(tmp_path: Path, bodies: bool) -> None:
    path = tmp_path / "main.jsonl"
    path.write_bytes(
        b"".join(encode(call) for call in await recorded(CALLING, bodies=bodies)) + b'{"e":"ModelCall","ep'
    )
    calls = [event for event, _ in JournalEvents(path, (ModelCall,)) if isinstance(event, ModelCall)]
    recording, metrics = Recording.of("run", calls), CallMetrics()
    assert await ReplayedModel(recording, name="played", metrics=metrics).complete(ASKED, KEY) == CALLING
    assert (len(recording), metrics.replayed, recording.usage) == (1, 1, replace(CALLING.usage, cached_tokens=0))


async def test_the_last_answer_to_the_same_request_counts_and_failed_attempts_do_not() -> None:
    calls = await recorded(said("one"), ServerFailed("x"), said("two"), ServerFailed("y"))
    model = ReplayedModel(Recording.of("run", calls), name="played")
    assert (await model.complete(ASKED, KEY)).message.content == "two"


async def test_a_resumed_run_asks_only_what_is_not_known() -> None:
    inner = ScriptedModel(lambda request, key: f"asked for call {key.call}", name="played")
    model = ReplayedModel(Recording.of("run", await recorded(said("known"))), inner)
    assert (await model.complete(ASKED, KEY)).message.content == "known"
    assert (await model.complete(ASKED, replace(KEY, call=3))).message.content == "asked for call 3"
    assert (await model.complete(replace(ASKED, seed=4), KEY)).message.content == "asked for call 2"


def other(what: str) -> ChatRequest:
    match what:
        case "message":
            return replace(ASKED, messages=(ASKED.messages[0], UserMessage.of("good bye")))
        case "more":
            return replace(ASKED, messages=(*ASKED.messages, UserMessage.of("more")))
        case "tool":
            return replace(ASKED, tools=(TOOLS[0], TOOLS[0]))
        case _:
            return replace(ASKED, sampling=Sampling(temperature=0.7))


@pytest.mark.parametrize("bodies", [False, True])
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("message", r"message 1 \(counted from 0\) is different"),
        ("more", "there were 2 messages, now there are 3"),
        ("tool", "tool 1 .* is different"),
        ("temperature", r"`temperature` was 0\.5 and is 0\.7"),
    ],
)
async def test_a_miss_names_what_differs(what: str, told: str, bodies: bool) -> None:
    model = ReplayedModel(Recording.of("run", await recorded(CALLING, bodies=bodies)), name="played")
    with pytest.raises(ReplayMiss, match=f"another request for call 2 of the agent, turn 4 of MUL0003/1.*{told}"):
        await model.complete(other(what), KEY)


async def test_another_model_is_a_miss() -> None:
    model = ReplayedModel(Recording.of("run", await recorded(CALLING)), name="newer")
    with pytest.raises(ReplayMiss, match="the model was `played` and is `newer`"):
        await model.complete(ASKED, KEY)


@pytest.mark.parametrize("asked", [key(), replace(KEY, role="user"), replace(KEY, call=0)])
async def test_a_call_that_was_never_made_is_a_miss(asked: CallKey) -> None:
    model = ReplayedModel(Recording.of("run", await recorded(CALLING)), name="played")
    with pytest.raises(ReplayMiss, match="the recording of `run` has no call"):
        await model.complete(ASKED, asked)


async def test_a_call_that_failed_for_good_fails_again_and_a_cancelled_one_is_a_miss() -> None:
    failed = await recorded(ServerFailed("boom"), ContextTooLong("8192 tokens"))
    with pytest.raises(ContextTooLong, match="8192 tokens"):
        await ReplayedModel(Recording.of("run", failed), name="played").complete(ASKED, KEY)
    cancelled = [replace(call, error="cancelled") for call in failed]
    with pytest.raises(ReplayMiss):
        await ReplayedModel(Recording.of("run", cancelled), name="played").complete(ASKED, KEY)


async def test_calls_of_other_runs_are_left_out() -> None:
    recording = Recording.of("another", await recorded(CALLING))
    assert (len(recording), recording.skipped) == (0, 1)


def test_journals_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreadable, match=r"none\.jsonl cannot be read"):
        list(JournalEvents(tmp_path / "none.jsonl", (ModelCall,)))
    path = tmp_path / "main.jsonl"
    path.write_bytes(b'{"e":"RunStarted"}\n{"e":"ModelCall","branch_id":}\n')
    journal = JournalEvents(path, (ModelCall,))
    assert list(journal) == []
    assert [(one.line, one.kind) for one in journal.bad] == [(2, "unreadable")]
