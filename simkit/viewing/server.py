"""The viewer's HTTP server: the API's values, the pages, and news of the store, behind the guards."""

from __future__ import annotations

import gzip
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from simkit.errors import SimkitError, UsageError, ViewRefused
from simkit.store.live_replica import LiveReplica
from simkit.store.notes import NoteFile
from simkit.viewing.api import About, Annotations, answer, to_bytes
from simkit.viewing.guards import Door, Guard
from simkit.viewing.notes import LARGEST, new_note, notes, read_note
from simkit.viewing.pages import PageFile, page_files
from simkit.viewing.watching import Watch

FIRST_PORT, PORTS = 7788, 100

LEAST_PACKED = 1000
"""Bytes of an answer from which on it is compressed."""

KEPT = 32 << 20
"""Bytes of answers that are kept."""

BEAT = 15.0
"""Seconds between signs of life to pages that wait for news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """What is served.

    Attributes:
        store: its folder.
        readonly: whether the store cannot be written.
        annotations: whether notes can be written.
        cache: folder in which the private database is kept; None for a temporary one.
    """

    store: Path
    readonly: bool = False
    annotations: Annotations = field(default_factory=Annotations)
    cache: Path | None = None


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket at a port, or (None) at the first free one from 7788 on; 0 is any free one.

    Raises:
        UsageError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tried = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else (port,)
    problem: Exception | None = None
    for number in tried:
        try:
            return socket.create_server((host, number), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            problem = error
    raise UsageError(
        f"cannot listen on {host}:{tried[0]}: {problem}; choose another address with --host or --port"
    ) from problem


async def serve(viewer: Viewer, door: Door, place: socket.socket, ready: Callable[[], object]) -> None:
    """Serve a store on a listening socket until the process is told to stop; `ready` is called when it can be read.

    Raises:
        StoreError: the store cannot be read.
    """
    with LiveReplica(viewer.store, cache=viewer.cache) as replica:
        watch = Watch(replica)
        config = uvicorn.Config(
            make_app(viewer, watch, door),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=2,
            limit_concurrency=200,
        )
        server = _Server(config, watch)
        async with anyio.create_task_group() as group:
            group.start_soon(watch.follow)
            ready()
            await server.serve(sockets=[place])
            group.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """A server that tells waiting pages when it ends, so that it need not wait for them."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections."""
        self._watch.stop()
        await super().shutdown(sockets)


def make_app(viewer: Viewer, watch: Watch, door: Door) -> Guard:
    """The ASGI application, behind the guards."""
    handlers = _Handlers(viewer, watch, page_files())
    routes = [
        Route("/api/events", handlers.events),
        Route("/api/notes", handlers.write_note, methods=["POST"]),
        Route("/api/{rest:path}", handlers.api),
        Route("/static/{name:path}", handlers.static),
        Route("/{rest:path}", handlers.page),
    ]
    return Guard(Starlette(routes=routes), door)


@dataclass(slots=True)
class _Answers:
    """Answers that were given, by path, with the key of what they depend on; the oldest go when they are too many."""

    size: int = 0
    kept: dict[str, tuple[str, _Body]] = field(default_factory=dict[str, "tuple[str, _Body]"])

    def get(self, key: str, path: str) -> _Body | None:
        """The answer, if it is kept and is still the same."""
        known, body = self.kept.get(path, ("", None))
        return body if known == key else None

    def put(self, key: str, path: str, body: _Body) -> None:
        """Keep an answer in place of an earlier one."""
        self._drop(path)
        self.kept[path] = (key, body)
        self.size += body.size
        while self.size > KEPT:
            self._drop(next(iter(self.kept)))

    def _drop(self, path: str) -> None:
        if path in self.kept:
            self.size -= self.kept.pop(path)[1].size


@dataclass(frozen=True, slots=True)
class _Body:
    """An answer as it is sent: plain, and compressed if that is worth it."""

    plain: bytes
    packed: bytes | None

    @classmethod
    def of(cls, value: Any) -> _Body:
        """The body of a JSON value."""
        plain = to_bytes(value)
        return cls(plain, gzip.compress(plain, 4, mtime=0) if len(plain) > LEAST_PACKED else None)

    @property
    def size(self) -> int:
        return len(self.plain) + len(self.packed or b"")


