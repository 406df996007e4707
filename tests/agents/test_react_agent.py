from __future__ import annotations

from pathlib import Path

import pytest
from acting import FIND, KEY, RecordingModel, act, answered, note_of

from simkit.agents.model_agent import EMPTY, FILTERED
from simkit.agents.react import GO_ON, UNHEARD, ReactAgent, describe
from simkit.components.agent import StartAgent
from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec, UserMessage
from simkit.errors import UsageError
from simkit.models import CallKey

pytestmark = pytest.mark.anyio

CALL = 'APICALL {"name": "find", "parameters": {"day": "sunday"}} <COMMAND_END>'


async def test_a_speech_ends_the_turn_and_the_conversation_keeps_what_the_model_wrote() -> None:
    text = "PLAN I ask. <COMMAND_END>\nSPEAK Which day? <COMMAND_END>"
    asked = RecordingModel(answered(text))
    decision = await ReactAgent(asked.model).act(act(step=1))
    assert decision.say == "Which day?"
    assert decision.message == AssistantMessage.of(text)
    assert (decision.tokens, decision.cost) == (25, 0.25)
    assert asked.keys == [CallKey(KEY, "agent", 1)]
    assert not asked.requests[0].tools
    assert asked.requests[0].seed == KEY.seed("agent", 1)


async def test_calls_are_one_decision_and_results_come_as_apireturn() -> None:
    decision = await ReactAgent(RecordingModel(f"PLAN Both. <COMMAND_END> {CALL} {CALL}").model).act(act(step=1))
    assert [(call.id, call.name, call.arguments) for call in decision.calls] == [
        ("t03s01c00", "find", '{"day": "sunday"}'),
        ("t03s01c01", "find", '{"day": "sunday"}'),
    ]
    result = ToolResult(value=[{"name": "red"}])
    assert decision.observe(decision.calls[1], result) == UserMessage.of('APIRETURN [{"name": "red"}]')


async def test_a_speech_beside_a_call_is_not_heard_and_the_model_learns_it() -> None:
    decision = await ReactAgent(RecordingModel(f"{CALL} SPEAK There is a red one. <COMMAND_END>").model).act(act())
    assert (len(decision.calls), decision.say) == (1, None)
    seen = decision.observe(decision.calls[0], ToolResult(value=[]))
    assert seen == UserMessage.of(f"APIRETURN []\n{UNHEARD}")


async def test_parameters_that_are_no_object_go_to_the_tool_server() -> None:
    decision = await ReactAgent(RecordingModel('APICALL {"name": "find", "parameters": "sunday"}').model).act(act())
    assert decision.calls[0].arguments == '"sunday"'


async def test_a_reply_that_cannot_be_read_is_kept_and_the_model_is_told_why() -> None:
    decision = await ReactAgent(RecordingModel("Which day?").model).act(act())
    note = note_of(decision)
    assert note.startswith("ERROR: your reply was not understood: it holds no command")
    assert decision.message == AssistantMessage.of("Which day?")


async def test_a_plan_alone_is_answered_without_calling_it_an_error() -> None:
    decision = await ReactAgent(RecordingModel("PLAN First I look. <COMMAND_END>").model).act(act())
    assert note_of(decision) == GO_ON
    assert "ERROR" not in GO_ON


async def test_empty_and_withheld_answers() -> None:
    assert note_of(await ReactAgent(RecordingModel(answered(None)).model).act(act())) == EMPTY
    assert (
        note_of(await ReactAgent(RecordingModel(answered("SPEAK a", finish="content_filter")).model).act(act()))
        == FILTERED
    )


@pytest.mark.parametrize("text", ["SPEAK The first one.", 'APICALL {"name": "find", "parameters": {"day": "Monday"}}'])
async def test_calls_that_a_server_read_into_the_reply_do_not_count(text: str) -> None:
    replied = answered(text, ToolCall.of("x1", "book", {"day": "Sunday"}), reasoning="I see.")
    message = replied.message
    kept, decision = message.without_calls(), await ReactAgent(RecordingModel(replied).model).act(act())
    assert decision.message == kept
    assert kept.to_openai() == {"role": "assistant", "content": text, "reasoning": "I see."}
    assert [call.name for call in decision.calls] == (["find"] if text.startswith("APICALL") else [])
    assert decision.say == (None if decision.calls else "The first one.")


async def test_a_refusal_is_heard() -> None:
    refusal = AssistantMessage.model_validate({"role": "assistant", "content": None, "refusal": "I can't."})
    decision = await ReactAgent(RecordingModel(refusal).model).act(act())
    assert (decision.say, decision.message) == ("I can't.", AssistantMessage.of("I can't."))


async def test_of_a_reply_that_was_cut_off_only_what_is_whole_counts() -> None:
    cut = await ReactAgent(RecordingModel(answered("SPEAK The red one is", finish="length")).model).act(act())
    assert "cut off" in note_of(cut)
    planned = await ReactAgent(RecordingModel(answered("PLAN a <COMMAND_END> SPEAK The", finish="length")).model).act(
        act()
    )
    assert "cut off" in note_of(planned)
    called = await ReactAgent(RecordingModel(answered(f"{CALL} SPEAK and th", finish="length")).model).act(act())
    assert len(called.calls) == 1


async def test_messages_alternate_as_chat_templates_want_them() -> None:
    asked = RecordingModel("SPEAK ok")
    history = [
        Entry(AssistantMessage.of(f"{CALL}{CALL}"), "agent", 3),
        Entry(UserMessage.of("APIRETURN 1"), "tool", 3),
        Entry(UserMessage.of("APIRETURN 2"), "tool", 3),
        Entry(AssistantMessage.of(""), "agent", 3, 1),
        Entry(UserMessage.of("ERROR: empty"), "tool", 3, 1),
    ]
    await ReactAgent(asked.model).act(act(*history, step=2))
    sent = asked.requests[0].messages
    assert [message.role for message in sent] == ["system", "user", "assistant", "user"]
    assert sent[-1] == UserMessage.of("APIRETURN 1\nAPIRETURN 2\nERROR: empty")


async def test_the_prompt_describes_the_tools_of_the_world() -> None:
    start = ReactAgent(RecordingModel("").model).start(StartAgent((FIND,), policy="Never on Sundays."))
    assert start.system is not None
    assert "find: Find a bicycle.\n  - day (required): The day." in start.system
    assert start.system.endswith("Never on Sundays.")


async def test_a_prompt_of_ones_own_needs_a_place_for_the_tools(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Be brief.")
    with pytest.raises(UsageError, match=r"no place \{\{tools\}\}"):
        ReactAgent(RecordingModel("").model, prompt=file)


async def test_parameters_in_words() -> None:
    tool = ToolSpec.of(
        "t",
        "Does it.",
        {
            "area": {"type": "string", "description": "Where.", "enum": ["north", "south"]},
            "people": {"type": "integer"},
            "free": {"type": "string"},
            "dates": {"type": "array", "items": {"type": "string"}},
        },
    )
    assert describe(tool).splitlines() == [
        "t: Does it.",
        "  - area: Where. One of: north, south.",
        "  - people: A JSON integer.",
        "  - free: A text.",
        '  - dates: {"type": "array", "items": {"type": "string"}}',
    ]
