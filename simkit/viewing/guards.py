"""What the viewer's server refuses before it looks at a request, and the headers of all its answers.

A page of another site must not read the store through the browser of somebody who views it: the Host must be ours
(against rebound names), and requests that other sites start are refused. Beyond this machine a token is wanted.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

import orjson

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")

POSTED = "/api/notes"
"""The one path that takes a POST."""


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in.

    Attributes:
        host: the address that the server listens on.
        port: its port.
        token: the token that requests must bring; None for none.
        names: names of this machine, besides those of the loopback.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    names: frozenset[str] = frozenset()

    @classmethod
    def at(cls, host: str, port: int, token: str | None) -> Door:
        """The door of a server, with the names of this machine if it listens beyond the loopback."""
        names = frozenset[str]() if is_loopback(host) else frozenset({host.lower(), *_own_names()})
        return cls(host, port, token, names)

    @property
    def cookie(self) -> str:
        """Name of the cookie with the token; cookies do not know ports."""
        return f"simkit-view-{self.port}"

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason if a request is refused; None if it is let in. The token is asked for separately."""
        headers = _headers(scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 403, f"the host name {host!r} is not served here"
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD") and not (method == "POST" and path == POSTED):
            return 405, f"{method} {path} is not served: the viewer only reads"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return 403, f"requests from {origin} are refused"
        site = headers.get("sec-fetch-site", "none")
        link = method == "GET" and not path.startswith("/api/") and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not (link and headers.get("sec-fetch-dest") == "document"):
            return 403, "requests that another site starts are refused"
        return None

    def knows(self, scope: Scope) -> bool:
        """Whether a request brings the token, in a cookie or as a bearer."""
        if self.token is None:
            return True
        headers = _headers(scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            kept = None
        return (kind.lower() == "bearer" and self.is_token(given)) or (kept is not None and self.is_token(kept.value))

    def is_token(self, given: str) -> bool:
        """Whether a text is the token."""
        return self.token is not None and hmac.compare_digest(given.strip().encode(), self.token.encode())

    def _is_ours(self, host: str) -> bool:
        name, port = _split(host)
        if name is None or (80 if port is None else port) != self.port:
            return False
        if name in LOOPBACK or name in self.names:
            return True
        return bool(self.names) and _is_address(name)  # a rebound name is a name, never an address


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """The application behind a door: what is refused does not reach it, and all answers carry the headers."""

    def __init__(self, app: App, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        refused = self._door.refusal(scope)
        if refused is not None:
            await refuse(guarded, *refused)
        elif (away := self._entered(scope)) is not None:
            await _reply(guarded, 303, b"", away)
        elif not self._door.knows(scope):
            await refuse(guarded, 401, "this viewer wants its token: open the address that `simkit view` printed")
        else:
            await self._app(scope, receive, guarded)

    def _entered(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """Headers that keep the token of a page's address in a cookie and take it out of the address."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in pairs if name == "token"), None)
        if given is None or scope["method"] != "GET" or not self._door.is_token(given):
            return None
        rest = urlencode([(name, value) for name, value in pairs if name != "token"])
        path = "/" + scope.get("raw_path", b"/").partition(b"?")[0].decode("latin-1").lstrip("/\\")
        cookie = f"{self._door.cookie}={self._door.token}; Path=/; HttpOnly; SameSite=Strict"
        return [
            (b"location", f"{path}{f'?{rest}' if rest else ''}".encode("latin-1", "replace")),
            (b"set-cookie", cookie.encode()),
        ]


async def refuse(send: Send, status: int, reason: str, hint: str = "") -> None:
    """Send an error as JSON."""
    body = orjson.dumps({"error": reason, "hint": hint, "near": []})
    allow = [(b"allow", b"GET, HEAD")] if status == 405 else []
    await _reply(send, status, body, [(b"content-type", b"application/json"), *allow])


async def _reply(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> Mapping[str, str]:
    """The headers by name; of a repeated one the values together, which then fit nothing."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        found[key] = f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
    return found


def _split(host: str) -> tuple[str | None, int | None]:
    """Name and port of a Host header; None as the name if it is not one."""
    found = _HOST.fullmatch(host)
    if found is None:
        return None, None
    return (found["address"] or found["name"]).lower().rstrip("."), int(found["port"]) if found["port"] else None


_HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:\s/@]+))(?::(?P<port>[0-9]{1,5}))?")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name}.local"}
