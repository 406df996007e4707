"""Sessions at an HTTP API, one for each branch: continued, copied, or made again by repeating requests.

A branch that goes on alone keeps its session. If another branch goes on from the same place, it gets a copy, where the
API can make one, or a new session in which the requests so far are made again and must have the same results. Requests
that only read (GET) are not.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast
from uuid import uuid4

import anyio

from simkit.apis.client import SESSION, HttpClient, HttpPlace, HttpRequest
from simkit.core.messages import ToolResult
from simkit.errors import Fault, UsageError

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, so that they need not be made again."""

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")

ENDING = 5.0
"""Seconds that the end of a session may take."""

SHORTEST = 8
"""Characters of the shortest id of a session that is replaced in results; a shorter one would be part of words."""

SHOWN = "session"
"""What results show in the place of a session's id, so that they do not depend on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSession:
    """How an API keeps the state of a session.

    Attributes:
        cookies: it knows the session by the cookies that it sets. Otherwise `{session}` stands in the address, a header
            or the query.
        open: call that opens a session, such as `POST /sessions`; empty if the first request does. Its JSON answer has
            the id as `field`, unless sessions are known by cookies. Results do not show ids of 8 characters or more.
        copy: call that copies the session `{session}`, such as `POST /sessions/{session}/copy`, and answers like
            `open`; empty if the API cannot, so that the requests of a branch are made again in a new session.
        close: call that ends the session `{session}`; empty if sessions end by themselves.
        field: name of the field with the id.

    Raises:
        UsageError: a call is no method and path, or a session of cookies is to be copied.
    """

    cookies: bool = False
    open: str = ""
    copy: str = ""
    close: str = ""
    field: str = "id"

    def __post_init__(self) -> None:
        for call in filter(None, (self.open, self.copy, self.close)):
            method, _, path = call.partition(" ")
            if method.lower() not in METHODS or not path.startswith("/"):
                raise UsageError(f"a session has the call {call!r}; write one like: POST /sessions")
        if self.cookies and self.copy:
            raise UsageError("a session that is known by its cookies cannot be copied; leave out `copy`")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was answered."""

    request: HttpRequest
    result: ToolResult


class _Session:
    """A session at the API. `mark` counts the requests that were made in it."""

    def __init__(self, id: str, client: HttpClient) -> None:
        self.id = id
        self.client = client
        self.mark = 0
        self.lost = False


class _Kept:
    """What is left of a branch between two requests: its session, or a copy of it for others, or both."""

    def __init__(self, session: _Session) -> None:
        self.session: _Session | None = session
        self.mark = session.mark
        self.copy: _Session | None = None
        self.shared = False
        self.lock = anyio.Lock()

    @property
    def open(self) -> bool:
        """Whether the session is still where this branch left it."""
        return self.session is not None and self.session.mark == self.mark and not self.session.lost


class _Token:
    """Is gone when no branch can go on from its place any more."""

    def __init__(self, kept: _Kept) -> None:
        self.kept = kept


@dataclass(frozen=True, slots=True)
class BranchState:
    """The state of a branch: the exchanges that may have changed something, and its session."""

    done: tuple[Exchange, ...] = ()
    token: _Token | None = field(default=None, compare=False, repr=False)

    def fork(self) -> BranchState:
        """The same state for one more branch. The session is copied when the first of them goes on."""
        if self.token is not None:
            self.token.kept.shared = True
        return self


