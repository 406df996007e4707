"""Promises of a user simulator: it speaks from a seed, hears only utterances, and changes no value in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simkit.components import checks
from simkit.components.state import State, fork_state
from simkit.components.user import Speak, User, UserTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.core.tasks import Task
from simkit.testing.promises import HOSTILE_TEXTS, Promise, Unchanged, expect, expect_limits, expect_reply, run_promises
from simkit.testing.sample import sample_tasks
from simkit.testing.snapshot import snapshot

REPLIES = ("Which part of town would you like?", "I have found something for you. Shall I book it?", "It is done.")


@dataclass(frozen=True, slots=True)
class UserSubject:
    """A user simulator under test, with a task and the utterances of agents."""

    user: User
    task: Task
    replies: tuple[str, ...]
    deterministic: bool = True

    async def speak(self, conversation: Conversation, state: State, path: str = "", turn: int = 0) -> UserTurn:
        """One utterance; the reply's kind is checked."""
        key = TurnKey(0, self.task.id, 0, path, turn)
        reply = await self.user.speak(Speak(key, self.task, conversation, state))
        return expect_reply(reply, checks.user_turn, "speak")

    async def opened(self) -> tuple[Conversation, State]:
        """The conversation after the user's first words, and the user's state."""
        opening = await self.speak(Conversation(), None)
        return Conversation([Entry.user(opening.text, turn=0)]), opening.state


async def check_user(
    user: User,
    tasks: Sequence[Task] = (),
    *,
    replies: Sequence[str] = REPLIES,
    deterministic: bool = True,
) -> None:
    """Check every promise of a user simulator on each of the tasks.

    Args:
        user: the user simulator.
        tasks: a few tasks; by default of the built-in world.
        replies: the utterances of agents.
        deterministic: whether the same key must give the same words; False around a model that cannot promise it.

    Raises:
        ConformanceError: a promise was broken; the message names it.
    """
    for task in sample_tasks(tasks):
        subject = UserSubject(user, task, tuple(replies), deterministic)
        await run_promises(USER_PROMISES, subject, f"the user `{user.name}`, task {task.id},")


# --- the promises -----------------------------------------------------------------------------------------------------


async def opens_the_conversation(subject: UserSubject) -> None:
    """On an empty conversation, with no state, the user says something and does not hang up."""
    watched = Unchanged(task=subject.task)
    opening = await subject.speak(Conversation(), None)
    expect(opening.text.strip(), "the opening is empty")
    expect(not opening.end, "the user hung up before anybody answered")
    watched.check("speak")


async def same_key_same_words(subject: UserSubject) -> None:
    """The same request gives the same words: no memory exists outside the state."""
    if not subject.deterministic:
        return
    first, second = await subject.speak(Conversation(), None), await subject.speak(Conversation(), None)
    expect(snapshot(first) == snapshot(second), f"it opened with {first.text!r}, then with {second.text!r}")


async def changes_nothing_in_place(subject: UserSubject) -> None:
    """Speaking leaves the conversation, the state and the task as they were: other branches hold them too."""
    conversation, state = await subject.opened()
    for turn, text in enumerate(subject.replies, start=1):
        conversation = conversation.append(Entry.agent(text, turn))
        watched = Unchanged(conversation=conversation, state=state, task=subject.task)
        reply = await subject.speak(conversation, fork_state(state), turn=turn)
        watched.check("speak")
        if reply.end:
            return
        conversation, state = conversation.append(Entry.user(reply.text, turn)), reply.state


async def hears_only_what_is_said(subject: UserSubject) -> None:
    """The user does not hear the agent's calls and results: it says the same with or without them."""
    if not subject.deterministic:
        return
    opened, state = await subject.opened()
    call = ToolCall.of("call_1", "search_hotel", {"area": "riverside"})
    inner = (
        Entry(AssistantMessage.of(None, (call,)), "agent", 1),
        Entry(ToolMessage.of(call.id, '[{"name": "the secret inn"}]'), "tool", 1),
    )
    spoken = Entry.agent(subject.replies[0], 1, step=1)
    plain = await subject.speak(opened.append(spoken), fork_state(state), turn=1)
    thought = await subject.speak(opened.extend((*inner, spoken)), fork_state(state), turn=1)
    expect(
        plain.text == thought.text, f"it said {thought.text!r} instead of {plain.text!r} after a call it cannot hear"
    )


async def branches_are_isolated(subject: UserSubject) -> None:
    """Two branches of one state, answered differently by the agent, do not see each other."""
    if not (subject.user.forkable and subject.deterministic):
        return
    opened, state = await subject.opened()
    watched = Unchanged(parent=state)
    left = opened.append(Entry.agent(subject.replies[0], 1))
    right = opened.append(Entry.agent(subject.replies[-1], 1))
    alone = await subject.speak(left, fork_state(state), "L", 1)
    await subject.speak(right, fork_state(state), "R", 1)
    again = await subject.speak(left, fork_state(state), "L", 1)
    expect(snapshot(alone) == snapshot(again), "a branch spoke differently after its sibling had run")
    watched.check("a branch")


async def hears_any_text(subject: UserSubject) -> None:
    """The user answers any text of the agent."""
    opened, state = await subject.opened()
    for text in HOSTILE_TEXTS:
        await subject.speak(opened.append(Entry.agent(text, 1)), fork_state(state), turn=1)


async def declares_limits(subject: UserSubject) -> None:
    """`concurrency` and `sessions` are None or at least 1."""
    expect_limits(subject.user)


USER_PROMISES: tuple[Promise[UserSubject], ...] = (
    declares_limits,
    opens_the_conversation,
    same_key_same_words,
    changes_nothing_in_place,
    hears_only_what_is_said,
    branches_are_isolated,
    hears_any_text,
)
"""Every promise of a user simulator, for `pytest.mark.parametrize`."""
