from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import pytest

from simkit.components.user import Speak, UserTurn
from simkit.core.conversation import Conversation, Entry, Utterance
from simkit.core.ids import TurnKey
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.users.human import HumanUser
from simkit.users.script import ScriptUser

pytestmark = pytest.mark.anyio

KEY = TurnKey(0, "t1", 0, "", 0)
REFERENCE = (
    Utterance("user", "A train please."),
    Utterance("agent", "Where to?"),
    Utterance("user", "To Ely."),
    Utterance("agent", "Done."),
)


def task(reference: tuple[Utterance, ...] = ()) -> Task:
    return Task(id="t1", world="w", split="s", instructions="Find a train.", reference=reference)


async def test_the_recorded_turns_come_in_order_and_then_it_ends() -> None:
    said = Conversation()
    turns: list[UserTurn] = []
    state = None
    for _ in range(3):
        turn = await ScriptUser().speak(Speak(KEY, task(REFERENCE), said, state))
        state = turn.state
        turns.append(turn)
        said = said.extend([Entry.user(turn.text, 0), Entry.agent("Hm.", 1)])
    assert [turn.text for turn in turns[:2]] == ["A train please.", "To Ely."]
    assert [turn.end for turn in turns] == [False, False, True]


async def test_a_task_without_a_dialogue_is_refused() -> None:
    with pytest.raises(UsageError, match="task t1 of w has no recorded dialogue"):
        await ScriptUser().speak(Speak(KEY, task(), Conversation(), None))


def typing(*lines: str) -> tuple[HumanUser, list[str]]:
    left: Iterator[str] = iter(lines)
    shown: list[str] = []

    def read(prompt: str) -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    return HumanUser(read=read, write=shown.append), shown


async def test_a_person_sees_the_errand_and_what_the_agent_says() -> None:
    user, shown = typing(" a train \n", "to Ely")
    opening = await user.speak(Speak(KEY, task(), Conversation(), None))
    said = Conversation([Entry.user(opening.text, 0), Entry.agent("Where to?", 1)])
    answer = await user.speak(Speak(KEY, task(), said, opening.state))
    assert (opening.text, answer.text) == ("a train", "to Ely")
    assert "Find a train." in shown[0]
    assert shown[1:] == ["agent: Where to?\n"]


@pytest.mark.parametrize("lines", [("/quit",), ()])
async def test_quit_and_the_end_of_input_hang_up(lines: tuple[str, ...]) -> None:
    user, _ = typing(*lines)
    turn = await user.speak(Speak(KEY, task(), Conversation(), None))
    assert turn.end


async def test_waiting_for_a_person_can_be_cancelled() -> None:
    waiting, release = threading.Event(), threading.Event()

    def read(prompt: str) -> str:
        waiting.set()
        release.wait(20)
        return "late"

    user = HumanUser(read=read, write=lambda text: None)
    try:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(user.speak, Speak(KEY, task(), Conversation(), None))
                await anyio.to_thread.run_sync(waiting.wait)
                tasks.cancel_scope.cancel()
    finally:
        release.set()


def test_a_person_cannot_be_forked() -> None:
    assert HumanUser.forkable is False
