"""A person at the terminal as the user."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import anyio.to_thread

from simkit.components.user import Speak, User, UserTurn
from simkit.core.safe_text import visible, visible_block
from simkit.core.tasks import Task

ReadLine: TypeAlias = Callable[[str], str]
Write: TypeAlias = Callable[[str], object]

_QUIT = frozenset({"/quit", "/exit"})


def read_line(prompt: str) -> str:
    """A line from standard input; `EOFError` at its end."""
    return input(prompt)


def show(text: str) -> None:
    """Write to standard output and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


class HumanUser(User):
    """Prints what the agent says and reads what the person answers; `/quit` or the end of input hangs up.

    There is one person, so there is one conversation at a time (`sessions`), which cannot be forked: searches that
    branch refuse this user. Lines are read in a separate thread. Reading can be cancelled; the thread then keeps
    waiting for its line.

    Args:
        read: reads one line after a prompt, raising EOFError at the end; the terminal by default.
        write: writes a text; standard output by default.
    """

    name: ClassVar[str] = "human"
    forkable: ClassVar[bool] = False
    interactive: ClassVar[bool] = True
    sessions: int | None = 1

    def __init__(self, read: ReadLine = read_line, write: Write = show) -> None:
        self._read = read
        self._write = write

    async def speak(self, request: Speak) -> UserTurn:
        """The next line of the person; its state counts the utterances already shown."""
        said = request.conversation.heard()
        if not said:
            self._write(_briefing(request.task))
        shown = request.state if isinstance(request.state, int) else 0
        for utterance in said[shown:]:
            if utterance.speaker == "agent":
                self._write(f"agent: {visible_block(utterance.text, len('agent: '))}\n")
        text = await self._line()
        if text is None or text in _QUIT:
            return UserTurn("Goodbye.", end=True, state=len(said) + 1)
        return UserTurn(text, state=len(said) + 1)

    async def _line(self) -> str | None:
        try:
            line = await anyio.to_thread.run_sync(self._read, "you: ", abandon_on_cancel=True)
        except EOFError:
            return None
        return line.strip()


def _briefing(task: Task) -> str:
    return visible(f"You are the customer of task {task.id}. Say /quit to hang up.\n{task.instructions}\n")
