"""The text agents of tau-bench: `Thought: ... Action: {...}`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from acting import FIND, RecordingModel, act, answered, note_of

from simkit.agents.model_agent import CUT_OFF, EMPTY, FILTERED
from simkit.agents.tau_react import UNREADABLE, TauReactAgent
from simkit.components.agent import StartAgent
from simkit.core.messages import AssistantMessage, ToolResult, UserMessage
from simkit.errors import UsageError
from simkit.models import FinishReason, ScriptedModel
from simkit.testing.conformance import check_agent

pytestmark = pytest.mark.anyio

FOUND = '{"name": "find", "arguments": {"day": "sunday"}}'
SAID = '{"name": "respond", "arguments": {"content": "Which day?"}}'


async def decided(text: str, finish: FinishReason = "stop") -> Any:
    return await TauReactAgent(RecordingModel(answered(text, finish=finish)).model).act(act(step=1))


@pytest.mark.parametrize(
    "before", ["", "Action:", "Thought:\nI look.\nAction:\n", "Thought: an Action: comes\nAction:"]
)
async def test_an_action_is_a_call_or_a_speech(before: str) -> None:
    calling = await decided(f"{before}{FOUND}\n")
    assert [(call.id, call.name, json.loads(call.arguments)) for call in calling.calls] == [
        ("t03s01c00", "find", {"day": "sunday"})
    ]
    assert (calling.message, calling.say) == (AssistantMessage.of(f"{before}{FOUND}\n"), None)
    assert calling.observe(calling.calls[0], ToolResult(value="red")) == UserMessage.of("API output: red")
    speaking = await decided(f"{before}{SAID}")
    assert (speaking.say, speaking.calls) == ("Which day?", ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Which day?", "Which day?"),
        ("Thought: hm.\nAction: Which day?", "Which day?"),
        (f"Action: ```json\n{FOUND}\n```", f"```json\n{FOUND}\n```"),
    ],
)
async def test_what_is_no_json_is_said_as_in_the_release(text: str, said: str) -> None:
    assert (await decided(text)).say == said


@pytest.mark.parametrize(
    "text",
    [
        "Action:",
        "[1]",
        "5",
        '{"name": "find"}',
        '{"arguments": {}}',
        '{"name": 1, "arguments": {}}',
        '{"name": "find", "arguments": "sunday"}',
        '{"name": "respond", "arguments": {}}',
        '{"name": "respond", "arguments": {"content": 5}}',
        '{"name": "respond", "arguments": {"content": " "}}',
    ],
)
async def test_what_stops_the_release_is_told_to_the_model(text: str) -> None:
    assert note_of(await decided(text)) == UNREADABLE


@pytest.mark.parametrize(
    ("text", "finish", "note"), [(SAID, "length", CUT_OFF), (SAID, "content_filter", FILTERED), (" ", "stop", EMPTY)]
)
async def test_an_unusable_reply_is_told_to_the_model(text: str, finish: FinishReason, note: str) -> None:
    assert note_of(await decided(text, finish)) == note


@pytest.mark.parametrize(("strategy", "thinks"), [("react", True), ("act", False)])
async def test_without_a_world_s_prompt_it_has_one_of_its_own(strategy: Any, thinks: bool) -> None:
    start = TauReactAgent(RecordingModel(SAID).model, strategy=strategy).start(StartAgent((FIND,), "Be kind."))
    assert start.system is not None
    assert ("Thought:" in start.system) is thinks
    assert start.system.endswith(f"Be kind.\n\nYour tools:\n{json.dumps([FIND.to_openai()])}")


async def test_it_keeps_the_promises_of_an_agent() -> None:
    await check_agent(TauReactAgent(ScriptedModel(lambda request, key: FOUND)), tools=(FIND,))


def test_a_strategy_that_does_not_exist_is_refused() -> None:
    wrong: Any = "think"
    with pytest.raises(UsageError, match="has no strategy `think`; choose react or act"):
        TauReactAgent(RecordingModel(SAID).model, strategy=wrong)
