from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from acting import FIND, KEY, RecordingModel, act, answered, conversation, note_of

from simkit.agents.function_calling import CALL_AS_TEXT, FunctionCallingAgent
from simkit.agents.model_agent import CALL_CUT_OFF, CUT_OFF, EMPTY, FILTERED, UNPARSED, UNPARSED_BESIDE
from simkit.components.agent import AgentStart, Decision, StartAgent
from simkit.components.tools import ToolServer
from simkit.components.world import World
from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolResult, UserMessage
from simkit.core.ontology import Ontology
from simkit.core.tasks import Task
from simkit.errors import ModelFault, TokensUsed, UnparsedCall, UsageError
from simkit.models import CallKey, ChatResponse, FinishReason, Sampling
from simkit.models.base import SampledModel
from simkit.models.usage import ValidatedModel
from simkit.plugins.loading import load
from simkit.run.casting import AGENT
from simkit.tools.builtin import BuiltinWorld

pytestmark = pytest.mark.anyio


def refusing(text: str) -> AssistantMessage:
    return AssistantMessage.model_validate({"role": "assistant", "content": None, "refusal": text})


async def test_an_answer_in_words_ends_the_turn() -> None:
    asked = RecordingModel(answered("Which day?"))
    decision = await FunctionCallingAgent(asked.model).act(act())
    assert (decision.say, decision.calls) == ("Which day?", ())
    assert decision.message == AssistantMessage.of("Which day?")
    assert (decision.tokens, decision.cost) == (25, 0.25)


async def test_the_model_gets_the_conversation_the_tools_and_the_seed_of_the_step() -> None:
    asked = RecordingModel("ok")
    await FunctionCallingAgent(asked.model).act(act(step=2))
    (request,) = asked.requests
    assert asked.keys == [CallKey(KEY, "agent", 2)]
    assert request.seed == KEY.seed("agent", 2)
    assert tuple(request.tools) == (FIND,)
    assert tuple(request.messages) == conversation().messages()


async def test_parallel_calls_are_one_decision_and_text_beside_them_is_kept_unheard() -> None:
    calls = (ToolCall.of("a", "find", {"day": "sunday"}), ToolCall.of("a", "find", {"day": "monday"}))
    decision = await FunctionCallingAgent(RecordingModel(answered("Let me look.", *calls)).model).act(act(step=1))
    assert [(call.id, call.arguments) for call in decision.calls] == [
        ("t03s01c00", '{"day": "sunday"}'),
        ("t03s01c01", '{"day": "monday"}'),
    ]
    assert isinstance(decision.message, AssistantMessage)
    assert decision.message.tool_calls == decision.calls
    assert (decision.message.content, decision.say) == ("Let me look.", None)


async def test_only_the_first_call_is_made_and_kept_if_that_is_chosen() -> None:
    calls = (ToolCall.of("a", "find", {"day": "sunday"}), ToolCall.of("b", "find", {"day": "monday"}))
    model = RecordingModel(answered("Let me look.", *calls)).model
    decision = await FunctionCallingAgent(model, calls="first").act(act())
    assert isinstance(decision.message, AssistantMessage)
    assert [call.arguments for call in decision.calls] == ['{"day": "sunday"}']
    assert (decision.message.tool_calls, decision.message.content) == (decision.calls, "Let me look.")
    assert decision.flags == ("dropped_calls: 1",)
    alone = await FunctionCallingAgent(RecordingModel(answered(None, calls[0])).model, calls="first").act(act())
    assert (len(alone.calls), alone.flags) == (1, ())


async def test_calls_beside_one_that_stops_are_dropped_if_it_is_offered() -> None:
    calls = tuple(ToolCall.of(name, name, {"day": "sunday"}) for name in ("book", "find", "done"))
    for stop, made in (("find", ["find"]), ("done", ["book", "find", "done"]), ("", ["book", "find", "done"])):
        decision = await FunctionCallingAgent(RecordingModel(answered(None, *calls)).model, stop=stop).act(act())
        assert [call.name for call in decision.calls] == made
        assert decision.flags == (("dropped_calls: 2",) if len(made) == 1 else ())


async def test_of_calls_in_text_only_the_first_is_made_if_that_is_chosen() -> None:
    written = "".join(f'<tool_call>{{"name": "find", "arguments": {{"day": "{day}"}}}}</tool_call>' for day in "ab")
    agent = FunctionCallingAgent(RecordingModel(answered(written)).model, text_calls="read", calls="first")
    decision = await agent.act(act())
    assert isinstance(decision.message, AssistantMessage)
    assert [call.arguments for call in decision.calls] == ['{"day": "a"}']
    assert decision.message.tool_calls == decision.calls
    assert "dropped_calls: 1" in decision.flags


