"""A person at the terminal as the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import ClassVar, TypeAlias

import anyio
import anyio.to_thread

from simkit.components.user import Speak, User, UserTurn
from simkit.core.conversation import Utterance
from simkit.core.safe_text import visible, visible_block
from simkit.core.tasks import Task

ReadLine: TypeAlias = Callable[[str], str]
Write: TypeAlias = Callable[[str], object]

_QUIT = frozenset({"/quit", "/exit"})
_HISTORY = "/history"
_HELP = "Ctrl-D or /quit ends the conversation, Ctrl-C the run; /history shows what was said."


def show(text: str) -> None:
    """Write to standard output and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


class HumanUser(User[int]):
    """Prints what the agent says and reads what the person answers; `/quit` or the end of input hangs up.

    There is one person, so there is one conversation at a time (`sessions`), which cannot be forked: searches that
    branch refuse this user.

    Args:
        read: reads one line after a prompt, raising EOFError at the end, in a thread that keeps waiting for its line
            after a cancellation. By default the terminal is read without a thread.
        write: writes a text; standard output by default.
    """

    name: ClassVar[str] = "human"
    forkable: ClassVar[bool] = False
    interactive: ClassVar[bool] = True
    sessions: int | None = 1

    def __init__(self, read: ReadLine | None = None, write: Write = show) -> None:
        self._read = read
        self._write = write
        self._unread = b""

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        """The next line of the person; its state counts the utterances already shown."""
        said = request.conversation.heard()
        if not said:
            self._write(_briefing(request.task))
        shown = request.state or 0
        new = _transcript(each for each in said[shown:] if each.speaker == "agent")
        if new:
            self._write(new)
        while (text := await self._line()) == _HISTORY:
            self._write(_transcript(said))
        if text is None or text in _QUIT:
            return UserTurn("Goodbye.", end=True, state=len(said) + 1)
        return UserTurn(text, state=len(said) + 1)

    async def _line(self) -> str | None:
        try:
            if self._read is not None:
                return (await anyio.to_thread.run_sync(self._read, "you: ", abandon_on_cancel=True)).strip()
            self._write("you: ")
            return (await self._typed()).strip()
        except EOFError:
            self._write("\n")
            return None
        except anyio.get_cancelled_exc_class():
            self._write("\n")
            raise

    async def _typed(self) -> str:
        """A line from standard input.

        Raises:
            EOFError: there are no more.
        """
        while b"\n" not in self._unread:
            piece = await _read_input()
            if not piece:
                break
            self._unread += piece
        line, _, rest = self._unread.partition(b"\n")
        if not self._unread:
            raise EOFError
        self._unread = rest
        return line.decode(errors="replace")


async def _read_input() -> bytes:
    """Input that is available on standard input, as soon as there is any; empty at its end."""
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # replaced by an object of Python's
        return (await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)).encode()
    try:
        await anyio.wait_readable(descriptor)
    except (OSError, NotImplementedError):  # a file, which never waits
        return await anyio.to_thread.run_sync(os.read, descriptor, 1 << 16, abandon_on_cancel=True)
    return os.read(descriptor, 1 << 16)


def _transcript(said: Iterable[Utterance]) -> str:
    lines = ((f"{'you' if each.speaker == 'user' else each.speaker}: ", each.text) for each in said)
    return "".join(f"{who}{visible_block(text, len(who))}\n" for who, text in lines)


def _briefing(task: Task) -> str:
    return visible(f"\n--- You are the customer of task {task.id} ---\n{task.instructions}\n{_HELP}\n")
