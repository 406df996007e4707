"""The OpenAI-compatible address on this machine at which loops of agents ask their model."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

import anyio
import orjson

from simkit.agents.loop_task import Closed, RunningLoop
from simkit.errors import SimkitError, UsageError
from simkit.local.wire import Heading, error_body, read_request, refusal
from simkit.models.base import ChatResponse
from simkit.plugins.extras import require

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
CLOSING = 5.0
"""Seconds that the server may take to end."""

CREATED = 0
"""Time of creation in all answers: an answer must not depend on the clock."""


class LoopEndpoint:
    """A server for the model calls of loops. It listens from the first use of `url`.

    A call belongs to the loop whose key it brings. The answer is given by the run, in the turn of that loop.

    Args:
        model: name of the model in answers; empty if there is none.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._loops: WeakValueDictionary[str, RunningLoop] = WeakValueDictionary()
        self._stack = AsyncExitStack()
        self._tasks: Any = None
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._client: Any = None
        self._closed = anyio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True
            with anyio.move_on_after(CLOSING, shield=True):  # only then may its socket be closed
                await self._closed.wait()
        self._tasks.cancel_scope.cancel()
        await self._stack.aclose()
        if self._socket is not None:
            self._socket.close()

    @property
    def url(self) -> str:
        """The address.

        Raises:
            UsageError: there is no model, or the event loop is not asyncio's.
        """
        if not self._model:
            raise UsageError("the loop asks for the address of a model, but the run has none; choose one with --model")
        if self._socket is None:
            self._socket = self._listen()
        return f"http://{HOST}:{self._socket.getsockname()[1]}/v1"

    @property
    def client(self) -> Any:
        """A client for HTTP that all loops share, of the class that `openai` uses.

        Raises:
            UsageError: the package `openai` is not installed.
        """
        if self._client is None:
            self._client = require("openai", "finetune").DefaultAsyncHttpxClient(timeout=None)
        return self._client

    def admit(self, running: RunningLoop) -> str:
        """A key with which a loop may ask."""
        key = secrets.token_urlsafe(24)
        self._loops[key] = running
        return key

    def _listen(self) -> socket.socket:
        if not _on_asyncio():
            raise UsageError("the address of the model needs asyncio; use `dialogue.complete` on other event loops")
        listening = socket.create_server((HOST, 0), backlog=1024)
        self._server = _server(self._application())
        self._tasks.start_soon(self._serve, listening, name="model calls of loops")
        return listening

    async def _serve(self, listening: socket.socket) -> None:
        try:
            await self._server.serve(sockets=[listening])
        finally:
            self._closed.set()

    def _application(self) -> Any:
        from starlette.applications import Starlette
        from starlette.routing import Route

        routes = [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})

    async def _models(self, _request: Request) -> Response:
        return _json(200, {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "simkit"}]})

    async def _complete(self, request: Request) -> Response:
        key = request.headers.get("authorization", "").partition(" ")[2]
        running = self._loops.get(key)
        if running is None:
            return _json(401, refusal("no open conversation has this key", "invalid_request_error", None))
        try:
            asked = read_request(orjson.loads(await request.body()))
            response = await running.complete(asked.request)
        except orjson.JSONDecodeError as error:
            return _json(400, refusal(f"the body is no JSON ({error})", "invalid_request_error", None))
        except Closed:
            return _json(503, refusal("this conversation has ended", "server_error", None))
        except SimkitError as error:
            return _json(*error_body(error))
        running.answered += 1  # frameworks take messages with one id for one message
        heading = Heading(f"chatcmpl-{running.answered}", asked.model or self._model, CREATED)
        if asked.stream:
            return _stream(heading, response, asked.usage)
        return _json(200, heading.completion(response))


def _stream(heading: Heading, response: ChatResponse, usage: bool) -> Response:
    """An answer as a stream: its whole message in one piece."""
    from starlette.responses import Response

    parts = [heading.chunk(heading.whole(response)), heading.chunk({}, response)]
    if usage:
        parts.append(heading.count(response))
    body = b"".join(b"data: %b\n\n" % orjson.dumps(part) for part in parts) + b"data: [DONE]\n\n"
    return Response(body, media_type="text/event-stream")


def _json(status: int, value: Any) -> Response:
    from starlette.responses import Response

    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


async def _unknown(request: Request, _error: Exception) -> Response:
    said = f"there is no {request.method} {request.url.path} here; loops may ask POST /v1/chat/completions"
    return _json(404, refusal(said, "invalid_request_error", None))


def _on_asyncio() -> bool:
    """Whether the event loop is asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _server(application: Any) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """A server that leaves signals to the run."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off", ws="none")
    return Server(config)
