"""Demonstrations that an agent's model sees before each conversation, and prompts in few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from acting import FIND, RecordingModel, act, answered

from simkit.agents.commands import CallCommand, CommandError, SpeakCommand, parse
from simkit.agents.few_shot import as_played_by
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.model_agent import ModelAgent
from simkit.agents.react import ReactAgent, signature
from simkit.components.agent import StartAgent
from simkit.components.tools import StartTools
from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage, text_of
from simkit.core.tasks import Task
from simkit.data.reading import read_examples
from simkit.errors import DataMissing, UsageError
from simkit.plugins.loading import load
from simkit.plugins.prompts import PromptChoice
from simkit.run.casting import AGENT
from simkit.tools.builtin.world import BuiltinWorld

NO_TASK = Task(id="T", world="builtin", split="test", instructions="")
CHOICES: tuple[PromptChoice, ...] = (None, "compact")
pytestmark = pytest.mark.anyio

CALL = {"id": "c0", "type": "function", "function": {"name": "find", "arguments": '{"day": "Sunday"}'}}
SHOWN: list[dict[str, Any]] = [
    {"role": "system", "content": "Another system prompt."},
    {"role": "user", "content": "A bicycle for Sunday?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c0", "content": '[{"name": "red tourer"}]'},
    {"role": "assistant", "content": "The red tourer is free."},
]


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    file = tmp_path / "shown.jsonl"
    rows = [SHOWN[:3], SHOWN, [SHOWN[0], {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]]
    file.write_bytes(b"\n".join(orjson.dumps({"messages": row}) for row in rows))
    return file


async def test_demonstrations_are_sent_between_the_system_prompt_and_the_conversation(shown: Path) -> None:
    asked = RecordingModel(answered("For which day?"))
    agent = FunctionCallingAgent(asked.model, examples=shown)
    first = await agent.act(act())
    sent = asked.requests[0].messages
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    assert [message.role for message in sent] == roles, "the beginning of another demonstration is left out"
    assert sent[2] == AssistantMessage.of(None, (ToolCall.of("c0", "find", '{"day": "Sunday"}'),))
    assert (sent[0].content, sent[-1].content) == ("S", "A bicycle, please.")
    later = act(Entry(AssistantMessage.of("For which day?"), "agent", 3, 1), Entry.user("Monday.", 3), step=1)
    await agent.act(later)
    await FunctionCallingAgent(asked.model, examples=shown).act(later)
    assert [*asked.requests[1].messages] == [*asked.requests[2].messages]
    assert [*asked.requests[1].messages[: len(sent)]] == [*sent]
    assert first.say == "For which day?"


async def test_react_sees_demonstrations_as_commands(shown: Path) -> None:
    asked = RecordingModel(answered("SPEAK For which day? <COMMAND_END>"))
    await ReactAgent(asked.model, examples=shown).act(act())
    assert [*asked.requests[0].messages[1:5]] == [
        UserMessage.of("A bicycle for Sunday?"),
        AssistantMessage.of('APICALL {"name": "find", "parameters": {"day": "Sunday"}} <COMMAND_END>'),
        UserMessage.of('APIRETURN [{"name": "red tourer"}]'),
        AssistantMessage.of("SPEAK The red tourer is free. <COMMAND_END>"),
    ]


async def test_demonstrations_of_react_stay_as_they_were_written(tmp_path: Path) -> None:
    file, text = tmp_path / "r.jsonl", "PLAN Ask. <COMMAND_END>\nSPEAK Which day? <COMMAND_END>"
    rows = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
    file.write_bytes(orjson.dumps({"messages": rows}))
    asked = RecordingModel(answered(text))
    await ReactAgent(asked.model, examples=file).act(act())
    assert asked.requests[0].messages[2] == AssistantMessage.of(text)
    assert not any(isinstance(message, ToolMessage) for message in asked.requests[0].messages)


def test_a_file_without_demonstrations_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kto.jsonl"
    rows = {"prompt": SHOWN[1:2], "completion": SHOWN[4:], "label": True}
    file.write_bytes(orjson.dumps(rows))
    with pytest.raises(UsageError, match=r"holds no demonstrations.*export sft"):
        FunctionCallingAgent(RecordingModel("").model, examples=file)
    with pytest.raises(DataMissing):
        FunctionCallingAgent(RecordingModel("").model, examples=tmp_path / "none.jsonl")


@pytest.mark.parametrize("agent", [FunctionCallingAgent, ReactAgent])
def test_a_compact_prompt_is_shorter_and_keeps_rules_and_tools(agent: type[ModelAgent]) -> None:
    model, start = RecordingModel("").model, StartAgent((FIND,), policy="Never on Sundays.")
    usual, compact = (agent(model, chosen).start(start).system or "" for chosen in CHOICES)
    assert len(compact) < 0.7 * len(usual)
    assert compact.endswith("Never on Sundays.")
    assert "{{" not in compact
    assert (agent is ReactAgent) == ("find(day: The day.)" in compact)


def test_a_signature_names_optional_parameters_and_values() -> None:
    tools = {spec.name: spec for spec in BuiltinWorld(compact=True).tools().start(StartTools(NO_TASK)).specs}
    assert signature(tools["book_train"]) == "book_train(trainID, people: 1|2|3|4|5|6|7|8)"
    assert signature(tools["search_attraction"]).endswith(
        ", area?: harbour|old town|hillside|riverside|market quarter, name?)"
    )
    assert signature(tools["search_train"]).endswith(", leaveAt?: HH:MM, arriveBy?: HH:MM)")
    assert "pricerange?: cheap|moderate|expensive" in signature(tools["search_restaurant"])


def test_the_word_compact_is_no_file_in_the_folder_of_the_run(tmp_path: Path) -> None:
    given = {"model": RecordingModel("").model}
    compact = load(AGENT, "react,prompt=compact", given, tmp_path)
    assert isinstance(compact, ReactAgent)
    assert compact.prompt.name == "react-compact-1.txt"
    (tmp_path / "mine.txt").write_text("{{tools}}")
    own = load(AGENT, "react,prompt=mine.txt", given, tmp_path)
    assert isinstance(own, ReactAgent)
    assert own.prompt.name == str(tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="or `compact` for the shipped one in few words"):
        load(AGENT, "react,prompt=compct", given, tmp_path)


def test_a_minimal_prompt_names_commands_and_parameters_alone() -> None:
    start = StartAgent((FIND,), policy="Never on Sundays.")
    minimal = ReactAgent(RecordingModel("").model, "minimal").start(start).system or ""
    assert minimal.splitlines()[-1] == "find(day)"
    assert {line.split()[0] for line in minimal.splitlines()[:-1]} == {"APICALL", "SPEAK"}
    parsed = parse(minimal)
    assert not isinstance(parsed, CommandError), "what it shows is the form that the agent reads"
    assert [type(command) for command in parsed] == [CallCommand, SpeakCommand]


@pytest.mark.parametrize("options", ["react,prompt=minimal,constrained=true", "function_calling,prompt=minimal"])
def test_an_agent_without_a_minimal_prompt_says_so(options: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minimal"):
        load(AGENT, options, {"model": RecordingModel("").model}, tmp_path)


def test_conversations_of_any_agent_become_lessons_in_an_agents_own_form(shown: Path) -> None:
    examples, start = read_examples(shown), StartAgent((FIND,), policy="")
    react = ReactAgent(RecordingModel("").model, "minimal")
    lesson = as_played_by(react, start, examples).demonstrations[1]
    assert [(each.role, text_of(each)) for each in lesson.messages] == [
        ("system", react.start(start).system),
        ("user", "A bicycle for Sunday?"),
        ("assistant", 'APICALL {"name": "find", "parameters": {"day": "Sunday"}} <COMMAND_END>'),
        ("user", 'APIRETURN [{"name": "red tourer"}]'),
        ("assistant", "SPEAK The red tourer is free. <COMMAND_END>"),
    ]
    assert (lesson.tools, lesson.origin) == ((), examples.demonstrations[1].origin)
    calling = FunctionCallingAgent(RecordingModel("").model, prompt="compact")
    lesson = as_played_by(calling, start, examples).demonstrations[1]
    assert lesson.messages[0] == SystemMessage.of(calling.start(start).system or "")
    assert lesson.messages[1:] == examples.demonstrations[1].messages[1:]
    assert lesson.tools == (FIND,)
