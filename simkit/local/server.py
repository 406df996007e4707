"""HTTP server that offers a local model as OpenAI chat completions: `simkit serve`."""

from __future__ import annotations

import hmac
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import orjson

from simkit.errors import BadRequest, SimkitError, UsageError
from simkit.local.model import check_request, check_tools, response_of
from simkit.local.wire import CompletionRequest, Heading, Speech, error_body, read_request, refusal
from simkit.local.worker import Worker
from simkit.models.base import ChatResponse
from simkit.plugins.extras import require

Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]

GRACE = 5
"""Seconds that answers in progress may take after the server is asked to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The model that a server offers.

    Attributes:
        worker: holds the model.
        name: its name for clients; they may also use the last part of a path.
        api_key: the key that clients must send; None allows all clients.
    """

    worker: Worker
    name: str
    api_key: str | None = field(default=None, repr=False)

    def answers_to(self, name: str) -> bool:
        """Whether a name in a request refers to this model."""
        return name in ("", self.name, self.name.rstrip("/").rpartition("/")[2], f"local/{self.name}")


def make_app(served: Served) -> Any:
    """The ASGI application."""
    routing, applications = require("starlette.routing", "local"), require("starlette.applications", "local")
    routes = _Routes(served)
    return applications.Starlette(
        routes=[
            routing.Route("/v1/chat/completions", routes.complete, methods=["POST"]),
            routing.Route("/v1/models", routes.models, methods=["GET"]),
            routing.Route("/health", routes.health, methods=["GET"]),
        ],
        exception_handlers={404: _no_route, 405: _no_route},
    )


def make_server(served: Served) -> Any:
    """A uvicorn server for the application. Start it with `run(sockets=[...])`."""
    uvicorn = require("uvicorn", "local")
    config = uvicorn.Config(
        make_app(served), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        UsageError: the address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error}; choose another address with --host or --port"
        ) from error


class _Routes:
    """The handlers of the routes."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._responses = require("starlette.responses", "local")
        self._began = int(time.time())
        self._open = 0

    async def models(self, request: Any) -> Any:
        """List the only model."""
        if not self._allowed(request):
            return self._unknown_key()
        card = {"id": self._served.name, "object": "model", "created": self._began, "owned_by": "simkit"}
        return self._json({"object": "list", "data": [card]})

    async def health(self, request: Any) -> Any:
        """Report the status and the number of answers in progress."""
        return self._json({"status": "ok", "model": self._served.name, "in_flight": self._open})

    async def complete(self, request: Any) -> Any:
        """Answer a chat completion request."""
        if not self._allowed(request):
            return self._unknown_key()
        try:
            asked = read_request(_json_of(await request.body()))
            if not self._served.answers_to(asked.model):
                return self._json(_no_model(asked.model, self._served.name), 404)
            check_request(asked.request)
            check_tools(asked.request, self._served.worker.engine.chat.lacks_for_tools)
        except SimkitError as error:
            return self._error(error)
        return _Answer(self, asked)

    def _allowed(self, request: Any) -> bool:
        wanted = self._served.api_key
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        return wanted is None or hmac.compare_digest(given.encode(), wanted.encode())

    def _unknown_key(self) -> Any:
        return self._json(refusal("the API key is not the server's", "invalid_request_error", "invalid_api_key"), 401)

    def _error(self, error: SimkitError) -> Any:
        status, body = error_body(error)
        return self._json(body, status)

    def _json(self, body: object, status: int = 200) -> Any:
        return self._responses.Response(orjson.dumps(body), status, media_type="application/json")

    # --- answers ------------------------------------------------------------------------------------------------------

    async def answer(self, asked: CompletionRequest, send: Send, scope: Any, receive: Receive) -> None:
        """Send the answer, whole or as a stream."""
        self._open += 1
        try:
            if asked.stream:
                await self._stream(asked, send, scope, receive)
            else:
                response = await self._respond(asked, None)
                body = self._heading().completion(response, self._served.worker.engine.chat)
                await self._json(body)(scope, receive, send)
        except SimkitError as error:
            await self._error(error)(scope, receive, send)
        finally:
            self._open -= 1

    async def _stream(self, asked: CompletionRequest, send: Send, scope: Any, receive: Receive) -> None:
        """Stream the answer. An error before the first event is an error response; a later one ends the stream."""
        request = asked.request
        pieces = _EventStream(send, self._heading())
        speech = Speech(self._served.worker.engine.chat, bool(request.tools), request.sampling.stop)
        into, outof = anyio.create_memory_object_stream[Sequence[int]](float("inf"))
        found: list[ChatResponse | SimkitError] = []

        async def generate() -> None:
            with into:
                try:
                    found.append(await self._respond(asked, into.send_nowait))
                except SimkitError as error:
                    found.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(generate)
            with outof:
                async for ids in outof:
                    await pieces.say(speech.hear(ids))
        end = found[0]
        if isinstance(end, SimkitError):
            if not pieces.begun:
                raise end
            await pieces.fail(end)
            return
        await pieces.finish(speech.finish(end.message), end, asked.usage)

    async def _respond(self, asked: CompletionRequest, heard: Callable[[Sequence[int]], object] | None) -> ChatResponse:
        request = asked.request
        seed = secrets.randbits(63) if request.seed is None else request.seed
        reply = await self._served.worker.ask(request, seed, heard)
        return response_of(reply, self._served.name, request)

    def _heading(self) -> Heading:
        return Heading(f"chatcmpl-{secrets.token_hex(12)}", self._served.name, int(time.time()))


class _Answer:
    """ASGI response that sends the answer, and cancels generation when the client disconnects."""

    def __init__(self, routes: _Routes, asked: CompletionRequest) -> None:
        self._routes = routes
        self._asked = asked

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def until_gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(until_gone)
            await self._routes.answer(self._asked, send, scope, receive)
            group.cancel_scope.cancel()


class _EventStream:
    """Server-sent events of one answer."""

    def __init__(self, send: Send, heading: Heading) -> None:
        self._send = send
        self._heading = heading
        self.begun = False

    async def say(self, text: str) -> None:
        """Send a piece of text."""
        if text:
            await self._event(self._heading.chunk({"content": text}))

    async def finish(self, rest: dict[str, Any], response: ChatResponse, usage: bool) -> None:
        """Send the rest of the answer and its finish reason, and end the stream."""
        if rest:
            await self._event(self._heading.chunk(rest))
        await self._event(self._heading.chunk({}, response))
        if usage:
            await self._event(self._heading.count(response))
        await self._end()

    async def fail(self, error: SimkitError) -> None:
        """Send an error, and end the stream."""
        await self._event(error_body(error)[1])
        await self._end()

    async def _end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _event(self, data: object) -> None:
        if not self.begun:
            self.begun = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._event(self._heading.chunk({"role": "assistant", "content": ""}))
        body = b"data: %s\n\n" % orjson.dumps(data)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def _no_route(request: Any, error: Any) -> Any:
    responses = require("starlette.responses", "local")
    text = f"there is no {request.method} {request.url.path}; this server has POST /v1/chat/completions, GET /v1/models"
    body = refusal(text, "invalid_request_error", "unknown_url")
    return responses.Response(orjson.dumps(body), error.status_code, media_type="application/json")


def _no_model(wanted: str, served: str) -> dict[str, Any]:
    text = f"the model `{wanted}` does not exist here; this server has `{served}`"
    return refusal(text, "invalid_request_error", "model_not_found")


def _json_of(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