class ReleasedWorld(World):
    """A world with the prompt of its release, and nothing else."""

    name = "released"
    splits = ("test",)

    def tasks(self, split: str) -> Sequence[Task]:
        return ()

    def tools(self) -> ToolServer:
        raise AssertionError("no tools are called")

    @property
    def ontology(self) -> Ontology:
        return Ontology(())

    @property
    def prompts(self) -> dict[str, str]:
        return {"agent": "<policy>\n\n\n{{policy}}</policy>\n"}


@pytest.mark.parametrize(
    ("world", "policy", "system"),
    [
        (None, " Be kind.\n", " Be kind.\n"),
        (BuiltinWorld(), "# Rules\n", "# Rules\n"),
        (ReleasedWorld(), " Be kind.\n", "<policy>\n\n\n Be kind.\n</policy>\n"),
        (None, "", None),
    ],
)
def test_the_system_prompt_may_be_that_of_the_world_word_for_word(
    world: World | None, policy: str, system: str | None
) -> None:
    agent = FunctionCallingAgent(RecordingModel("ok").model, prompt="world", world=world)
    assert agent.start(StartAgent((FIND,), policy)).system == system


def test_a_choice_of_calls_that_does_not_exist_is_refused() -> None:
    wrong: Any = "last"
    with pytest.raises(UsageError, match="calls is `last`; it must be `all` or `first`"):
        FunctionCallingAgent(RecordingModel("ok").model, calls=wrong)


def test_the_options_can_be_written_after_the_name() -> None:
    given = {"model": RecordingModel("ok").model, "world": ReleasedWorld()}
    agent = load(AGENT, "function_calling,calls=first,prompt=world", given)
    assert agent.start(StartAgent((FIND,), "Be kind.")).system == "<policy>\n\n\nBe kind.</policy>\n"


async def test_equal_calls_of_two_branches_are_equal_whatever_ids_the_provider_made_up() -> None:
    made = [
        await FunctionCallingAgent(RecordingModel(answered(None, ToolCall.of(id, "find", {}))).model).act(act())
        for id in ("call_8XyQ", "")
    ]
    assert made[0] == made[1]


async def test_broken_arguments_are_called_as_written_and_sent_back_as_json() -> None:
    broken = ToolCall.of("x", "find", '{"day": ')
    decision = await FunctionCallingAgent(RecordingModel(answered(None, broken)).model).act(act())
    assert decision.calls[0].arguments == '{"day": '

    asked = RecordingModel("ok")
    fine = ToolCall.of("y", "find", {"day": "sunday"})
    history = [
        Entry(AssistantMessage.of(None, (broken, fine)), "agent", 3),
        Entry(ToolMessage.of("x", "ERROR"), "tool", 3),
        Entry(ToolMessage.of("y", "[]"), "tool", 3),
    ]
    await FunctionCallingAgent(asked.model).act(act(*history, step=1))
    sent = asked.requests[0].messages[2]
    assert isinstance(sent, AssistantMessage)
    assert sent.tool_calls is not None
    assert sent.tool_calls[0].parse_arguments() == {"not_valid_json": '{"day": '}
    assert sent.tool_calls[0].id == "x"
    assert sent.tool_calls[1] == fine


@pytest.mark.parametrize(
    ("response", "note"),
    [
        (answered(None), EMPTY),
        (replace(answered(None), doubts=("unparsed_call: <f",)), UNPARSED),
        (answered("  \n"), EMPTY),
        (answered("<think>hm</think>\n"), EMPTY),
        (answered("The hotel is in the nor", finish="length"), CUT_OFF),
        (answered("Some", finish="content_filter"), FILTERED),
    ],
)
async def test_an_answer_nobody_can_act_on_is_kept_and_the_model_is_told(response: ChatResponse, note: str) -> None:
    decision = await FunctionCallingAgent(RecordingModel(response).model).act(act())
    assert note_of(decision) == note
    assert note.startswith("ERROR:"), "what keeps it out of the harvest"
    assert decision.message == response.message
    assert decision.tokens == 25


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize("arguments", ['{"day": "su', '{"day": "Sunday"}', ""])
async def test_calls_of_an_answer_that_was_cut_off_are_not_made(finish: FinishReason, arguments: str) -> None:
    response = answered("I look.", ToolCall.of("a", "find", arguments), finish=finish)
    decision = await FunctionCallingAgent(RecordingModel(response).model).act(act())
    assert note_of(decision).startswith("ERROR:")
    assert decision.message == AssistantMessage.of("I look.")
    assert decision.flags == ("cut_off_call: find",)


async def test_reasoning_before_the_words_in_an_old_recording_is_kept_and_not_heard() -> None:
    decision = await FunctionCallingAgent(RecordingModel("<think>a\nb</think>\n\nWhich day?").model).act(act())
    assert decision.say == "Which day?"
    assert decision.message == AssistantMessage.of("<think>a\nb</think>\n\nWhich day?")


