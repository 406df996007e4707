from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest

from simkit.errors import EndpointDown, MalformedReply, ModelTimeout, Unreachable, UsageError
from simkit.models.config import ModelConfig
from simkit.models.providers.openai import Endpoint, limits_of
from simkit.models.transport.pool import ConnectionPool, HttpLimits
from simkit.models.transport.transports import (
    HttpTransport,
    HttpxTransport,
    behind_proxy,
    check_proxies,
    open_transport,
)
from simkit.models.transport.url import Address

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


NO_UVLOOP = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed (extra `fast`)")


@pytest.fixture(params=[pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop", marks=NO_UVLOOP)])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """A server that runs `handler` for each connection; it is closed when the handler returns."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def request_of(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    return head, await reader.readexactly(size)


def answering(*answers: bytes) -> Handler:
    """Answers the requests of a connection in turn, then closes it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request_of(reader)
            writer.write(answer)
            await writer.drain()

    return handler


@asynccontextmanager
async def posting(port: int, kind: str = "direct", **limits: float) -> AsyncGenerator[HttpTransport]:
    address = Address.of(f"http://127.0.0.1:{port}/v1")
    bounds = HttpLimits(request=limits.get("request", 20.0), body=1000, idle=limits.get("idle", 15.0))
    transport = open_transport(address, {"x-test": "1"}, bounds, "httpx2" if kind == "httpx2" else "direct")
    try:
        yield transport
    finally:
        await transport.aclose()


BOTH = pytest.mark.parametrize("kind", ["direct", "httpx2"])


@BOTH
async def test_the_request_as_the_server_sees_it(kind: str) -> None:
    seen: list[tuple[str, bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_of(reader))
        writer.write(OK)
        await writer.drain()

    async with listening(handler) as port, posting(port, kind) as transport:
        reply = await transport.post(b'{"a":1}')
    assert (reply.status, reply.body) == (200, b"{}")
    ((head, body),) = seen
    lines = head.lower().splitlines()
    assert lines[0] == "post /v1/chat/completions http/1.1"
    assert {f"host: 127.0.0.1:{port}", "x-test: 1", "content-length: 7"} <= set(lines)
    assert not any(line.startswith("accept-encoding") and "gzip" in line for line in lines)
    assert body == b'{"a":1}'


@pytest.mark.parametrize(("idle", "expected"), [(15.0, 1), (-1.0, 3)])
async def test_a_connection_is_used_again_unless_it_was_idle_for_too_long(idle: float, expected: int) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK, OK, OK)(reader, writer)

    async with listening(handler) as port, posting(port, idle=idle) as transport:
        for _ in range(3):
            assert (await transport.post(b"{}")).status == 200
    assert connections == expected


async def test_a_kept_connection_that_the_server_closed_may_be_replaced_at_once() -> None:
    served = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await request_of(reader)
        writer.write(OK)
        await writer.drain()
        if served == 1:
            await request_of(reader)  # takes the second request, and closes without an answer

    async with listening(handler) as port, posting(port) as transport:
        assert (await transport.post(b"{}")).status == 200
        with pytest.raises(Unreachable) as caught:
            await transport.post(b"{}")
        assert caught.value.retry_after == 0
        assert (await transport.post(b"{}")).status == 200
    assert served == 2


@BOTH
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", Unreachable),
        (OK[:-1], MalformedReply),
        (b"SSH-2.0-OpenSSH\r\n\r\n", MalformedReply),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000, MalformedReply),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}", MalformedReply),
    ],
)
async def test_answers_that_are_none(kind: str, answer: bytes, fault: type[Exception]) -> None:
    async with listening(answering(answer)) as port, posting(port, kind) as transport:
        with pytest.raises(fault, match=r"http://127\.0\.0\.1"):
            await transport.post(b"{}")


@BOTH
async def test_nobody_listens(kind: str) -> None:
    async with listening(answering()) as port:
        pass
    async with posting(port, kind) as transport:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await transport.post(b"{}")


@BOTH
async def test_a_silent_server_is_given_up_after_the_timeout(kind: str) -> None:
    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(handler) as port, posting(port, kind, request=0.02) as transport:
        with pytest.raises(ModelTimeout, match=r"within 0\.02 s; raise --request-timeout"):
            await transport.post(b"{}")


async def test_a_cancelled_request_leaves_its_late_answer_to_nobody() -> None:
    first, asked = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await request_of(reader)
        if body == b"1":
            asked.set()
            await first.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + body)
        await writer.drain()
        await reader.read()

    async with listening(handler) as port, posting(port) as transport:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.post, b"1")
            await asked.wait()
            tasks.cancel_scope.cancel()
        first.set()
        assert (await transport.post(b"2")).body == b"2"


async def test_a_cancelled_request_closes_its_connection_so_that_the_endpoint_stops() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        asked.set()
        try:
            await reader.read()
        finally:  # an abort may arrive as an end or as a reset
            closed.set()

    async with listening(handler) as port, posting(port) as transport:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.post, b"1")
            await asked.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await closed.wait()


async def test_bytes_nobody_asked_for_end_the_connection() -> None:
    served = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await request_of(reader)
        writer.write(OK + OK)  # one answer too many: it must not become the next request's
        await writer.drain()
        await reader.read()

    async with listening(handler) as port, posting(port) as transport:
        for _ in range(2):
            assert (await transport.post(b"{}")).body == b"{}"
    assert served == 2


async def test_many_at_once_get_their_own_answers() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()

    async with listening(handler) as port, posting(port) as transport:

        async def ask(number: int) -> None:
            for turn in range(5):
                body = b"%d/%d" % (number, turn)
                assert (await transport.post(body)).body == body

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ask, number)


# --- https ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    try:
        subprocess.run(
            [*command.split(), "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl program to make a certificate with")
    return folder


def server_tls(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_https_with_a_trusted_certificate(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    async with listening(answering(OK, OK), server_tls(certificate)) as port:
        address = Address.of(f"https://localhost:{port}/v1")
        pool = ConnectionPool(address, address.head({}), HttpLimits(), trusting)
        assert [(await pool.post(b"{}")).status for _ in range(2)] == [200, 200]
        await pool.aclose()


async def test_https_with_a_strange_certificate_stops_the_run(certificate: Path) -> None:
    async with listening(answering(OK), server_tls(certificate)) as port:
        transport = open_transport(Address.of(f"https://localhost:{port}/v1"), {}, HttpLimits(), "direct")
        with pytest.raises(EndpointDown, match=r"certificate .* cannot be verified"):
            await transport.post(b"{}")
        await transport.aclose()


# --- addresses and choices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("http://[::1]:80", "http://[::1]/chat/completions"),
        (
            "https://me.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://me.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_where_completions_are(base_url: str, url: str) -> None:
    assert Address.of(base_url).url == url


@pytest.mark.parametrize(
    "wrong",
    [
        "localhost:8000",
        "ftp://x/v1",
        "http:///v1",
        "http://x:99999/v1",
        "http://x/v1 2",
        "http://a b/v1",
        "http://user:sec/ret@x/v1",
        "user:secret@x/v1",
        "http://x y/v1?key=secret",
    ],
)
def test_base_urls_that_are_none(wrong: str) -> None:
    with pytest.raises(UsageError, match="base URL") as caught:
        Address.of(wrong)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{"x": "a\r\nevil: 1"}, {"x": "a\nb"}, {"x\r\ny": "1"}, {"x y": "1"}, {"x": "\u2028"}]
)
def test_headers_cannot_break_out(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="header"):
        Address.of("http://x/v1").head(headers)


def test_a_secret_in_a_bad_header_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        Address.of("http://x/v1").head({"authorization": "Bearer sk-secret\n"})
    assert "sk-secret" not in str(caught.value)


async def test_proxies_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address = Address.of("http://models.example/v1")
    assert not behind_proxy(address)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    assert behind_proxy(address)
    transport = open_transport(address, {}, HttpLimits())
    assert isinstance(transport, HttpxTransport)
    await transport.aclose()
    monkeypatch.setenv("no_proxy", "models.example")
    assert isinstance(open_transport(address, {}, HttpLimits()), ConnectionPool)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("url", ["socks://127.0.0.1:9", "socks4://me:word@127.0.0.1:9", "ftp://proxy:1"])
def test_a_proxy_that_cannot_be_used_is_named(name: str, url: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is `.*is not a kind of proxy.*socks5://") as caught:
        check_proxies({name: url})
    assert "word" not in str(caught.value)


def test_a_socks_proxy_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(UsageError, match=r"ALL_PROXY is `socks5h://localhost:1080`: .*\[socks\]"):
        check_proxies({"ALL_PROXY": "socks5h://localhost:1080"})


def test_usual_proxies_and_other_variables_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", sys)
    check_proxies(
        {"HTTP_PROXY": "proxy:3128", "https_proxy": "http://proxy:1", "no_proxy": "socks://x", "all_proxy": ""}
    )
    check_proxies({"ALL_PROXY": "socks5://localhost:1080"})


async def test_requests_ask_for_no_compression() -> None:
    heads: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await request_of(reader))[0].lower())
        writer.write(OK)

    async with listening(handle) as port:
        for transport in opened(port):
            await transport.post(b"{}")
            await transport.aclose()
    assert [head.count("accept-encoding: identity\r\n") for head in heads] == [1, 1]


async def test_a_compressed_answer_arrives_unpacked_on_both_transports() -> None:
    body = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
    for answer in (b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body), b"%s\r\n%s" % (head, body)):
        for place in range(2):
            async with listening(answering(answer)) as port:
                transport = opened(port)[place]
                assert (await transport.post(b"{}")).body == b'{"a": 1}'
                await transport.aclose()


async def test_an_answer_that_cannot_be_unpacked_is_hopeless_on_both_transports() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: lzma\r\ncontent-length: 1\r\n\r\nx"
    for place in range(2):
        async with listening(answering(answer)) as port:
            transport = opened(port)[place]
            with pytest.raises(MalformedReply, match="asked for no compression") as caught:
                await transport.post(b"{}")
            assert caught.value.retries == 0
            await transport.aclose()


def opened(port: int) -> tuple[HttpTransport, HttpTransport]:
    """A transport of each kind, as endpoints open it."""
    url = f"http://127.0.0.1:{port}/v1"
    return Endpoint(base_url=url, transport="direct").open(), Endpoint(base_url=url, transport="httpx2").open()


@pytest.mark.parametrize(
    ("given", "first"), [({}, 4.5), ({"wait_for_endpoint": 90}, 10.0), ({"connect_timeout": 2}, 2.0)]
)
def test_the_first_connection_takes_no_longer_than_the_run_waits_at_its_start(
    given: dict[str, float], first: float
) -> None:
    limits = limits_of(ModelConfig.model_validate(given))
    assert (limits.first_connect, limits.connect) == (first, given.get("connect_timeout", 10.0))