class BranchSessions:
    """Makes the requests of branches, each in a session of its own.

    Args:
        place: where the API is.
        rules: how it keeps sessions; None for an API that all branches share.
        fault: the error for an API that gave no usable answer, or did not repeat its results.
        volatile: fields of results that may differ when requests are made again.
        at_once: requests at once.
    """

    def __init__(
        self,
        place: HttpPlace,
        rules: HttpSession | None,
        fault: type[Fault],
        *,
        volatile: Sequence[str] = (),
        at_once: int = 8,
    ) -> None:
        self._place = place
        self._given = rules
        self._fault = fault
        self._volatile = tuple(volatile)
        self._limit = anyio.Semaphore(at_once)
        self._client: HttpClient | None = None
        self._live: set[_Session] = set()
        self._unused: deque[_Kept] = deque()

    async def __aenter__(self) -> Self:
        self._client = HttpClient(self._place, self._fault)  # finds variables that are not set
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            for session in [*self._live]:
                await self._end(session)
            await self._shared.aclose()

    async def ask(self, request: HttpRequest, state: BranchState) -> tuple[ToolResult, BranchState]:
        """The result of a request, and the state after it.

        Raises:
            Fault: the API gave no usable answer, or did not repeat its results in a new session.
        """
        if self._given is None:
            async with self._limit:
                return await self._shared.send(request, ""), state
        await self._end_unused()
        session = await self._of(state)
        try:
            result = await self._send(session, request)
        except BaseException:
            session.lost = True
            with anyio.CancelScope(shield=True):
                await self._end(session)
            raise
        kept = _Kept(session)
        token = _Token(kept)
        weakref.finalize(token, self._unused.append, kept).atexit = False
        done = state.done if request.method in SAFE else (*state.done, Exchange(request, result))
        return result, BranchState(done, token)

    async def _send(self, session: _Session, request: HttpRequest) -> ToolResult:
        session.mark += 1
        async with self._limit:
            result = await session.client.send(request, session.id)
        return ToolResult(value=_shown(result.value, session.id), error=result.error)

    async def _of(self, state: BranchState) -> _Session:
        """The session with which a branch goes on. Nobody else can use it before its request is answered."""
        if state.token is None:
            return await self._fresh()
        kept = state.token.kept
        async with kept.lock:
            session = kept.session
            if kept.open and session is not None:
                if kept.shared and kept.copy is None and self._rules.copy:
                    kept.copy = await self._copied(session)
                kept.session = None
                return session
            if kept.copy is not None:
                return await self._copied(kept.copy)
        return await self._repeated(state.done)

    async def _fresh(self) -> _Session:
        """A new session."""
        rules = self._rules
        client = HttpClient(self._place, self._fault, cookies=True) if rules.cookies else self._shared
        session = _Session(uuid4().hex, client)
        self._live.add(session)
        if rules.open:
            answer = await self._told(session, rules.open)
            if not rules.cookies:
                session.id = self._id_in(answer, rules.open)
        return session

    async def _copied(self, session: _Session) -> _Session:
        """A new session with the state of another one, which stays as it is."""
        answer = await self._told(session, self._rules.copy)
        copy = _Session(self._id_in(answer, self._rules.copy), self._shared)
        self._live.add(copy)
        return copy

    async def _repeated(self, done: Sequence[Exchange]) -> _Session:
        """A new session in which the requests of a branch were made again.

        Raises:
            Fault: a result is another one.
        """
        session = await self._fresh()
        for step in done:
            again = await self._send(session, step.request)
            if not self._same(again, step.result):
                await self._end(session)
                asked, now, before = step.request, again.text[:200], step.result.text[:200]
                raise self._fault(
                    f"requests to {self._place.name} were made again for another branch, and {asked} gave another "
                    f"result than before: {now} instead of {before}. Name the fields that change from request to "
                    "request (volatile=...), or a call that copies a session (HttpSession(copy=...))"
                )
        return session

    def _same(self, one: ToolResult, other: ToolResult) -> bool:
        fields = self._volatile
        return one.error == other.error and _without(one.value, fields) == _without(other.value, fields)

    async def _told(self, session: _Session, call: str) -> ToolResult:
        """The answer to a call about a session.

        Raises:
            Fault: it was refused.
        """
        method, _, path = call.partition(" ")
        request = HttpRequest(method=method.upper(), path=path.replace(SESSION, session.id))
        async with self._limit:
            answer = await session.client.send(request, session.id)
        if answer.error:
            raise self._fault(f"{self._place.name} refused `{call}`: {answer.text:.300}")
        return answer

    def _id_in(self, answer: ToolResult, call: str) -> str:
        value: Any = answer.value
        found: Any = cast("Mapping[str, Any]", value).get(self._rules.field) if isinstance(value, dict) else None
        if not isinstance(found, str | int) or not str(found):
            raise self._fault(
                f"the answer of {self._place.name} to `{call}` has no `{self._rules.field}`: {answer.text:.200}"
            )
        return str(found)

    async def _end_unused(self) -> None:
        """End the sessions of branches that are gone."""
        while self._unused:
            kept = self._unused.popleft()
            for session in (kept.session if kept.open else None, kept.copy):
                if session is not None:
                    await self._end(session)

    async def _end(self, session: _Session) -> None:
        """End a session, as far as the API lets it; what it answers changes nothing."""
        if session not in self._live:
            return
        self._live.discard(session)
        try:
            if self._rules.close:
                with anyio.move_on_after(ENDING):
                    await self._told(session, self._rules.close)
        except Fault:
            pass
        finally:
            if session.client is not self._client:
                await session.client.aclose()

    @property
    def _rules(self) -> HttpSession:
        assert self._given is not None
        return self._given

    @property
    def _shared(self) -> HttpClient:
        if self._client is None:
            raise UsageError("the client of an HTTP API is not open: spawn it in a scope, or use it in `async with`")
        return self._client


class WithSessions:
    """A component whose sessions are open while it is (`async with`)."""

    _sessions: BranchSessions

    async def __aenter__(self) -> Self:
        await self._sessions.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sessions.__aexit__(kind, error, trace)


def check_sessions(place: HttpPlace, session: HttpSession | None, *, stateless: bool) -> None:
    """Check that an address, and what is said about sessions, fit together.

    Raises:
        UsageError: they contradict each other.
    """
    if not place.url.startswith(("http://", "https://")):
        raise UsageError(f"the address of the HTTP API is {place.url!r}; give one like url='https://api.example/v1'")
    if stateless and (session is not None or place.names_session):
        raise UsageError(f"{place.name} is said to be stateless, and to have sessions; choose one")
    if session is not None and not (session.cookies or place.names_session):
        raise UsageError(
            f"{place.name} is not told which session a request is of; put {SESSION} into its address, a header or the "
            "query, or say that it knows sessions by cookies"
        )
    if session is None and place.names_session:
        raise UsageError(
            f"{place.name} has {SESSION} in its requests; say how it keeps sessions: session=HttpSession()"
        )


def _shown(value: Any, session: str) -> Any:
    """A result without the id of the session, which differs from branch to branch."""
    match value:
        case str():
            return value.replace(session, SHOWN) if len(session) >= SHORTEST else value
        case list():
            return [_shown(each, session) for each in cast("list[Any]", value)]
        case dict():
            return {name: _shown(each, session) for name, each in cast("dict[str, Any]", value).items()}
        case _:
            return value


def _without(value: Any, fields: Sequence[str]) -> Any:
    """A JSON value without the fields of these names, at any depth."""
    match value:
        case dict():
            held = cast("dict[str, Any]", value)
            return {name: _without(each, fields) for name, each in held.items() if name not in fields}
        case list():
            return [_without(each, fields) for each in cast("list[Any]", value)]
        case _:
            return value
