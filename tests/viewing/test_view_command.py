"""`simkit view`: it says where it serves, asks for a token beyond this machine, and ends quietly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from typer.testing import CliRunner

from simkit.cli import view as command
from simkit.cli.app import app
from simkit.errors import UsageError
from simkit.viewing.server import FIRST_PORT, listen
from support.signals import heeding_signals


@contextmanager
def viewing(store: Path, *flags: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """The viewer in a process of its own, with its address."""
    arguments = [sys.executable, "-m", "simkit", "view", "--store", str(store), "--json", "--no-browser", "--port", "0"]
    pipe = subprocess.PIPE
    with heeding_signals():
        started = subprocess.Popen([*arguments, *flags], stdout=pipe, stderr=pipe, text=True)
    with started as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.kill()


def get(url: str, **headers: str) -> Any:
    request = Request(url, headers=headers)
    with build_opener(ProxyHandler({})).open(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_it_serves_a_store_until_it_is_interrupted_with_a_page_listening(played: Path) -> None:
    with viewing(played, "before", "test-00000/1") as (url, process):
        base, _, page = url.partition("/runs/")
        assert page.endswith("/test-00000/1")
        assert get(f"{base}/api/version")["store"] == str(played.resolve())
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as listening:
            listening.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            heard = b""
            while b"data: " not in heard:
                heard += listening.recv(4096)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (0, "stopped\n")


def test_a_token_is_made_for_other_machines(played: Path) -> None:
    with viewing(played, "--host", "0.0.0.0") as (url, _):
        base, _, token = url.partition("/?token=")
        assert base.startswith("http://127.0.0.1:")
        assert len(token) > 30
        with pytest.raises(HTTPError, match="401"):
            get(f"{base}/api/version")
        assert get(f"{base}/api/version", Authorization=f"Bearer {token}")["simkit"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("nothing",), "there is no run 'nothing'"),
        (("before", "nothing"), "has no episode 'nothing'"),
        (("--port", "70000"), "65535"),
        (("--host", "203.0.113.1"), "cannot listen on 203.0.113.1"),
    ],
)
def test_what_cannot_be_viewed_is_told_before_anything_is_served(
    played: Path, flags: tuple[str, ...], reason: str
) -> None:
    done = CliRunner().invoke(app, ["view", "--no-browser", "--store", str(played), *flags])
    assert done.exit_code == 2
    assert reason in done.output


def test_the_first_free_port_is_taken_and_a_named_one_must_be_free() -> None:
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = [place.getsockname()[1] for place in (first, second)]
        assert FIRST_PORT <= ports[0] < ports[1]
        with pytest.raises(UsageError, match="choose another address"):
            listen("127.0.0.1", ports[0])


def test_a_browser_is_opened_only_where_it_has_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.webbrowser, "get", lambda: object())
    monkeypatch.setattr(command.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not command.has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert command.has_browser()

    def none() -> object:
        raise command.webbrowser.Error

    monkeypatch.setattr(command.webbrowser, "get", none)
    assert not command.has_browser()


def test_notes_are_by_the_user_and_off_in_a_read_only_store(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simkit.store import Store

    monkeypatch.setattr(command.getpass, "getuser", lambda: "ann")
    found = command.annotations_of(Store(played), command.ViewFlags())
    assert (found.enabled, found.author) == (True, "ann")
    assert command.annotations_of(Store(played), command.ViewFlags(author="bob")).author == "bob"

    def unwritable(path: Path, mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", unwritable)
    found = command.annotations_of(Store(played), command.ViewFlags())
    assert (found.enabled, found.reason) == (False, "the store is read-only")
