"""A load server: an OpenAI-compatible endpoint on the loopback with configurable latency and faults.

It answers from a template and counts its requests.

    async with serve(Behaviour(latency=0.05, faults=Faults(rate_limited=0.05))) as server:
        ...  # server.base_url; await server.stats()

    python -m simkit.testing.server --port 8000 --latency 0.05 --rate-limited 0.05

The treatment of a request is a function of the seed, its body and the number of earlier copies of that body, so a rerun
repeats it in any order of requests. `GET /stats` returns the counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import urllib.request
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, cast

import anyio
import anyio.to_thread
import orjson

from simkit.errors import UsageError
from simkit.run.tuning import fast_loop
from simkit.testing.behaviour import Behaviour, FaultName, Faults, Reply, Stats, behaviour_flags, behaviour_of

HOST = "127.0.0.1"


class _ServerState:
    """State shared by all connections."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.stats = Stats()
        self.seen: dict[bytes, int] = {}
        self.answered: dict[bytes, int] = {}
        self.open: set[_Connection] = set()
        self.closing = False
        self.in_flight = 0
        self.calm = behaviour.faults == Faults() and not behaviour.spread
        self.key = None if behaviour.key is None else f"bearer {behaviour.key}".lower().encode()

    def begin(self, digest: bytes) -> int:
        """Count a request; returns the number of earlier requests with the same body."""
        stats = self.stats
        stats.requests += 1
        self.in_flight += 1
        stats.in_flight_max = max(stats.in_flight_max, self.in_flight)
        seen = self.seen.get(digest, 0)
        self.seen[digest] = seen + 1
        return seen

    def fault(self, name: str) -> None:
        """Count a fault."""
        self.stats.faults[name] = self.stats.faults.get(name, 0) + 1

    def answer(self, digest: bytes, prompt: int, completion: int) -> None:
        """Count a complete answer."""
        stats, before = self.stats, self.answered.get(digest, 0)
        self.answered[digest] = before + 1
        stats.answered += 1
        stats.repeated += before > 0
        stats.prompt_tokens += prompt
        stats.completion_tokens += completion


