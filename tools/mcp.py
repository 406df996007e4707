"""Any MCP server as a tool server, over stdio or streamable HTTP: `McpTools`.

    McpTools(command="mcp-server-time", stateless=True)
    McpTools(command="npx @modelcontextprotocol/server-filesystem {state}", state="seed-folder")
    McpTools(url="http://127.0.0.1:8000/mcp", headers={"authorization": "Bearer $TOKEN"}, stateless=True)

A server whose answers depend on earlier calls has to keep its state in a folder, and to be told which: `{state}` in its
command, its environment or `cwd`. Calls and results show it as `/state`, wherever it is. Each branch of a search then
has its own session and its own folder. Of a server that is declared `stateless`, some sessions serve all conversations.
A server that is neither is given one session for each conversation, and cannot be forked.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import anyio
from anyio.abc import TaskGroup

from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.messages import ToolResult, ToolSpec
from simkit.errors import InvalidArguments, ToolFault, UsageError
from simkit.plugins.extras import require
from simkit.tools.mcp_results import result_of, specs_of, without_fields
from simkit.tools.mcp_sessions import Folders, ServerStart, Session

REFUSED = -32602
"""Code of JSON-RPC for invalid parameters: the caller's mistake."""

LOST = -32000
"""Code with which the client says that the connection was closed."""


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was answered: its name at the server, its arguments, and the result."""

    name: str
    arguments: Mapping[str, Any]
    result: ToolResult


class _Kept:
    """What is left of a branch between two calls: its session, or a frozen copy of its folder, or both."""

    def __init__(self, session: Session | None, mark: int) -> None:
        self.session = session
        self.mark = mark
        self.frozen: Path | None = None
        self.shared = False
        self.lock = anyio.Lock()

    @property
    def open(self) -> bool:
        """Whether the session is still where this branch left it."""
        return self.session is not None and self.session.mark == self.mark and self.session.dead is None


class _Token:
    """Is gone when no branch can go on from its place any more."""

    def __init__(self, kept: _Kept) -> None:
        self.kept = kept


@dataclass(frozen=True, slots=True)
class McpState:
    """The state of a branch: its calls so far, and where the server's state is."""

    done: tuple[Done, ...] = ()
    token: _Token | None = field(default=None, compare=False, repr=False)

    def fork(self) -> McpState:
        """The same state for one more branch. The folder is copied when the first of them goes on."""
        if self.token is not None:
            self.token.kept.shared = True
        return self


