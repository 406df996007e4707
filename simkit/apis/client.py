"""Requests to an HTTP API: bounded, retried where that is safe, and read as results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import anyio
import orjson

from simkit.core.messages import ToolResult
from simkit.core.safe_text import visible_line
from simkit.errors import Fault, UsageError
from simkit.models.transport.decoding import InvalidReply, codings_of, decode
from simkit.models.transport.secrets import Secrets

SESSION = "{session}"
"""What stands for the session of a branch, in the address, in headers and in the query."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be sent again, whatever became of the first request."""

REFUSED = frozenset({429, 503})
"""Status codes that say that nothing was done."""

UNSURE = frozenset({408, 500, 502, 504})
"""Status codes after which something may have been done."""

OWN_MISTAKE = frozenset({401, 407})
"""Status codes about the credentials, which are no mistake of the agent."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_CHARSET = re.compile(r"charset=\"?([\w.:-]+)")
_LONG = re.compile(r"\d{19}")  # orjson makes floats of whole numbers of more than 64 bits
JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPlace:
    """Where an API is, and how it is asked.

    Attributes:
        url: its address, which may hold `{session}`.
        headers, query: sent with every request. Their values may hold `{session}`, and refer to variables of this
            process (`Bearer $TOKEN`), so that secrets stay out of files and records.
        session_field: field of every JSON body that holds the session; empty for none.
        timeout: seconds for one attempt.
        retries: further attempts after one that was refused or got no answer.
        wait: seconds before the first of them, doubled each time; a server that names a time is heard.
        patience: maximum seconds of one such wait.
        body: maximum bytes of an answer.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    query: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    session_field: str = ""
    timeout: float = 60.0
    retries: int = 4
    wait: float = 0.5
    patience: float = 60.0
    body: int = 1 << 20

    @property
    def names_session(self) -> bool:
        """Whether the address, a header, the query or a field of the body names the session."""
        return bool(self.session_field) or any(
            SESSION in text for text in (self.url, *self.headers.values(), *self.query.values())
        )

    @property
    def name(self) -> str:
        """The API, for messages."""
        return f"the HTTP API {visible_line(self.url.split('?', 1)[0])}"

    def secrets(self) -> Secrets:
        """The values of the variables that are referred to."""
        texts = (*self.headers.values(), *self.query.values())
        return Secrets.of(_variable(name) for text in texts for name in variables_in(text))


def variables_in(text: str) -> list[str]:
    """Names of the variables that a text refers to."""
    return [found[1] or found[2] for found in _VARIABLE.finditer(text)]


def filled(text: str, session: str) -> str:
    """A text with the session and the values of variables.

    Raises:
        UsageError: a variable is not set.
    """
    return with_variables(text).replace(SESSION, session)


def with_variables(text: str) -> str:
    """A text with the values of the variables that it refers to: `Bearer $TOKEN`.

    Raises:
        UsageError: a variable is not set.
    """
    return _VARIABLE.sub(lambda found: _variable(found[1] or found[2]), text)


def _variable(name: str) -> str:
    if name not in os.environ:
        raise UsageError(f"the environment variable {name}, to which an API or MCP server refers, is not set; set it")
    return os.environ[name]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, ready to be sent."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Any = None
    form: Mapping[str, str] | None = None
    has_body: bool = False

    def to_json(self) -> dict[str, Any]:
        """The request as JSON, without headers."""
        sent = {"query": dict(self.query), "json": self.json, "form": self.form}
        return {"method": self.method, "path": self.path, **{name: value for name, value in sent.items() if value}}

    def __str__(self) -> str:
        return f"{self.method} {visible_line(self.path)[:200]}"


