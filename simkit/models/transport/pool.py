"""A thin pooled HTTP/1.1 client for one endpoint, on asyncio protocols. It is the hot path of every model call.

Each connection carries one request at a time. Connections are kept alive and reused last in, first out. The pool has no
size limit; the callers' concurrency limit bounds it. `HttpxTransport` serves other event loops and proxies.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass
from typing import cast

import anyio

from simkit.errors import EndpointDown, MalformedReply, ModelTimeout, Unreachable
from simkit.models.transport.http1 import BODY_LIMIT, HttpReply, IncompleteReply, InvalidReply, ReplyReader
from simkit.models.transport.secrets import Secrets
from simkit.models.transport.url import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one request: seconds to connect, seconds for the whole exchange, maximum bytes of the reply's body.

    `first_connect` replaces `connect` until a connection has been made, so that a wrong address is noticed soon.

    A connection idle for more than `idle` seconds is not reused: a firewall or proxy may have dropped it silently, and
    a request on it would never be answered.
    """

    connect: float = 10.0
    first_connect: float = 10.0
    idle: float = 15.0
    request: float = 600.0
    body: int = BODY_LIMIT


class Connection(asyncio.Protocol):
    """One connection, carrying one request at a time."""

    __slots__ = ("_answer", "_loop", "_pool", "_reader", "_transport", "_used", "gone", "idle_since")

    def __init__(self, pool: ConnectionPool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpReply] | None = None
        self._reader = ReplyReader()
        self._used = False
        self.idle_since = 0.0
        self.gone: asyncio.Future[None] = loop.create_future()

    async def exchange(self, data: bytes, limits: HttpLimits) -> HttpReply:
        """Send a request and wait for its reply. The connection then returns to the pool or is closed.

        Raises:
            Unreachable, MalformedReply, ModelTimeout: no complete reply was received.
        """
        assert self._transport is not None
        self._reader = ReplyReader(limits.body)
        self._answer = answer = self._loop.create_future()
        timer = self._loop.call_later(limits.request, self._expire, limits.request)
        try:
            self._transport.write(data)
            return await answer
        finally:
            timer.cancel()
            if not answer.done() or answer.cancelled():  # the reply may still arrive: do not reuse the connection
                self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- called by the event loop -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses of asyncio's

    def data_received(self, data: bytes) -> None:
        """Process received bytes. Unexpected bytes end the connection."""
        answer = self._answer
        if answer is None or answer.done():
            self.abort()
            return
        try:
            reply = self._reader.feed(data)
        except InvalidReply as error:
            self._fail(self._pool.malformed(error))
            return
        if reply is not None:
            self._finish(answer, reply)

    def eof_received(self) -> bool:
        """Handle the end of the server's data: the connection is closed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection, closed by either side."""
        self._pool.forget(self)
        if not self.gone.done():
            self.gone.set_result(None)
        answer = self._answer
        if answer is None or answer.done():
            return
        try:
            answer.set_result(self._reader.end())
        except IncompleteReply as error:
            answer.set_exception(self._cut_off(error))
        except InvalidReply as error:
            answer.set_exception(self._pool.malformed(error))

    def _cut_off(self, error: IncompleteReply) -> Exception:
        if error.empty:  # a reused connection probably just reached the server's idle timeout: retry at once
            return Unreachable(f"{self._pool.origin}: {error}", retry_after=0.0 if self._used else None)
        return MalformedReply(f"{self._pool.origin}: {error}")

    def _finish(self, answer: asyncio.Future[HttpReply], reply: HttpReply) -> None:
        assert self._transport is not None
        self._answer, self._used, self.idle_since = None, True, self._loop.time()
        if reply.reusable and not self._transport.is_closing():
            self._pool.keep(self)
        else:
            self._transport.close()
        answer.set_result(reply)

    def _expire(self, seconds: float) -> None:
        self._fail(
            ModelTimeout(
                f"{self._pool.origin} gave no answer within {seconds:g} s; raise --request-timeout if its answers "
                "take that long"
            )
        )

    def _fail(self, error: Exception) -> None:
        answer = self._answer
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.abort()


class ConnectionPool:
    """Posts to one address. It needs asyncio (or uvloop); close it in the event loop in which it was used.

    Args:
        address: the address of the endpoint.
        head: the constant part of the request, from `Address.head`.
        limits: bounds of each request.
        tls: TLS context for https; None for plain http.
        secrets: secrets to remove from messages about replies.
    """

    def __init__(
        self,
        address: Address,
        head: bytes,
        limits: HttpLimits,
        tls: ssl.SSLContext | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._address = address
        self._secrets = secrets or Secrets()
        self._head = head
        self._limits = limits
        self._tls = tls if address.secure else None
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._closed = False
        self._connects = limits.first_connect

    @property
    def origin(self) -> str:
        """The endpoint's name in messages."""
        return self._address.origin

    async def post(self, body: bytes) -> HttpReply:
        """The endpoint's reply to a JSON body.

        Raises:
            Unreachable: the connection failed, or was closed without an answer.
            ModelTimeout: no complete answer in time.
            MalformedReply: the answer is not HTTP, is too large, or was cut off.
        """
        data = b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
        connection = self._fresh() or await self._connect()
        return await connection.exchange(data, self._limits)

    def _fresh(self) -> Connection | None:
        """The most recently used idle connection, unless it is too old; then all are, and they are closed."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        if asyncio.get_running_loop().time() - connection.idle_since <= self._limits.idle:
            return connection
        for old in (connection, *self._idle):
            old.abort()
        self._idle.clear()
        return None

    def malformed(self, error: InvalidReply) -> MalformedReply:
        """The error for an answer that is not HTTP, with its beginning without secrets."""
        sent = self._secrets.out_of_message(error.sent.decode("latin-1"))[:60]
        shown = f" ({sent!r})" if sent else ""
        if error.hopeless:
            return MalformedReply(f"the answer of {self.origin} cannot be read: {error}", retries=0)
        return MalformedReply(f"the answer of {self.origin} is not valid HTTP: {error}{shown}")

    def keep(self, connection: Connection) -> None:
        """Return a reusable connection to the pool."""
        if self._closed:
            connection.abort()
        else:
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        waiting = [connection.gone for connection in self._open]
        for connection in tuple(self._open):
            connection.abort()
        with anyio.move_on_after(2, shield=True):
            for gone in waiting:
                await gone

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        address = self._address
        name, seconds = address.host if self._tls else None, self._connects
        try:
            with anyio.fail_after(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, loop), address.host, address.port, ssl=self._tls, server_hostname=name
                )
        except TimeoutError as error:
            message = f"{self.origin} did not accept a connection in {seconds:g} s"
            raise Unreachable(message, waited=seconds) from error
        except ssl.SSLCertVerificationError as error:
            raise EndpointDown(
                f"the certificate of {self.origin} cannot be verified: {error.verify_message}. Trust its issuer with "
                "SSL_CERT_FILE, or correct the base URL"
            ) from error
        except OSError as error:  # refused, no such host, no route
            raise Unreachable(f"{self.origin} cannot be reached: {_reason(error)}") from error
        self._connects = self._limits.connect
        self._open.add(connection)
        return connection


def _reason(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return "this process may open no more connections; raise `ulimit -n` or lower --api-concurrency"
    return error.strerror or str(error) or type(error).__name__
