"""Sessions with an MCP server: one process or connection each, and the folder that holds its state."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from simkit.apis.client import variables_in, with_variables
from simkit.core.cancellation import leaves
from simkit.core.redaction import names_secret
from simkit.core.safe_text import visible
from simkit.errors import ToolFault, UsageError
from simkit.models.transport.secrets import Secrets
from simkit.plugins.extras import require

PLACE = "{state}"
"""What stands for the folder with a server's state, in its command and its environment."""

SHOWN = "/state"
"""Path of that folder in calls and results, so that they do not depend on the session."""

MOST_TOOLS = 10_000
"""Tools of a server at most; one that lists more does not end."""

ENDING = 10.0
"""Seconds that a server may take to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStart:
    """How a server is started or reached.

    Attributes:
        command: command line of a server on stdio.
        cwd: folder in which it runs; None for the current one.
        url: address of a server over streamable HTTP.
        env: additional environment variables. Values may refer to this process's variables (`$NAME`).
        headers: headers of requests to `url`, whose values may do the same.
        timeout: seconds that a call may take without a sign of progress, and the start of a session altogether.
    """

    command: str | None = None
    cwd: str | None = None
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout: float = 60.0

    @property
    def has_place(self) -> bool:
        """Whether the command or the environment says where the state lives."""
        return any(PLACE in text for text in (self.command or "", self.cwd or "", *self.env.values()))

    def secrets(self) -> Secrets:
        """The variables in headers, and those in the environment whose names say that they are secret."""
        named = [name for text in self.headers.values() for name in variables_in(text)]
        for own, text in self.env.items():
            named += [name for name in variables_in(text) if names_secret(own) or names_secret(name)]
        return Secrets.of(os.environ.get(name, "") for name in named)

    @property
    def name(self) -> str:
        """The server, for messages."""
        return f"the MCP server `{self.command or self.url}`"


class Session:
    """One session. Its task holds the connection; calls come from the tasks of the branches.

    Attributes:
        folder: the folder with the server's state; None if it has none.
        mark: number of calls that it has answered.
        busy: number of calls in progress.
        dead: why it has ended.
    """

    def __init__(self, start: ServerStart, folder: Path | None, log: Path) -> None:
        self.folder = folder
        self.mark = 0
        self.busy = 0
        self.dead: str | None = None
        self._start = start
        self._secrets = start.secrets()
        self._log = log
        self._client: Any = None
        self._stop = anyio.Event()
        self.ended = anyio.Event()

    async def live(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Hold the connection until `close`.

        Raises:
            ToolFault: the server could not be started or reached.
        """
        ready = False
        try:
            async with AsyncExitStack() as stack:
                transport = await self._transport(stack)
                client = require("mcp", "mcp").Client(transport, cache=None)
                self._client = await stack.enter_async_context(client)
                ready = True
                task_status.started()
                await self._stop.wait()
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt):
            raise
        except UsageError:
            raise
        except BaseException as error:  # a server may end in any way; so may what the client runs for it
            self.dead = self.clean(_said(error))
            if not ready:
                raise ToolFault(f"{self._start.name} cannot be started: {self.dead}{self._last_words()}") from error
        finally:
            self.dead = self.dead or "its session was closed"
            self.ended.set()

    async def _transport(self, stack: AsyncExitStack) -> Any:
        start = self._start
        if start.url is not None:
            http, httpx2 = require("mcp.client.streamable_http", "mcp"), require("httpx2", "mcp")
            headers = {name: with_variables(value) for name, value in start.headers.items()}
            client = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=None))
            return http.streamable_http_client(start.url, http_client=client)
        stdio = require("mcp.client.stdio", "mcp")
        place = str(self.folder or "")
        command, *arguments = [word.replace(PLACE, place) for word in shlex.split(start.command or "")]
        env = {name: with_variables(value).replace(PLACE, place) for name, value in start.env.items()}
        cwd = None if start.cwd is None else start.cwd.replace(PLACE, place)
        log = stack.enter_context(self._log.open("w", errors="replace"))
        parameters = stdio.StdioServerParameters(command=command, args=arguments, env=env, cwd=cwd)
        return stdio.stdio_client(parameters, errlog=log)

    async def open(self, tasks: TaskGroup) -> None:
        """Start it in a task group.

        Raises:
            ToolFault: the server could not be started or reached, or not in time.
        """
        with anyio.move_on_after(self._start.timeout) as scope:
            await tasks.start(self.live)
        if scope.cancelled_caught:
            raise ToolFault(f"{self._start.name} did not start within {self._start.timeout:g} s{self._last_words()}")

    async def tools(self) -> list[Any]:
        """The tools of the server.

        Raises:
            ToolFault: it does not list them in time, or without end.
        """
        found: list[Any] = []
        cursor: str | None = None
        seen: set[str | None] = set()
        with anyio.move_on_after(self._start.timeout):
            while cursor not in seen and len(found) <= MOST_TOOLS:
                seen.add(cursor)
                page = await self._client.list_tools(cursor=cursor)
                found += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    return found
            raise ToolFault(f"{self._start.name} lists its tools without end ({len(found):,} so far)")
        raise ToolFault(f"{self._start.name} did not list its tools within {self._start.timeout:g} s")

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """The server's answer to a call; cancelling it cancels the call at the server.

        Raises:
            MCPError: the server refused the call.
            ToolFault: the session ended, or there was no sign of progress in time.
        """
        limit = self._start.timeout
        answer: Any = None
        with anyio.move_on_after(limit) as scope:

            async def progress(*_told: Any) -> None:
                scope.deadline = anyio.current_time() + limit

            self.mark += 1
            given = self._replaced(arguments, SHOWN, str(self.folder))
            answer = await self._client.call_tool(name, given, progress_callback=progress)
        if scope.cancelled_caught:
            raise ToolFault(f"{self._start.name} did not answer `{name}` within {limit:g} s{self._last_words()}")
        return answer

    def shown(self, value: Any) -> Any:
        """A result without secrets, in which the folder has the path that all sessions show."""
        return self._without_secrets(self._replaced(value, str(self.folder), SHOWN))

    def clean(self, text: str) -> str:
        """A message of the server without secrets."""
        return self._secrets.out_of_message(text)

    def _without_secrets(self, value: Any) -> Any:
        if not self._secrets.signs:
            return value
        match value:
            case str():
                return self._secrets.out_of_answer(value.encode("utf-8", "replace")).decode("utf-8", "replace")
            case list():
                return [self._without_secrets(each) for each in cast("list[Any]", value)]
            case dict():
                held = cast("dict[str, Any]", value)
                return {name: self._without_secrets(each) for name, each in held.items()}
            case _:
                return value

    def _replaced(self, value: Any, old: str, new: str) -> Any:
        if self.folder is None:
            return value
        match value:
            case str():
                return value.replace(old, new)
            case list():
                return [self._replaced(each, old, new) for each in cast("list[Any]", value)]
            case dict():
                held = cast("dict[str, Any]", value)
                return {name: self._replaced(each, old, new) for name, each in held.items()}
            case _:
                return value

    def lost(self, doing: str) -> ToolFault:
        """The fault of a session that has ended."""
        return ToolFault(f"{self._start.name} ended while {doing}{self._last_words()}")

    async def close(self) -> None:
        """End the session."""
        self._stop.set()
        with anyio.move_on_after(ENDING, shield=True):
            await self.ended.wait()

    def _last_words(self) -> str:
        """What the server wrote to its error output last."""
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()[-5:]
            if lines:
                return "; it wrote:\n" + "\n".join(visible(self.clean(line[:500])) for line in lines)
        return ""


