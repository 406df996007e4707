"""An HTTP API as a tool server: `HttpTools`, from an OpenAPI document or a list of endpoints.

    HttpTools(openapi="shop.json", headers={"authorization": "Bearer $SHOP_TOKEN"}, stateless=True)
    HttpTools(openapi="shop.json", headers={"x-session": "{session}"}, session=HttpSession())
    HttpTools(url="http://127.0.0.1:8000", endpoints=[Endpoint("find", "GET /rooms", parameters={...})], stateless=True)

An API whose answers depend on earlier calls has to keep its state by session, and to be told which: `{session}` in the
address, a header or the query, or a cookie. Each branch of a search then has its own session. The one of another branch
is a copy, if the API can make one, or a new one in which the calls of the branch are made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from simkit.apis.client import HttpPlace
from simkit.apis.sessions import SAFE, BranchSessions, BranchState, HttpSession, WithSessions, check_sessions
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.messages import ToolResult
from simkit.errors import InvalidArguments, ToolFault, UsageError
from simkit.tools.http_endpoints import Endpoint, read_openapi
from simkit.tools.http_requests import BadCall, request_of

__all__ = ["Endpoint", "HttpPlace", "HttpSession", "HttpTools"]


class HttpTools(WithSessions, ToolServer[BranchState]):
    """The tools of an HTTP API.

    Args:
        openapi: an OpenAPI 3 document, as a file (JSON; YAML with PyYAML) or its content.
        endpoints: tools that are described one by one, also beside those of a document.
        url: address of the API; by default the first server of the document.
        stateless: no answer depends on earlier calls.
        session: how the API keeps the state of a session.
        volatile: fields of results that may differ when calls are made again (`created_at`).
        headers, query: sent with every request; see `HttpPlace`.
        only, without: names of tools that are offered, or left out.
        at_once: requests at once.
        place: bounds of requests, and further headers; its address counts if no `url` is given.
        policy: the rules for agents.

    Raises:
        UsageError: the options contradict each other, or the document cannot be read.
    """

    name: ClassVar[str] = "http"

    def __init__(
        self,
        openapi: str | Path | Mapping[str, Any] | None = None,
        *,
        endpoints: Sequence[Endpoint] = (),
        url: str = "",
        stateless: bool = False,
        session: HttpSession | None = None,
        volatile: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
        at_once: int = 8,
        place: HttpPlace | None = None,
        policy: str = "",
    ) -> None:
        address, read = ("", ()) if openapi is None else read_openapi(openapi, without)
        given = place or HttpPlace(url="")
        place = replace(
            given,
            url=url or given.url or address,
            headers={**given.headers, **(headers or {})},
            query={**given.query, **(query or {})},
        )
        self._endpoints = _chosen([*read, *endpoints], only, without)
        check_sessions(place, session, stateless=stateless)
        if at_once < 1:
            raise UsageError("an HTTP API takes at least one request at once")
        self._sessions = BranchSessions(place, session, ToolFault, volatile=volatile, at_once=at_once)
        self._policy = policy
        self.forkable = stateless or session is not None
        self.unforkable_because = (
            f"nothing says how {place.name} keeps the state of a branch; name its session (session=), or declare it "
            "stateless"
        )
        self.sessions = None if self.forkable else 1

    def start(self, request: StartTools) -> ToolsStart[BranchState]:
        """The tools of the API, and the first state."""
        return ToolsStart(tuple(each.spec() for each in self._endpoints.values()), BranchState(), self._policy)

    async def call(self, request: CallTool[BranchState]) -> ToolReturn[BranchState]:
        """The result of one call.

        Raises:
            ToolFault: the API gave no usable answer, or did not repeat its results in a new session.
        """
        endpoint = self._endpoints.get(request.call.name)
        if endpoint is None:
            said = f"there is no tool `{request.call.name[:100]}`; there are: {', '.join(self._endpoints)}"
            return ToolReturn(ToolResult(value=said, error=True), request.state)
        try:
            wanted = request_of(endpoint, request.call.parse_arguments())
        except (InvalidArguments, BadCall) as error:
            return ToolReturn(ToolResult(value=str(error), error=True), request.state)
        result, state = await self._sessions.ask(wanted, request.state)
        wrote = wanted.method not in SAFE and not result.error
        return ToolReturn(result, state, (wanted.to_json(),) if wrote else ())


def _chosen(found: Sequence[Endpoint], only: Sequence[str], without: Sequence[str]) -> dict[str, Endpoint]:
    """Endpoints by name.

    Raises:
        UsageError: there are none, two have one name, or a filter names none.
    """
    chosen: dict[str, Endpoint] = {}
    for each in found:
        if each.name in chosen:
            raise UsageError(f"the HTTP API has two tools with the name `{each.name}`; leave one out")
        chosen[each.name] = each
    if missing := [name for name in only if name not in chosen]:
        raise UsageError(f"the HTTP API has no tool `{missing[0]}`; it has {', '.join(chosen) or 'none'}")
    kept = {name: each for name, each in chosen.items() if name not in without and (not only or name in only)}
    if not kept:
        raise UsageError("the HTTP API has no tools; give an OpenAPI document with operations, or endpoints")
    return kept