async def test_a_refusal_is_heard() -> None:
    decision = await FunctionCallingAgent(RecordingModel(refusing("I can't do that.")).model).act(act())
    assert decision.say == "I can't do that."
    assert decision.message == AssistantMessage.of("I can't do that.")


async def test_what_endpoints_refuse_to_take_back_is_not_sent() -> None:
    asked = RecordingModel("ok")
    history = [
        Entry(AssistantMessage.of(None), "agent", 1),
        Entry(UserMessage.of("ERROR: empty"), "tool", 1),
        Entry(AssistantMessage.of(" "), "agent", 1, 1),
        Entry(AssistantMessage.of(None, (ToolCall.of("x", "find a.b", {}),)), "agent", 1, 2),
    ]
    await FunctionCallingAgent(asked.model).act(act(*history))
    _, user, called = asked.requests[0].messages
    assert user == UserMessage.of("A bicycle, please.\nERROR: empty")
    assert called == AssistantMessage.of(None, (ToolCall.of("x", "find_a_b", {}),))


async def test_a_fault_of_the_model_passes_through() -> None:
    with pytest.raises(ModelFault, match="down"):
        await FunctionCallingAgent(RecordingModel(ModelFault("down")).model).act(act())


@pytest.mark.parametrize(("temperature", "deterministic"), [(0, True), (0.7, False), (None, False)])
async def test_it_is_deterministic_at_temperature_0(temperature: float | None, deterministic: bool) -> None:
    agent = FunctionCallingAgent(SampledModel(RecordingModel("").model, Sampling(temperature=temperature)))
    assert agent.deterministic is deterministic


async def test_the_prompt_ends_with_the_rules_of_the_world() -> None:
    agent = FunctionCallingAgent(RecordingModel("").model)
    start = agent.start(StartAgent((FIND,), policy="Never on Sundays."))
    assert start.system is not None
    assert start.system.endswith("\n\nNever on Sundays.")
    assert "{{" not in start.system
    assert agent.prompt.name == "function-calling-1.txt"


async def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text('Be brief. {"a": 1} {{policy}}')
    agent = FunctionCallingAgent(RecordingModel("").model, prompt=file)
    assert agent.start(StartAgent((), policy="P")) == AgentStart('Be brief. {"a": 1} P')
    file.write_text("{{polices}}")
    with pytest.raises(UsageError, match=r"place \{\{polices\}\}.*policy"):
        FunctionCallingAgent(RecordingModel("").model, prompt=file).start(StartAgent(()))
    with pytest.raises(UsageError, match="cannot be read"):
        FunctionCallingAgent(RecordingModel("").model, prompt=tmp_path / "none.txt")


HERMES = '<tool_call>\n{"name": "find", "arguments": {"day": "Sunday"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "notation"),
    [
        (HERMES, "hermes"),
        ('{"name": "find", "parameters": {"day": "Sunday"}}', "json"),
        ('find(day="Sunday")', "python"),
    ],
)
async def test_a_call_as_text_is_not_spoken_and_the_model_is_told(text: str, notation: str) -> None:
    decision = await FunctionCallingAgent(RecordingModel(f"I look.\n{text}").model).act(act())
    assert note_of(decision) == CALL_AS_TEXT
    assert decision.flags == (f"call_as_text: {notation}",)
    assert decision.message == AssistantMessage.of(f"I look.\n{text}")


@pytest.mark.parametrize("text", [HERMES, '[find(day="Sunday")]', '[TOOL_CALLS]find{"day": "Sunday"}'])
async def test_a_call_as_text_is_executed_on_request(text: str) -> None:
    agent = FunctionCallingAgent(RecordingModel(f"I look.\n{text}").model, text_calls="read")
    decision = await agent.act(act())
    assert [(call.name, call.parse_arguments()) for call in decision.calls] == [("find", {"day": "Sunday"})]
    assert decision.message == AssistantMessage.of("I look.", decision.calls)
    assert [flag.partition(":")[0] for flag in decision.flags] == ["call_as_text"]


@pytest.mark.parametrize("text", ['<tool_call>{"name": "find", "arguments": {"day": "Su', '{"name": "find"}\n{}'])
async def test_a_call_as_text_that_is_incomplete_is_never_executed(text: str) -> None:
    decision = await FunctionCallingAgent(RecordingModel(text).model, text_calls="read").act(act())
    assert note_of(decision) == CALL_AS_TEXT


async def test_a_cut_off_call_as_text_is_not_executed() -> None:
    for text in (HERMES, f"{HERMES}\n<tool_call>{{"):
        agent = FunctionCallingAgent(RecordingModel(answered(text, finish="length")).model, text_calls="read")
        assert note_of(await agent.act(act())) == CUT_OFF


