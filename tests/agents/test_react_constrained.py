"""`react,constrained=true`: what is asked for, what is read, and what is left of a reply that does not follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from acting import FIND, RecordingModel, act, answered, note_of

from simkit.agents.commands import CallCommand, CommandError, PlanCommand, SpeakCommand
from simkit.agents.json_replies import read_reply, reply_format, write_reply
from simkit.agents.model_agent import CUT_OFF
from simkit.agents.react import ReactAgent
from simkit.components.agent import StartAgent
from simkit.core.messages import AssistantMessage, ToolResult, ToolSpec, UserMessage

pytestmark = pytest.mark.anyio

CALL = '{"plan": "I look.", "act": {"call": "find", "parameters": {"day": "sunday"}}}'
SPEECH = '{"plan": "There is one.", "act": {"speak": "The red one is free."}}'


def agent(answer: Any) -> tuple[ReactAgent, RecordingModel]:
    asked = RecordingModel(answer)
    return ReactAgent(asked.model, constrained=True), asked


def schema_of(*tools: ToolSpec) -> dict[str, Any]:
    form = reply_format(tools)
    assert form["type"] == "json_schema"
    return form["json_schema"]["schema"]


async def test_the_request_holds_the_reply_to_a_plan_and_one_act_with_the_tools_own_parameters() -> None:
    made, asked = agent(SPEECH)
    decision = await made.act(act())
    (request,) = asked.requests
    assert request.response_format == reply_format((FIND,))
    assert not request.tools
    schema = schema_of(FIND)
    assert schema["required"] == ["plan", "act"]
    call, speak = schema["properties"]["act"]["anyOf"]
    assert call["properties"]["call"] == {"type": "string", "enum": ["find"]}
    assert call["properties"]["parameters"]["properties"] == FIND.properties
    assert call["properties"]["parameters"]["additionalProperties"] is False
    assert speak["required"] == ["speak"]
    assert decision.say == "The red one is free."
    assert decision.message == AssistantMessage.of(SPEECH), "the conversation keeps what the model wrote"


async def test_a_call_is_made_and_its_result_comes_as_apireturn() -> None:
    made, _ = agent(CALL)
    decision = await made.act(act(step=1))
    (call,) = decision.calls
    assert (call.id, call.name, call.arguments) == ("t03s01c00", "find", '{"day": "sunday"}')
    assert decision.message == AssistantMessage.of(CALL)
    assert decision.observe(call, ToolResult(value=[1])) == UserMessage.of("APIRETURN [1]")


@pytest.mark.parametrize(
    "text",
    [
        "SPEAK Hello. <COMMAND_END>",
        '{"plan": "x"}',
        '{"act": {"call": "find", "speak": "x"}}',
        "[]",
        '{"act": {"speak": " "}}',
    ],
)
async def test_a_reply_that_does_not_follow_the_schema_is_flagged_and_the_model_is_told(text: str) -> None:
    made, _ = agent(text)
    decision = await made.act(act())
    assert note_of(decision).startswith("ERROR: your reply was not understood: it")
    assert decision.flags == ("format_ignored: agent_reply",)
    assert decision.message == AssistantMessage.of(text)


async def test_a_reply_that_was_cut_off_does_nothing() -> None:
    made, _ = agent(answered(CALL[:-20], finish="length"))
    decision = await made.act(act())
    assert note_of(decision) == CUT_OFF
    assert not decision.flags


def test_the_prompt_is_for_json_also_in_its_compact_form() -> None:
    for prompt in (None, "compact"):
        made = ReactAgent(RecordingModel("x").model, prompt=prompt, constrained=True)
        system = made.start(StartAgent((FIND,), "Be kind.")).system
        assert system is not None
        assert '"act": {"call": "rent_bicycle"' in system
        assert "APICALL" not in system
        assert "find" in system
        assert "Be kind." in system


def test_replies_are_read_as_they_are_written() -> None:
    for done in (CallCommand("find", {"day": "sunday"}), SpeakCommand("Hello.")):
        assert read_reply(write_reply("I see.", done)) == (PlanCommand("I see."), done)
    assert read_reply(f"<think>hm</think>```json\n{SPEECH}\n```") == read_reply(SPEECH)
    assert isinstance(read_reply("[" * 100_000), CommandError)


def test_definitions_of_a_tool_move_to_the_root_of_the_schema() -> None:
    parameters = {"type": "object", "properties": {"day": {"$ref": "#/$defs/Day"}}, "$defs": {"Day": {"enum": ["mon"]}}}
    tool = ToolSpec.model_validate({"type": "function", "function": {"name": "find", "parameters": parameters}})
    schema = schema_of(tool)
    assert schema["$defs"] == {"find.Day": {"enum": ["mon"]}}
    inner = schema["properties"]["act"]["anyOf"][0]["properties"]["parameters"]
    assert inner["properties"] == {"day": {"$ref": "#/$defs/find.Day"}}
    assert "$defs" not in inner


def test_strict_is_claimed_only_where_every_parameter_is_required() -> None:
    optional = ToolSpec.of("look", "Look.", {"day": {"type": "string"}})
    assert reply_format((FIND,))["json_schema"]["strict"] is True
    assert reply_format((FIND, optional))["json_schema"]["strict"] is False


def test_demonstrations_are_shown_in_the_form_of_replies(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"day": "sunday"}'}}
    messages = [
        {"role": "user", "content": "A bicycle?"},
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "[]"},
        {"role": "tool", "tool_call_id": "c2", "content": "[1]"},
        {"role": "assistant", "content": "There is one."},
    ]
    file = tmp_path / "shown.jsonl"
    file.write_text(json.dumps({"messages": messages}) + "\n")
    made = ReactAgent(RecordingModel("x").model, examples=file, constrained=True)
    found = made.as_written(
        [UserMessage.of("Hi"), AssistantMessage.of("PLAN I ask. <COMMAND_END> SPEAK Which? <COMMAND_END>")]
    )
    assert found[1] == AssistantMessage.of(write_reply("I ask.", SpeakCommand("Which?")))
    shown = made._examples  # pyright: ignore[reportPrivateUsage]
    wanted = write_reply("", CallCommand("find", {"day": "sunday"}))
    assert [message.content for message in shown] == [
        "A bicycle?",
        wanted,
        "APIRETURN []",
        wanted,
        "APIRETURN [1]",
        write_reply("", SpeakCommand("There is one.")),
    ]