class _Handlers:
    """The handlers of the routes."""

    def __init__(self, viewer: Viewer, watch: Watch, files: Mapping[str, PageFile]) -> None:
        self._viewer = viewer
        self._watch = watch
        self._files = files
        self._mark = secrets.token_hex(4)  # tags of another process are about other states
        self._answers = _Answers()

    async def api(self, request: Request) -> Response:
        """Answer from the store."""
        path = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
        asked = f"{path}?{request.url.query}"
        try:
            version = (await self._watch.fresh()).version
            key = self._watch.key(path)
            tag = f'"{self._mark}-{key}-{blake2b(asked.encode(), digest_size=6).hexdigest()}"'
            if tag in request.headers.get("if-none-match", ""):
                return Response(None, 304, {"etag": tag, "cache-control": "no-cache"})
            body = self._answers.get(key, asked)
            if body is None:
                about = self._about(version)
                query = dict(request.query_params)
                body = await self._watch.answer(lambda reader: _Body.of(answer(reader, path, query, about)))
                self._answers.put(key, asked, body)
        except ViewRefused as error:
            return _problem(error.status, str(error), error.hint, error.near)
        except SimkitError as error:
            return _problem(503, f"the store cannot be read: {error}", "try again; `simkit doctor --verify` checks it")
        return _json(body, request, {"etag": tag, "cache-control": "no-cache"})

    def _about(self, version: int) -> About:
        return About(version, self._viewer.readonly, self._viewer.annotations, self._watch.messages)

    async def events(self, request: Request) -> Response:
        """Tell a page of each new state, as server-sent events."""
        return StreamingResponse(self._news(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _news(self) -> AsyncGenerator[bytes]:
        async with self._watch.listening():
            known = None
            while not self._watch.stopped:
                found = None
                with anyio.move_on_after(BEAT):
                    found = await self._watch.after(known)
                if found is None:
                    yield b": still here\n\n"
                elif found != known:
                    known = found
                    yield b"data: %b\n\n" % to_bytes(found.to_json())

    async def write_note(self, request: Request) -> Response:
        """Write a note, which a page sends as JSON; the pages are told of it."""
        annotations = self._viewer.annotations
        try:
            if not annotations.enabled:
                raise ViewRefused("notes cannot be written here", status=403, hint=annotations.reason)
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise ViewRefused("a note is sent as JSON", hint="send it with the content type application/json")
            given = read_note(await _body(request))
            await self._watch.fresh()
            note = await self._watch.answer(lambda reader: new_note(reader, given, annotations.author))
            await to_thread.run_sync(NoteFile(self._viewer.store).append, note)
            await self._watch.refresh()
            written = await self._watch.answer(lambda reader: notes(reader, note.run_id))
        except ViewRefused as error:
            return _problem(error.status, str(error), error.hint, error.near)
        except SimkitError as error:
            return _problem(503, str(error), "look whether the note is there, and try again")
        shown = next((each for each in written["notes"] if each["id"] == note.id), None)
        return Response(to_bytes(shown), 201, {"cache-control": "no-store"}, "application/json")

    async def static(self, request: Request) -> Response:
        """One of the files of the pages."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            return _problem(404, "there is no such file")
        return _file(file, request)

    async def page(self, request: Request) -> Response:
        """The page, which finds out from its address what to show."""
        file = self._files.get("index.html")
        if file is None:
            return _problem(404, "the pages of the viewer are not installed", "the API is at /api/runs")
        return _file(file, request)


async def _body(request: Request) -> bytes:
    """The body of a request, up to its limit.

    Raises:
        ViewRefused: it is longer.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise ViewRefused(f"a note has at most {LARGEST >> 10} kB", hint="write less")
        parts.append(part)
    return b"".join(parts)


def _file(file: PageFile, request: Request) -> Response:
    tag = f'"{file.digest}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(file.body, 200, headers, file.media_type)


def _json(body: _Body, request: Request, headers: Mapping[str, str]) -> Response:
    known = {**headers, "vary": "accept-encoding"}
    if body.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(body.packed, 200, {**known, "content-encoding": "gzip"}, "application/json")
    return Response(body.plain, 200, known, "application/json")


def _problem(status: int, error: str, hint: str = "", near: tuple[str, ...] = ()) -> Response:
    body = to_bytes({"error": error, "hint": hint, "near": list(near)})
    return Response(body, status, {"cache-control": "no-store"}, "application/json")