class HttpClient:
    """Sends requests of one branch, or of all branches of a stateless API.

    Args:
        place: where the API is.
        fault: the error for an API that gave no usable answer.
        cookies: whether cookies of the API are kept; else they are ignored.
    """

    def __init__(self, place: HttpPlace, fault: type[Fault], *, cookies: bool = False) -> None:
        import httpx2

        self._errors = httpx2
        self._place = place
        self._kind = fault
        self._secrets = place.secrets()
        self._client = httpx2.AsyncClient(
            cookies=None if cookies else _no_cookies(),
            timeout=place.timeout,
            limits=httpx2.Limits(max_connections=None),
            headers={"accept": "application/json, text/*;q=0.9, */*;q=0.1", "accept-encoding": "identity"},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, request: HttpRequest, session: str) -> ToolResult:
        """The answer as a result; a refusal of what the agent asked for is an error that it can read.

        Raises:
            Fault: there was no usable answer, after all attempts.
        """
        for attempt in range(self._place.retries + 1):
            last = attempt == self._place.retries
            try:
                with anyio.fail_after(self._place.timeout):
                    status, headers, body = await self._once(request, session)
            except (self._errors.InvalidURL, self._errors.LocalProtocolError) as error:
                raise self._fault(request, f"cannot be asked: {self._clean(str(error))}") from None
            except (self._errors.ConnectError, self._errors.ConnectTimeout) as error:
                if last:
                    raise self._fault(request, f"cannot be reached: {self._clean(str(error))}") from None
                await self._pause(attempt, None)
                continue
            except (self._errors.HTTPError, TimeoutError) as error:
                if last or request.method not in IDEMPOTENT:
                    why = self._clean(str(error)) or f"no answer within {self._place.timeout:g} s"
                    raise self._fault(request, f"gave no answer: {why}") from None
                await self._pause(attempt, None)
                continue
            again = status in REFUSED or (status in UNSURE and request.method in IDEMPOTENT)
            if again and not last:
                await self._pause(attempt, headers.get("retry-after"))
                continue
            return self._result(request, status, headers, body)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, request: HttpRequest, session: str) -> tuple[int, Mapping[str, str], bytes]:
        place = self._place
        base = filled(place.url, quote(session, safe=""))
        query = [*((name, filled(value, session)) for name, value in place.query.items()), *request.query]
        content = self._content(request, session)
        headers = {**request.headers, **{name: filled(value, session) for name, value in place.headers.items()}}
        headers |= {"content-type": "application/json"} if content is not None else {}
        async with self._client.stream(
            request.method,
            f"{base.rstrip('/')}{request.path}",
            params=tuple(query) or None,
            headers=headers,
            content=content,
            data=request.form,
        ) as answer:
            taken = bytearray()
            async with aclosing(answer.aiter_raw()) as pieces:
                async for piece in pieces:
                    taken += piece
                    if len(taken) > place.body:
                        raise self._fault(request, f"answered with more than {place.body:,} bytes (body=)")
            headers = dict(answer.headers)
            try:
                whole = decode(bytes(taken), codings_of(headers, lenient=answer.status_code >= 300), place.body)
            except InvalidReply as error:
                raise self._fault(request, f"gave an answer that cannot be read: {error}") from error
            return answer.status_code, headers, self._secrets.out_of_answer(whole)

    def _content(self, request: HttpRequest, session: str) -> bytes | None:
        if not request.has_body or request.form is not None:
            return None
        named = {self._place.session_field: session} if self._place.session_field else {}
        value: Any = request.json
        if named and isinstance(value, dict):
            value = {**cast("dict[str, Any]", value), **named}
        return json.dumps(value).encode()  # orjson has no long integers

    async def _pause(self, attempt: int, asked: str | None) -> None:
        """Wait before the next attempt, as long as the server asks for, within patience."""
        own = self._place.wait * 2**attempt
        seconds = float(asked) if asked and re.fullmatch(r"\d{1,6}(\.\d+)?", asked) else own
        await anyio.sleep(min(seconds, self._place.patience))

    def _result(self, request: HttpRequest, status: int, headers: Mapping[str, str], body: bytes) -> ToolResult:
        kind = headers.get("content-type", "").lower()
        if 200 <= status < 300:
            return ToolResult(value=_value(kind, body) if body else {"status": status})
        if 400 <= status < 500 and status not in OWN_MISTAKE | REFUSED | UNSURE:
            return ToolResult(
                value=_value(kind, body) if body else f"the request was refused (status {status})", error=True
            )
        moved = f" to {self._clean(headers['location'])}; name that address" if "location" in headers else ""
        said = visible_line(body[:300].decode("utf-8", "replace"))
        raise self._fault(request, f"answered with status {status}{moved}{f': {said}' if said else ''}")

    def _fault(self, request: HttpRequest, what: str) -> Fault:
        path = self._clean(request.path)[:200]
        return self._kind(f"{self._place.name} {what} ({request.method} {path})")

    def _clean(self, text: str) -> str:
        return visible_line(self._secrets.out_of_message(text))[:300]


def _value(kind: str, body: bytes) -> Any:
    """The content of an answer: JSON, text, or a description of what agents cannot be given."""
    if not (JSON_TYPE.match(kind) or kind.startswith("text/") or not kind):
        return {"type": kind.partition(";")[0], "bytes": len(body)}
    text = _text(kind, body)
    if JSON_TYPE.match(kind):
        try:
            value: Any = orjson.loads(text)
            return json.loads(text) if _LONG.search(text) else value
        except ValueError:
            pass  # what it is not, it says; the agent gets the text
    return text


def _text(kind: str, body: bytes) -> str:
    """The text of an answer by the character set that it names; UTF-8 if it names none, or is UTF-8 all the same."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = _CHARSET.search(kind)
    try:
        return body.decode(named[1] if named else "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _no_cookies() -> Any:
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
