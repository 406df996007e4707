"""What the viewer's server refuses, and what all its answers carry."""

from __future__ import annotations

from typing import Any

import pytest

from simkit.viewing.guards import CSP, Door, Guard, Message, Receive, Scope, Send, is_loopback

HERE = Door.at("127.0.0.1", 7788, None)


class Asked:
    """An application behind the guard that notes what reaches it."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"inside"})


async def ask(
    door: Door, path: str = "/api/runs", method: str = "GET", query: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that a request gets; `sec_fetch_site=...` is a header."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read of a request that is refused")

    named = {"host": "127.0.0.1:7788", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    await Guard(Asked(), door)(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host", ["127.0.0.1:7788", "localhost:7788", "[::1]:7788", "LOCALHOST:7788", "localhost.:7788"]
)
async def test_this_machine_is_let_in(host: str) -> None:
    status, headers, body = await ask(HERE, host=host)
    assert (status, body) == (200, b"inside")
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7788",
        "127.0.0.1",
        "127.0.0.1:7789",
        "127.0.0.1.evil.example:7788",
        "10.0.0.1:7788",
        "localhost:7788@evil.example",
        "localhost:7788, evil.example",
        "",
        "::1:7788",
        "[::1:7788",
        "[]:7788",
        ":7788",
        "localhost:٧٧٨٨",
        "localhost:7788 ",
    ],
)
async def test_other_host_names_are_refused(host: str) -> None:
    status, headers, body = await ask(HERE, host=host)
    assert status == 403
    assert b"inside" not in body
    assert headers["content-security-policy"] == CSP


@pytest.mark.anyio
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:7789", "http://localhost:7788", ""]
)
async def test_requests_of_other_origins_are_refused(origin: str) -> None:
    assert (await ask(HERE, origin=origin))[0] == 403


@pytest.mark.anyio
async def test_requests_of_the_page_are_let_in() -> None:
    assert (await ask(HERE, origin="http://127.0.0.1:7788", sec_fetch_site="same-origin"))[0] == 200


@pytest.mark.anyio
@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
async def test_requests_that_other_sites_start_are_refused(site: str) -> None:
    assert (await ask(HERE, sec_fetch_site=site))[0] == 403
    navigated = {"sec_fetch_site": site, "sec_fetch_mode": "navigate"}
    assert (await ask(HERE, sec_fetch_dest="document", **navigated))[0] == 403  # the API is no page
    assert (await ask(HERE, "/runs/last", sec_fetch_dest="iframe", **navigated))[0] == 403
    assert (await ask(HERE, "/runs/last", sec_fetch_dest="document", **navigated))[0] == 200  # a link in a mail


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/api/runs", 200),
        ("POST", "/api/notes", 200),
        ("POST", "/api/runs", 405),
        ("PUT", "/api/notes", 405),
        ("DELETE", "/api/notes", 405),
        ("OPTIONS", "/api/notes", 405),
        ("TRACE", "/", 405),
        ("get", "/", 405),
    ],
)
async def test_only_reading_and_notes_are_served(method: str, path: str, status: int) -> None:
    assert (await ask(HERE, path, method))[0] == status


@pytest.mark.anyio
async def test_a_token_is_asked_for_and_moves_from_the_address_to_a_cookie() -> None:
    door = Door.at("127.0.0.1", 7788, "s3cret")
    assert (await ask(door))[0] == 401
    assert (await ask(door, query="token=wrong"))[0] == 401
    assert (await ask(door, cookie="simkit-view-7788=wrong"))[0] == 401
    assert (await ask(door, cookie="simkit-view-7789=s3cret"))[0] == 401
    assert (await ask(door, authorization="Bearer s3cret"))[0] == 200
    assert (await ask(door, authorization="Basic s3cret"))[0] == 401
    status, headers, body = await ask(door, "/runs/a%2Fb", query="q=x%26y&token=s3cret")
    assert (status, headers["location"], body) == (303, "/runs/a%2Fb?q=x%26y", b"")
    assert headers["set-cookie"] == "simkit-view-7788=s3cret; Path=/; HttpOnly; SameSite=Strict"
    assert (await ask(door, cookie="other=1; simkit-view-7788=s3cret"))[0] == 200
    assert (await ask(door, "//evil.example", query="token=s3cret"))[1]["location"] == "/evil.example"


@pytest.mark.anyio
async def test_other_machines_come_by_address_or_by_the_name_of_this_machine() -> None:
    door = Door("0.0.0.0", 7788, "s3cret", frozenset({"0.0.0.0", "workhorse"}))
    for host in ("10.0.0.1:7788", "[fe80::1]:7788", "workhorse:7788", "localhost:7788"):
        assert (await ask(door, host=host, authorization="Bearer s3cret"))[0] == 200
        assert (await ask(door, host=host))[0] == 401
    assert (await ask(door, host="evil.example:7788", authorization="Bearer s3cret"))[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "LocalHost"])
def test_loopback_addresses_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_other_addresses_are_no_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_token_does_not_show() -> None:
    assert "s3cret" not in repr(Door.at("127.0.0.1", 7788, "s3cret"))
