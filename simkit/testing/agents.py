"""Promises of an agent: valid decisions on any text, determined by the seed, with no value changed in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from simkit.components import checks
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.state import State, fork_state
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Task
from simkit.testing.promises import HOSTILE_TEXTS, Promise, Unchanged, expect, expect_limits, expect_reply, run_promises
from simkit.testing.snapshot import snapshot

OPENINGS = ("Hello, can you help me?", "I need a train and a hotel for 2 people on friday.", "Book it, please.")


@dataclass(frozen=True, slots=True)
class AgentSubject:
    """An agent under test, with its tools and the texts of users."""

    agent: Agent
    tools: tuple[ToolSpec, ...]
    texts: tuple[str, ...]
    deterministic: bool = True

    def start(self) -> AgentStart:
        """The agent's start of an episode."""
        return expect_reply(self.agent.start(StartAgent(self.tools)), checks.agent_start, "start")

    def opening(self, text: str) -> Conversation:
        """The conversation after the user's first words."""
        system = self.start().system
        opened = Conversation() if system is None else Conversation([Entry.system(system)])
        return opened.append(Entry.user(text, turn=0))

    async def act(
        self, conversation: Conversation, state: State, path: str = "", turn: int = 1, step: int = 0
    ) -> Decision:
        """One decision; the reply's kind is checked."""
        key = TurnKey(0, "conformance", 0, path, turn)
        reply = await self.agent.act(Act(key, conversation, self.tools, state, step))
        return expect_reply(reply, checks.decision, "act")


async def check_agent(
    agent: Agent,
    tasks: Sequence[Task] = (),
    *,
    tools: Sequence[ToolSpec] = (),
    texts: Sequence[str] = OPENINGS,
    deterministic: bool = True,
) -> None:
    """Check every promise of an agent.

    Args:
        agent: the agent.
        tasks: tasks whose instructions users say as well.
        tools: the tools of the agent.
        texts: the utterances of users.
        deterministic: whether the same key must give the same decision; False for agents around a model that cannot
            promise it.

    Raises:
        ConformanceError: a promise was broken; the message names it.
    """
    said = (*texts, *(task.instructions for task in tasks))
    subject = AgentSubject(agent, tuple(tools), said, deterministic)
    await run_promises(AGENT_PROMISES, subject, f"the agent `{agent.name}`")


def seen(decision: Decision) -> str:
    """A decision's content, without the function that writes results."""
    parts = (decision.message, decision.calls, decision.say, decision.end, decision.state)
    return snapshot((*parts, decision.tokens, decision.cost))


# --- the promises -----------------------------------------------------------------------------------------------------


async def starts_alike(subject: AgentSubject) -> None:
    """Starting twice gives the same system prompt and state."""
    first = subject.start()
    expect(snapshot(first) == snapshot(subject.start()), "two starts differ")


async def changes_nothing_in_place(subject: AgentSubject) -> None:
    """A decision leaves conversation, state and tools as they were: other branches hold them too."""
    state = subject.start().state
    for text in subject.texts:
        conversation = subject.opening(text)
        watched = Unchanged(conversation=conversation, state=state, tools=subject.tools)
        await subject.act(conversation, fork_state(state))
        watched.check("act")


async def same_key_same_decision(subject: AgentSubject) -> None:
    """The same request gives the same decision, alone and beside others: no memory exists outside the state."""
    if not subject.deterministic:
        return
    state = subject.start().state
    conversations = [subject.opening(text) for text in subject.texts]
    alone = [seen(await subject.act(conversation, fork_state(state))) for conversation in conversations]
    together: dict[int, str] = {}

    async def branch(number: int) -> None:
        together[number] = seen(await subject.act(conversations[number], fork_state(state)))

    async with anyio.create_task_group() as group:
        for number in reversed(range(len(conversations))):
            group.start_soon(branch, number)
    for number, before in enumerate(alone):
        expect(together[number] == before, f"on {subject.texts[number]!r} it decided differently the second time")


async def calls_are_well_formed(subject: AgentSubject) -> None:
    """Call ids are unique within a turn, results can be rendered for the agent, and the turn continues after them."""
    for text in subject.texts:
        conversation, state = subject.opening(text), subject.start().state
        ids: list[str] = []
        for step in range(3):
            decision = await subject.act(conversation, state, step=step)
            conversation = conversation.append(Entry(decision.message, "agent", 1, step, decision.say))
            conversation = conversation.extend(_results(decision, step))
            ids.extend(call.id for call in decision.calls)
            state = decision.state
            if decision.say is not None or decision.end:
                break
        expect(len(set(ids)) == len(ids), f"call ids repeat within one turn: {ids}")


async def reads_any_text(subject: AgentSubject) -> None:
    """The agent answers any text of the user with a decision."""
    for text in HOSTILE_TEXTS:
        await subject.act(subject.opening(text), subject.start().state)


async def branches_are_isolated(subject: AgentSubject) -> None:
    """Two branches of one state, answered differently by the user, do not see each other."""
    if not (subject.agent.forkable and subject.deterministic):
        return
    conversation = subject.opening(subject.texts[0])
    first = await subject.act(conversation, subject.start().state)
    watched = Unchanged(parent=first.state)
    grown = conversation.append(Entry(first.message, "agent", 1, 0, first.say)).extend(_results(first, 0))
    left, right = (grown.append(Entry.user(text, turn=1)) for text in (subject.texts[-1], "No, thank you. Goodbye."))
    alone = seen(await subject.act(left, fork_state(first.state), "L", 2))
    await subject.act(right, fork_state(first.state), "R", 2)
    again = seen(await subject.act(left, fork_state(first.state), "L", 2))
    expect(alone == again, "a branch decided differently after its sibling had run")
    watched.check("a branch")


def _results(decision: Decision, step: int) -> list[Entry]:
    answers = [*_ANSWERS, ToolResult(value=[])]
    return [
        _answered(decision, call, answers[number % len(answers)], step) for number, call in enumerate(decision.calls)
    ]


def _answered(decision: Decision, call: ToolCall, result: ToolResult, step: int) -> Entry:
    observed = expect_reply(decision.observe(call, result), checks.message, "`observe`")
    return Entry(observed, "tool", 1, step)


_ANSWERS = (
    ToolResult(value={"error": "the service is down"}, error=True),
    ToolResult(value="plain text"),
    ToolResult(value=None),
)


async def declares_limits(subject: AgentSubject) -> None:
    """`concurrency` and `sessions` are None or at least 1."""
    expect_limits(subject.agent)


AGENT_PROMISES: tuple[Promise[AgentSubject], ...] = (
    declares_limits,
    starts_alike,
    changes_nothing_in_place,
    same_key_same_decision,
    calls_are_well_formed,
    reads_any_text,
    branches_are_isolated,
)
"""Every promise of an agent, for `pytest.mark.parametrize`."""
