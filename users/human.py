"""A person at the terminal as the user."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeAlias, cast

import anyio
import anyio.to_thread

from simkit.components.user import Speak, User, UserTurn
from simkit.core.conversation import Utterance
from simkit.core.messages import ToolCall, ToolSpec
from simkit.core.safe_text import visible, visible_block
from simkit.core.tasks import Task

ReadLine: TypeAlias = Callable[[str], str]
Write: TypeAlias = Callable[[str], object]

_QUIT = frozenset({"/quit", "/exit"})
_HISTORY, _TOOLS = "/history", "/tools"
_HELP = "Ctrl-D or /quit ends the conversation, Ctrl-C the run; /history shows what was said."


def show(text: str) -> None:
    """Write to standard output and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


class HumanUser(User[int]):
    """Prints what the agent says and reads what the person answers; `/quit` or the end of input hangs up.

    In worlds that give the user tools, a line such as `/set_mode {"on": true}` calls one, and its result is shown.

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
    calls_tools: ClassVar[bool] = True
    sessions: int | None = 1

    def __init__(self, read: ReadLine | None = None, write: Write = show) -> None:
        self._read = read
        self._write = write
        self._unread = b""

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        """The next line of the person; its state counts the utterances already shown."""
        said = request.conversation.heard()
        if request.state is None:
            self._write(_briefing(request.task, request.tools))
        for each in request.results:
            name = f"{each.call.name}: "
            self._write(visible(name) + visible_block(each.result.text, len(name)) + "\n")
        shown = request.state or 0
        new = _transcript(each for each in said[shown:] if each.speaker == "agent" or not shown)
        if new:
            self._write(new)
        while True:
            text = await self._line()
            if text is None or text in _QUIT:
                return UserTurn("Goodbye.", end=True, state=len(said) + 1)
            if text == _HISTORY:
                self._write(_transcript(said))
            elif not (request.tools and text.startswith("/")):
                return UserTurn(text, state=len(said) + 1)
            elif text == _TOOLS:
                self._write(_listed(request.tools))
            elif isinstance(call := _call(text, request), ToolCall):
                return UserTurn[int].call(call, state=len(said))
            else:
                self._write(visible(call))

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


def _briefing(task: Task, tools: Sequence[ToolSpec]) -> str:
    own = f"You have tools; a line calls one, and {_TOOLS} lists them again.\n{_listed(tools)}" if tools else ""
    return visible(f"\n--- You are the customer of task {task.id} ---\n{task.instructions}\n{own}{_HELP}\n")


def _listed(tools: Sequence[ToolSpec]) -> str:
    return visible("".join(f"  {_example(tool)}{_about(tool)}\n" for tool in tools))


def _example(tool: ToolSpec) -> str:
    """A line that calls a tool, with the types of its parameters in place of values."""
    names = {name: _kind(schema) for name, schema in tool.properties.items()}
    return f"/{tool.name} {json.dumps(names, ensure_ascii=False)}" if names else f"/{tool.name}"


def _kind(schema: object) -> Any:
    known = cast("dict[str, Any]", schema) if isinstance(schema, dict) else dict[str, Any]()
    return known.get("enum") or known.get("type") or "any"


def _about(tool: ToolSpec) -> str:
    first = (tool.function.description or "").strip().partition("\n")[0]
    return f"   {first}" if first else ""


def _call(line: str, request: Speak[int]) -> ToolCall | str:
    """The call of one of the user's tools in a line, or what is wrong with it."""
    name, _, rest = line[1:].partition(" ")
    if name not in {tool.name for tool in request.tools}:
        return f"there is no tool `{name}`; {_TOOLS} lists yours\n"
    try:
        arguments: object = json.loads(rest or "{}")
    except json.JSONDecodeError as error:
        return f"the arguments are no JSON ({error}); write them as in /{name} {{}}\n"
    if not isinstance(arguments, dict):
        return f"the arguments are no JSON object; write them as in /{name} {{}}\n"
    return ToolCall.of(f"user_{request.key.turn}_{request.step}", name, cast("dict[str, Any]", arguments))