class McpTools(ToolServer[McpState]):
    """The tools of an MCP server.

    Args:
        command: command line of a server on stdio. It is not given to a shell, and the server may be installed in
            another environment. `{state}` stands for the folder with its state.
        url: instead of a command, the address of a server over streamable HTTP.
        stateless: no answer depends on earlier calls, so that sessions may be shared.
        cwd: folder in which the server runs, such as `{state}`; None for the current one.
        state: folder that each episode begins with a copy of; None for an empty folder.
        forks: how another branch gets the server's state: a `copy` of the folder at the fork, or a `replay` of the
            calls on a copy of `state`, whose results must be the same.
        volatile: fields of results that may differ in a replay (`timestamp`).
        env: additional environment variables of the server. `$NAME` refers to a variable of this process.
        headers: headers for `url`, whose values may do the same.
        only, without: names of tools that are offered, or left out.
        most: maximum number of sessions at once.
        at_once: calls that a session of a stateless server takes at once.
        timeout: seconds that a call may take without a sign of progress.
        policy: the rules for agents.

    Raises:
        UsageError: the options contradict each other.
    """

    name: ClassVar[str] = "mcp"

    def __init__(
        self,
        command: str | None = None,
        *,
        url: str | None = None,
        cwd: str | None = None,
        stateless: bool = False,
        state: str | Path | None = None,
        forks: Literal["copy", "replay"] = "copy",
        volatile: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
        most: int = 8,
        at_once: int = 1,
        timeout: float = 60.0,
        policy: str = "",
    ) -> None:
        self._start = ServerStart(
            command=command, cwd=cwd, url=url, env=env or {}, headers=headers or {}, timeout=timeout
        )
        self._seed = None if state is None else Path(state)
        self._check(stateless, most, at_once)
        self._stateless = stateless
        self._forks = forks
        self._volatile = tuple(volatile)
        self._filters = (tuple(only), tuple(without))
        self._most = most
        self._at_once = at_once
        self._policy = policy
        self._specs: dict[str, tuple[str, ToolSpec]] = {}
        self._sessions: OrderedDict[Session, _Kept | None] = OrderedDict()  # least recently used first
        self._starting = 0
        self._unused: deque[_Kept] = deque()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._folders: Folders | None = None
        self.forkable = stateless or self._start.has_place
        self.unforkable_because = (
            f"nothing says where {self._start.name} keeps its state; put {{state}} into its command or env, or declare "
            "it stateless"
        )
        self.concurrency = most * at_once if stateless else most
        self.sessions = None if self.forkable else most

    def _check(self, stateless: bool, most: int, at_once: int) -> None:
        start = self._start
        if (start.command is None) == (start.url is None):
            raise UsageError("an MCP server has either a command or a url; give one of them")
        if stateless and (start.has_place or self._seed is not None):
            raise UsageError(f"{start.name} is said to be stateless, and to have a folder for its state; choose one")
        if self._seed is not None and not self._seed.is_dir():
            raise UsageError(f"{self._seed}, the first state of {start.name}, is no folder")
        if self._seed is not None and not start.has_place:
            raise UsageError(f"{start.name} is not told where its state is; put {{state}} into its command or env")
        if min(most, at_once) < 1:
            raise UsageError("an MCP server needs at least one session that takes at least one call")

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._folders = Folders(self._seed)
        self._stack.callback(self._folders.close)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.push_async_callback(self._close_all)
        try:
            first = await self._session(self._opened.copied(self._seed) if self._start.has_place else None)
            self._specs = specs_of(await first.tools(), *self._filters)
            if self._stateless:
                self._sessions[first] = None
            else:
                await self._discard(first)
        except BaseException as error:
            await self._stack.aclose()
            if isinstance(error, ToolFault):  # at the start it is a matter of what was configured
                raise UsageError(str(error)) from None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _close_all(self) -> None:
        assert self._tasks is not None
        with anyio.CancelScope(shield=True):  # each session is given a bounded time, also where the run was cancelled
            async with anyio.create_task_group() as group:
                for session in self._sessions:
                    group.start_soon(session.close)
        self._tasks.cancel_scope.cancel()

    def start(self, request: StartTools) -> ToolsStart[McpState]:
        """The tools of the server, and the first state."""
        return ToolsStart(tuple(spec for _, spec in self._specs.values()), McpState(), self._policy)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def call(self, request: CallTool[McpState]) -> ToolReturn[McpState]:
        """The result of one call.

        Raises:
            ToolFault: the server ended, did not answer in time, or did not repeat its results in a replay.
        """
        known = self._specs.get(request.call.name)
        if known is None:
            said = f"there is no tool `{request.call.name[:100]}`; there are: {', '.join(self._specs)}"
            return ToolReturn(ToolResult(value=said, error=True), request.state)
        try:
            arguments = request.call.parse_arguments()
        except InvalidArguments as error:
            return ToolReturn(ToolResult(value=str(error), error=True), request.state)
        await self._end_unused()
        if self._stateless:
            return ToolReturn(await self._shared(known[0], arguments), request.state)
        return await self._owned(known[0], arguments, request.state)

    async def _shared(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """A call by whichever session has the least to do."""
        await self._end_dead()
        free = min(self._sessions, key=lambda session: session.busy, default=None)
        if free is None or (free.busy >= self._at_once and len(self._sessions) + self._starting < self._most):
            free = await self._session(None)
            self._sessions[free] = None
        return await self._ask(free, name, arguments)

    async def _owned(self, name: str, arguments: dict[str, Any], state: McpState) -> ToolReturn[McpState]:
        """A call by the session of a branch."""
        session = await self._of(state)
        try:
            result = await self._ask(session, name, arguments)
        except BaseException:
            self._sessions.pop(session, None)
            with anyio.CancelScope(shield=True):
                await self._discard(session)
            raise
        kept = _Kept(session, session.mark)
        self._sessions[session] = kept
        self._sessions.move_to_end(session)
        token = _Token(kept)
        weakref.finalize(token, self._unused.append, kept).atexit = False
        return ToolReturn(result, McpState((*state.done, Done(name, arguments, result)), token))

    async def _ask(self, session: Session, name: str, arguments: dict[str, Any]) -> ToolResult:
        mcp_error = require("mcp", "mcp").MCPError
        session.busy += 1
        try:
            result = result_of(await session.call(name, arguments))
            return ToolResult(value=session.shown(result.value), error=result.error)
        except mcp_error as error:
            if session.dead is not None or error.code == LOST:
                session.dead = session.dead or "the connection was closed"
                raise session.lost(f"answering `{name}`") from error
            if error.code == REFUSED:
                return ToolResult(value=session.shown(str(error.message)), error=True)
            said = session.clean(str(error.message))
            raise ToolFault(f"{self._start.name} failed at `{name}`: {said:.500}") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            session.dead = session.dead or "the connection was closed"
            raise session.lost(f"answering `{name}`") from error
        finally:
            session.busy -= 1

    # --- sessions of branches -----------------------------------------------------------------------------------------

    async def _of(self, state: McpState) -> Session:
        """The session with which a branch goes on. Nobody else can use it before its call is answered."""
        if state.token is None:
            return await self._fresh(None)
        kept = state.token.kept
        async with kept.lock:
            session = kept.session
            if kept.open and session is not None:
                self._sessions[session] = kept.session = None
                if kept.shared and kept.frozen is None and self._forks == "copy":
                    assert session.folder is not None
                    kept.frozen = await self._opened.new(session.folder)
                return session
            frozen = kept.frozen
        if not self.forkable:
            raise ToolFault(f"the session of a conversation with {self._start.name} has ended, and its state with it")
        if frozen is not None:
            return await self._fresh(frozen)
        return await self._replayed(state.done)

    async def _fresh(self, source: Path | None) -> Session:
        """A new session with a copy of a folder, or of the first state."""
        await self._make_room()
        folder = await self._opened.new(source) if self._start.has_place else None
        session = await self._session(folder)
        self._sessions[session] = None
        return session

    async def _replayed(self, done: Sequence[Done]) -> Session:
        """A new session in which the calls of a branch were made again.

        Raises:
            ToolFault: a result is another one.
        """
        session = await self._fresh(None)
        for step in done:
            again = await self._ask(session, step.name, dict(step.arguments))
            if not self._same(again, step.result):
                self._sessions.pop(session, None)
                await self._discard(session)
                raise ToolFault(
                    f"{self._start.name} was started again for another branch, and `{step.name}` gave another result "
                    f"than before: {again.text:.200} instead of {step.result.text:.200}. Name the fields that change "
                    "from call to call (volatile=...), or let the folder be copied (forks='copy')"
                )
        return session

    def _same(self, one: ToolResult, other: ToolResult) -> bool:
        fields = self._volatile
        return one.error == other.error and without_fields(one.value, fields) == without_fields(other.value, fields)

    async def _make_room(self) -> None:
        """End the session that was not used for the longest time, if there are too many."""
        await self._end_dead()
        while len(self._sessions) + self._starting >= self._most:
            idle = [
                (each, kept)
                for each, kept in self._sessions.items()
                if kept is not None and kept.open and not kept.lock.locked()
            ]
            if not idle or not self.forkable:
                return  # all are at work: one of them ends before the limit matters
            await self._evict(*idle[0])

    async def _evict(self, session: Session, kept: _Kept) -> None:
        """End a session that waits; its folder is kept for the branches that may go on from there."""
        async with kept.lock:
            if not kept.open:
                return
            self._sessions.pop(session, None)
            kept.session = None
            await session.close()
            if self._forks == "copy" and kept.frozen is None:
                kept.frozen = session.folder
            elif session.folder is not None:
                self._opened.remove(session.folder)

    async def _end_unused(self) -> None:
        """End the sessions, and remove the folders, of branches that are gone."""
        while self._unused:
            kept = self._unused.popleft()
            session = kept.session
            if session is not None and self._sessions.get(session) is kept:
                del self._sessions[session]
                await self._discard(session)
            if kept.frozen is not None:
                self._opened.remove(kept.frozen)

    async def _discard(self, session: Session) -> None:
        await session.close()
        if session.folder is not None:
            self._opened.remove(session.folder)

    async def _end_dead(self) -> None:
        for session in [session for session in self._sessions if session.dead is not None and not session.busy]:
            del self._sessions[session]
            await self._discard(session)

    async def _session(self, folder: Path | None) -> Session:
        if self._tasks is None:
            raise UsageError("McpTools is not open: spawn it in a scope, or use it in `async with`")
        session = Session(self._start, folder, self._opened.log())
        self._starting += 1
        try:
            await session.open(self._tasks)
        finally:
            self._starting -= 1
        return session

    @property
    def _opened(self) -> Folders:
        assert self._folders is not None
        return self._folders