class _Connection(asyncio.Protocol):
    """One connection, which takes requests one after another."""

    def __init__(self, shared: _ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self._shared = shared
        self._loop = loop
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the accepted connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._shared.open.add(self)
        self._shared.stats.connections += 1
        if self._shared.closing:  # accepted while the server is closing
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the closed connection."""
        self._shared.open.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Collect bytes and start the next complete request."""
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._next()

    def abort(self) -> None:
        """Close the connection immediately."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        size = _content_length(head)
        if len(self._buffer) < end + 4 + size:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
        self._busy = True
        if b"/chat/completions" in head[: head.find(b"\r\n")] and head.startswith(b"post "):
            self._chat(head, body)
        else:
            self._other(head)

    def _chat(self, head: bytes, body: bytes) -> None:
        shared, behaviour = self._shared, self._shared.behaviour
        digest = blake2b(body, digest_size=16).digest()
        seen = shared.begin(digest)
        if shared.key is not None and shared.key not in head:
            self._refuse("key", 401, f"Incorrect API key provided: {_sent_key(head)}")
        elif behaviour.capacity is not None and shared.in_flight > behaviour.capacity:
            self._refuse("capacity", 429, "too many requests at once", retry_after=behaviour.retry_after)
        elif shared.calm:
            self._later(behaviour.latency, self._answer, digest, body)
        else:
            chance, slowness = behaviour.draws(digest, seen)
            self._later(behaviour.seconds(slowness), self._answer_with, behaviour.faults.at(chance), digest, body)

    def _later(self, seconds: float, act: Callable[..., None], *given: Any) -> None:
        if seconds > 0:
            self._loop.call_later(seconds, act, *given)
        else:
            act(*given)

    def _answer(self, digest: bytes, body: bytes) -> None:
        data, prompt, completion = _completion(self._shared.behaviour.reply, digest, body)
        if self._transport is not None:
            self._shared.answer(digest, prompt, completion)
        self._send(_http(200, data))

    def _answer_with(self, fault: FaultName | None, digest: bytes, body: bytes) -> None:
        """Answer a request according to its fault."""
        behaviour = self._shared.behaviour
        if fault is None:
            self._answer(digest, body)
            return
        match fault:
            case "rate_limited":
                self._refuse(fault, 429, "rate limit reached", retry_after=behaviour.retry_after)
            case "rate_limited_bare":
                self._refuse(fault, 429, "rate limit reached")
            case "failed":
                self._refuse(fault, 500, "the server had an error")
            case "too_long":
                refusal = "This model's maximum context length is 8192 tokens"
                self._refuse(fault, 400, refusal, code="context_length_exceeded")
            case "dropped" | "half" | "slow" | "malformed" | "wrong_type":
                self._shared.fault(fault)
                self._spoil(fault, digest, body)

    def _spoil(self, fault: FaultName, digest: bytes, body: bytes) -> None:
        data, prompt, completion = _completion(self._shared.behaviour.reply, digest, body)
        whole = _http(200, data)
        half = len(whole) - len(data) // 2
        match fault:
            case "half":
                self._write(whole[:half])
                self._end(close=True)
            case "slow":
                self._shared.answer(digest, prompt, completion)
                self._write(whole[:half])
                self._loop.call_later(self._shared.behaviour.slow_seconds, self._send, whole[half:])
            case "malformed":
                self._send(_http(200, data[: len(data) // 2]))
            case "wrong_type":
                self._send(_http(200, b"<html><body>Be right back.</body></html>", kind="text/html"))
            case _:
                self._end(close=True)

    def _refuse(
        self, name: str, status: int, message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        self._shared.fault(name)
        body = orjson.dumps({"error": {"message": message, "type": "error", "code": code}})
        wait = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        self._send(_http(status, body, wait))

    def _other(self, head: bytes) -> None:
        self._shared.in_flight += 1
        path = head.split(b" ", 2)[1]
        if path == b"/stats":
            self._send(_http(200, orjson.dumps(asdict(self._shared.stats))))
        elif path.endswith(b"/models"):
            self._send(_http(200, b'{"object":"list","data":[{"id":"scripted","object":"model"}]}'))
        else:
            self._send(_http(404, b'{"error":{"message":"nothing is here"}}'))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _send(self, data: bytes) -> None:
        self._write(data)
        self._end(close=False)

    def _end(self, *, close: bool) -> None:
        self._shared.in_flight -= 1
        self._busy = False
        if close and self._transport is not None:
            self._transport.close()
        elif self._buffer:
            self._next()


def _content_length(head: bytes) -> int:
    start = head.find(b"\r\ncontent-length:")
    return int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


def _sent_key(head: bytes) -> str:
    return head.partition(b"authorization: bearer ")[2].partition(b"\r\n")[0].decode("latin-1")


def _http(status: int, body: bytes, headers: Mapping[str, str] | None = None, kind: str = "application/json") -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) if headers else ""
    head = f"HTTP/1.1 {status} .\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


_TEMPLATE = (
    b'{"id":"chatcmpl-%s","object":"chat.completion","created":0,"model":"scripted","choices":[{"index":0,"message":%s,'
    b'"finish_reason":"%s"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
)


def _completion(reply: Reply | None, digest: bytes, body: bytes) -> tuple[bytes, int, int]:
    """The JSON of an answer, with the tokens of prompt and reply, counted as a quarter of their bytes."""
    name = digest[:8].hex().encode()
    if reply is None:
        message = b'{"role":"assistant","content":"I have understood: %s."}' % name
        finish = b"stop"
    else:
        said = reply(orjson.loads(body))
        whole = {"role": "assistant", "content": said} if isinstance(said, str) else dict(said)
        message = orjson.dumps(whole)
        finish = b"tool_calls" if whole.get("tool_calls") else b"stop"
    prompt, completion = len(body) // 4, max(1, len(message) // 4)
    data = _TEMPLATE % (name, message, finish, prompt, completion, prompt + completion)
    return data, prompt, completion


# --- running it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadServer:
    """A running server."""

    port: int

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"http://{HOST}:{self.port}/v1"

    async def stats(self) -> Stats:
        """The counts so far."""
        return await anyio.to_thread.run_sync(self._stats)

    def _stats(self) -> Stats:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{HOST}:{self.port}/stats", timeout=10) as answer:
            return Stats(**orjson.loads(answer.read()))


@contextlib.asynccontextmanager
async def serve(behaviour: Behaviour | None = None, *, port: int = 0) -> AsyncGenerator[LoadServer]:
    """Run a server in its own thread with its own event loop; port 0 chooses a free port.

    Raises:
        UsageError: the port is taken.
    """
    running = _ServerThread(_ServerState(behaviour or Behaviour()), port)
    thread = threading.Thread(target=running.run, name="load-server", daemon=True)
    thread.start()
    try:
        await anyio.to_thread.run_sync(running.ready.wait)
        if running.problem is not None:
            raise UsageError(f"the load server cannot listen on port {port}: {running.problem}; choose another port")
        yield LoadServer(running.port)
    finally:
        running.stop()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(thread.join)


@contextlib.asynccontextmanager
async def serve_process(*arguments: str) -> AsyncGenerator[LoadServer]:
    """Run `python -m simkit.testing.server ARGUMENTS` in its own process, which takes no CPU time from this one."""
    command = [sys.executable, "-m", "simkit.testing.server", *arguments]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        try:
            first = await process.stdout.receive()
            yield LoadServer(int(first.decode().rsplit(":", 1)[1].split("/")[0]))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


class _ServerThread:
    """A server with its event loop and thread."""

    def __init__(self, shared: _ServerState, port: int) -> None:
        self.port = port
        self.ready = threading.Event()
        self.problem: OSError | None = None
        self._shared = shared
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            with asyncio.Runner(loop_factory=fast_loop()) as runner:
                runner.run(self._serve())
        except OSError as error:
            self.problem = error
        finally:
            self.ready.set()

    def stop(self) -> None:
        """Stop the server from another thread."""
        if self._loop is not None and self._over is not None:
            with contextlib.suppress(RuntimeError):  # it has already ended
                self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with listening(self._shared, self.port) as port:
            self.port = port
            self.ready.set()
            await self._over.wait()


LEAVING = 5
"""Rounds of the event loop in which newly accepted connections are made, aborted and lost.

A connection that outlives its loop would keep uvloop from closing until the other side disconnects.
"""


@contextlib.asynccontextmanager
async def listening(shared: _ServerState, port: int) -> AsyncGenerator[int]:
    """Accept connections while the block runs; yields the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(shared, loop), HOST, port, backlog=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        shared.closing = True
        for connection in tuple(shared.open):
            connection.abort()
        await server.wait_closed()
        for _ in range(LEAVING):
            await asyncio.sleep(0)


async def _main(behaviour: Behaviour, port: int) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with listening(_ServerState(behaviour), port) as taken:
        sys.stdout.write(f"http://{HOST}:{taken}/v1\n")
        sys.stdout.flush()
        await over.wait()


def main() -> None:
    """Serve until interrupted."""
    description = (__doc__ or "").split("\n\n")[0]
    given = behaviour_flags("python -m simkit.testing.server", description).parse_args()
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_main(behaviour_of(given), given.port))


if __name__ == "__main__":
    main()