async def test_a_malformed_call_beside_one_as_text_is_told_with_the_last_result_and_flagged() -> None:
    broken = '{"arguments": {"day": "Monday"}}'
    text = f"I look.\n{HERMES}\n{broken}\n{HERMES}"
    decision = await FunctionCallingAgent(RecordingModel(text).model, text_calls="read").act(act())
    assert [call.parse_arguments() for call in decision.calls] == [{"day": "Sunday"}] * 2
    assert decision.message == AssistantMessage.of(f"I look.\n{broken}", decision.calls)
    assert (decision.say, decision.note) == (None, None)
    assert decision.flags == ("call_as_text: hermes", "unparsed_call: hermes")
    assert observed(decision) == ["free", f"free\n{UNPARSED_BESIDE}"]


async def test_a_malformed_call_beside_those_of_the_model_is_told_with_the_last_result_and_flagged() -> None:
    calls = (ToolCall.of("a", "find", {"day": "x"}), ToolCall.of("b", "find", {"day": "y"}))
    reply = replace(answered("<tool_call>{", *calls), doubts=("unparsed_call: hermes",))
    decision = await FunctionCallingAgent(RecordingModel(reply).model).act(act())
    assert [call.arguments for call in decision.calls] == [call.arguments for call in calls]
    assert (decision.message.content, decision.say, decision.note) == ("<tool_call>{", None, None)
    assert decision.flags == ("unparsed_call: hermes",)
    assert observed(decision) == ["free", f"free\n{UNPARSED_BESIDE}"]
    cut = await FunctionCallingAgent(RecordingModel(replace(reply, finish="length")).model).act(act())
    assert (note_of(cut), cut.calls, cut.flags) == (CALL_CUT_OFF, (), ("cut_off_call: find",))


async def test_plain_data_beside_a_call_as_text_stays_in_the_conversation_and_is_not_flagged() -> None:
    text = f'{HERMES}\n{{"reason": "You asked."}}'
    decision = await FunctionCallingAgent(RecordingModel(text).model, text_calls="read").act(act())
    assert decision.message == AssistantMessage.of('{"reason": "You asked."}', decision.calls)
    assert decision.flags == ("call_as_text: hermes",)
    assert observed(decision) == ["free"]


def observed(decision: Decision) -> list[object]:
    messages = [decision.observe(call, ToolResult(value="free")) for call in decision.calls]
    assert [message.tool_call_id for message in messages if isinstance(message, ToolMessage)] == [
        call.id for call in decision.calls
    ]
    return [message.content for message in messages]


async def test_text_calls_must_be_tell_or_read() -> None:
    with pytest.raises(UsageError, match="text_calls is `maybe`"):
        FunctionCallingAgent(RecordingModel("x").model, text_calls="maybe")  # pyright: ignore[reportArgumentType]


async def test_a_reply_that_ended_for_an_unknown_reason_is_used_and_flagged() -> None:
    reply = replace(answered("Which day?", finish="unknown"), doubts=("unknown_finish: odd",))
    decision = await FunctionCallingAgent(RecordingModel(reply).model).act(act())
    assert (decision.say, decision.flags) == ("Which day?", ("unknown_finish: odd",))
    whole = answered(None, ToolCall.of("a", "find", {"day": "x"}), finish="unknown")
    assert len((await FunctionCallingAgent(RecordingModel(whole).model).act(act())).calls) == 1
    broken = answered(None, ToolCall.of("a", "find", '{"day": "x'), finish="unknown")
    assert note_of(await FunctionCallingAgent(RecordingModel(broken).model).act(act())) == CALL_CUT_OFF


async def test_a_call_that_the_server_could_not_parse_is_the_models_slip() -> None:
    error = UnparsedCall("http://there answered 400", generated="{", usage=TokensUsed(30, 2))
    decision = await FunctionCallingAgent(ValidatedModel(RecordingModel(error).model)).act(act())
    assert note_of(decision) == UNPARSED
    assert (decision.flags, decision.tokens) == (("unparsed_call",), 32)


async def test_a_call_that_could_not_be_read_is_flagged_and_not_spoken() -> None:
    reply = replace(answered('I look. <tool_call>{"name": "fi'), doubts=("unparsed_call: hermes",))
    decision = await FunctionCallingAgent(RecordingModel(reply).model, text_calls="read").act(act())
    assert note_of(decision) == UNPARSED
    assert (decision.say, decision.calls, decision.flags) == (None, (), ("unparsed_call: hermes",))
    cut = await FunctionCallingAgent(RecordingModel(replace(reply, finish="length")).model).act(act())
    assert (note_of(cut), cut.flags) == (CUT_OFF, ())


async def test_leaked_reasoning_is_flagged() -> None:
    decision = await FunctionCallingAgent(RecordingModel("Sure. <think>hm</think> Which day?").model).act(act())
    assert decision.flags == ("leaked_reasoning",)