class Folders:
    """The folders with servers' states: one a session, and frozen copies from which other branches go on.

    Args:
        seed: what each episode begins with; None for an empty folder.
    """

    def __init__(self, seed: Path | None) -> None:
        self._seed = seed
        self._root = Path(tempfile.mkdtemp(prefix="simkit-mcp-"))
        self._number = 0

    def log(self) -> Path:
        """A new file for the error output of a server."""
        self._number += 1
        return self._root / f"{self._number}.log"

    async def new(self, source: Path | None = None) -> Path:
        """A new folder: a copy of a frozen one, or of the seed."""
        return await anyio.to_thread.run_sync(self.copied, source or self._seed)

    def copied(self, source: Path | None) -> Path:
        """A copy of a folder; an empty one without a source.

        Raises:
            UsageError: a link of it leads to a place that all copies would share.
        """
        self._number += 1
        target = self._root / str(self._number)
        if source is None:
            target.mkdir()
            return target
        for path, folders, files in os.walk(source):
            for name in (*folders, *files):
                _check_link(Path(path, name), source)
        shutil.copytree(source, target, symlinks=True)
        return target

    def remove(self, folder: Path) -> None:
        """Remove a folder."""
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._root, ignore_errors=True)


def _check_link(path: Path, source: Path) -> None:
    if not path.is_symlink() or not path.exists():  # a link to nothing is a name, as of a lock
        return
    if os.path.isabs(os.readlink(path)) or not path.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"{path} links to {os.readlink(path)}, which all copies of the server's state would share; put the file "
            "itself there, or a relative link within the folder"
        )


def _said(error: BaseException) -> str:
    first = next(leaves(error))
    return visible(f"{type(first).__name__}: {first}" if str(first) else type(first).__name__)[:500]
