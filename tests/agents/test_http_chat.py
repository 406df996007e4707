"""The agent behind an HTTP endpoint that keeps the conversation: what is posted, what is read, and its branches."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import simkit
from simkit.agents.http_chat import ChatFields, ChatState, HttpChatAgent
from simkit.apis.client import HttpPlace
from simkit.apis.sessions import HttpSession
from simkit.components.agent import Act, Decision, StartAgent
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolCall, ToolMessage
from simkit.errors import AgentFault, UsageError
from simkit.search.josh import BeamSearch, Josh
from simkit.testing.agents import check_agent
from simkit.testing.fixed import fixed_user
from support.http_api import Api, notes_api

pytestmark = pytest.mark.anyio

TOOL = simkit.ToolSpec.of("notes_list", "Lists notes.", {"area": {"type": "string"}})
COPIED = HttpSession(copy="POST /sessions/{session}/copy")


@pytest.fixture(scope="module")
def api() -> Generator[Api]:
    with notes_api() as running:
        yield running


def bot(api: Api, **options: Any) -> HttpChatAgent:
    return HttpChatAgent(api.url, "/chat", place=HttpPlace(url="", wait=0.0, timeout=2.0), **options)


async def told(
    agent: HttpChatAgent, conversation: Conversation, state: ChatState, turn: int = 1, step: int = 0
) -> Decision[ChatState]:
    return await agent.act(Act(TurnKey(0, "t", 0, "", turn), conversation, (TOOL,), state, step))


def heard(text: str, before: Conversation | None = None) -> Conversation:
    return (before or Conversation()).append(Entry.user(text, turn=0))


async def test_words_rules_and_tools_are_posted_and_the_reply_is_spoken(api: Api) -> None:
    async with bot(api) as agent:
        state: ChatState = agent.start(StartAgent((TOOL,), policy="Be kind.")).state
        first = await told(agent, heard("begin"), state)
        assert first.say == "Be kind. ['notes_list']"
        second = await told(agent, heard("And then?", heard("begin")), first.state, turn=2)
        assert second.say == "2 None"
        last = await told(agent, heard("bye"), ChatState())
        assert (last.say, last.end) == ("Goodbye.", True)


async def test_calls_are_made_and_their_results_posted(api: Api) -> None:
    async with bot(api) as agent:
        conversation = heard("find north")
        asked = await told(agent, conversation, ChatState())
        assert asked.calls == (ToolCall.of("t01s00c00", "notes_list", {"area": "north"}),)
        conversation = conversation.append(Entry(asked.message, "agent", turn=1))
        result = ToolMessage.of("t01s00c00", "two rooms")
        conversation = conversation.append(Entry(result, "tool", turn=1))
        assert (await told(agent, conversation, asked.state, step=1)).say == "I have found two rooms for c1."


async def test_tokens_that_an_answer_reports_count_for_the_limits_and_not_for_its_repetition(api: Api) -> None:
    async with bot(api) as agent:
        first = await told(agent, heard("spend"), ChatState())
        assert first.tokens > 90
        state = first.state.fork()
        talk = heard("And then?", heard("spend"))
        assert [(await told(agent, talk, state, turn=2)).say for _ in range(2)] == ["2 None"] * 2
        assert (await told(agent, heard("hello"), ChatState())).tokens == 0


@pytest.mark.parametrize("bounded", [True, False])
async def test_a_budget_that_does_not_hold_for_the_endpoint_is_noted(api: Api, tmp_path: Path, bounded: bool) -> None:
    models = simkit.ModelConfig(max_cost=1.0) if bounded else simkit.ModelConfig()
    async with simkit.Run(store=tmp_path, models=models) as run:
        run.cast(run.world("builtin"), agent=bot(api))
    told = [note for note in run.notes if "does not hold for its agent `http_chat`" in note]
    assert len(told) == bounded


async def test_an_answer_without_words_and_calls_is_the_agents_fault(api: Api) -> None:
    async with bot(api) as agent:
        with pytest.raises(AgentFault, match=r"neither `reply` with words nor `calls`; it has answer"):
            await told(agent, heard("nothing"), ChatState())
    async with bot(api, fields=ChatFields(reply="answer")) as agent:
        with pytest.raises(AgentFault, match="neither `answer`"):
            await told(agent, heard("nothing"), ChatState())


async def test_the_key_is_named_by_a_variable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_TOKEN", "sk-1234567890abcdef")
    async with bot(api, key="$BOT_TOKEN") as agent:
        assert (await told(agent, heard("hello"), ChatState())).say == "1 Bearer [key]"
    with pytest.raises(UsageError, match=r"key=\$NAME"):
        bot(api, key="sk-1234567890abcdef")
    with pytest.raises(UsageError, match="part of `session`"):
        bot(api, session=COPIED, copy="/sessions/{session}/copy")


@pytest.mark.parametrize("session", [None, COPIED], ids=["repeated", "copied"])
async def test_branches_of_a_tree_have_sessions_of_their_own(
    api: Api, tmp_path: Path, session: HttpSession | None
) -> None:
    async with simkit.Run(store=tmp_path) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=bot(api, session=session), user=fixed_user(["One.", "Two.", "Three.", "Four."]))
        search = Josh(BeamSearch(beam=4), simkit.Limits(turns=3))
        (found,) = await run.play(search, cast, run.tasks(world, "test", 1))
    assert found.faults == 0
    assert found.branches > 6
    rows = run.store.query(
        "select b.branch_id, list(m.content order by m.seq) from branches b, conversation(b.branch_id) m "
        "where m.author = 'agent' group by all"
    ).rows
    assert rows
    for _, said in rows:
        assert said == [f"{number} None" for number in range(1, len(said) + 1)]


async def test_it_keeps_the_promises_of_agents(api: Api) -> None:
    async with bot(api, fields=ChatFields(tools="", policy="")) as agent:
        await check_agent(agent, tools=(TOOL,))


async def test_an_endpoint_that_answers_otherwise_cannot_be_forked_without_copies(api: Api) -> None:
    async with bot(api) as agent:
        conversation = heard("drawn")
        first = await told(agent, conversation, ChatState())
        first.state.fork()
        conversation = conversation.append(Entry.agent(first.say or "", turn=1))
        conversation = heard("More.", conversation)
        assert (await told(agent, conversation, first.state, turn=2)).say == "2 None"
        with pytest.raises(AgentFault, match=r"POST /chat gave another result than before.*HttpSession\(copy=\.\.\.\)"):
            await told(agent, conversation, first.state, turn=2)
