"""Servers that repeat what they were sent, as proxies and debugging endpoints do: the key stays in the request."""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from simkit.errors import ModelFault, RunStopped
from simkit.models.config import ModelConfig
from simkit.models.providers.openai import Endpoint
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply
from support.forked_commands import ProcessOptions, run_forked, start_forked

KEY = "sk-proj-9876543210zyxwvu"
HALF = KEY[:12]
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Hm."}}], "usage": {"prompt_tokens": 1}}


@dataclass(slots=True)
class Echo:
    """What the server answers, and how often it was asked; `answers` is how many questions it answers properly,
    `status` what it says to the others in turn."""

    status: tuple[int, ...] = (400,)
    body: str = '{{"error": {{"message": "I was sent {sent}"}}}}'
    answers: int = 0
    asked: int = 0
    first: threading.Event = field(default_factory=threading.Event)
    patience: threading.Event = field(default_factory=threading.Event)


class EchoServer(ThreadingHTTPServer):
    """Repeats headers."""

    def __init__(self, echo: Echo) -> None:
        self.echo = echo
        self.daemon_threads = True
        super().__init__(("127.0.0.1", 0), EchoHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a killed client is meant to be gone."""


class EchoHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: EchoServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        echo = self.server.echo
        self.rfile.read(int(self.headers["content-length"]))
        echo.asked += 1
        if echo.asked <= echo.answers:
            return self.answer(200, json.dumps(ANSWER))
        echo.first.set()
        echo.patience.wait(30)
        status = echo.status[(echo.asked - echo.answers - 1) % len(echo.status)]
        return self.answer(status, echo.body.format(sent=self.headers["authorization"]))

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status, f"sent {self.headers['authorization']}")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-echo", str(self.headers["authorization"]))
        self.send_header("location", f"/{self.headers['authorization']}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the output belongs to the test."""


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer(Echo()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.echo.patience.set()
        server.shutdown()
        thread.join()


def place_of(folder: Path) -> ProcessOptions:
    """A folder whose `.env` holds the key, with its store."""
    (folder / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    return ProcessOptions(folder, {**os.environ, "SIMKIT_DEBUG": "1", "SIMKIT_STORE": str(folder / "store")})


def simkit(folder: Path, *arguments: str) -> list[str]:
    """A command in a folder whose `.env` holds the key; returns what it printed."""
    done = run_forked(arguments, place_of(folder))
    return [done.out, done.err]


def play(server: EchoServer, tasks: int = 2) -> list[str]:
    """A run that asks it."""
    place = f"http://127.0.0.1:{server.server_port}/v1"
    return [
        *f"run rollout --tasks {tasks} --concurrency 1 --model openai/m --max-retries 0 --json --base-url".split(),
        place,
    ]


def left(folder: Path) -> str:
    """Every byte of every file that a run left; `.env` was there before."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".env"]
    assert any(path.suffix == ".jsonl" for path in files)
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


BODIES = {
    "json": '{{"error": {{"message": "I was sent {sent}"}}}}',
    "headers": '{{"headers": {{"Authorization": "{sent}"}}}}',
    "text": "sent {sent}",
    "cut": " " * 1980 + "sent {sent}",
    "cut early": "." * 175 + " {sent}",
}


@pytest.mark.parametrize("status", [200, 307, 400, 401, 402, 404, 429, 500, 503])
@pytest.mark.parametrize("body", BODIES)
def test_an_error_says_what_the_server_said_but_for_the_key(status: int, body: str) -> None:
    sent = f"Bearer {KEY}"
    reply = HttpReply(status, {"location": sent}, BODIES[body].format(sent=sent).encode())
    with pytest.raises((ModelFault, RunStopped)) as caught:
        read_reply(reply, ReplyContext("http://there", "m", KEY))
    assert HALF not in "".join(traceback.format_exception(caught.value))


def test_other_credentials_are_kept_to_the_request_too() -> None:
    endpoint = Endpoint(base_url="http://there/v1", headers={"X-Auth": f"Basic {KEY}", "X-Team": "blue"})
    assert KEY not in repr(endpoint) + repr(ModelConfig(headers=endpoint.headers))
    reading = ReplyContext("http://there", "m", endpoint.secret, endpoint.more_secrets)
    assert reading.clean(f"team blue sent Basic {KEY}, {KEY}") == "team blue sent [key], [key]"
    assert KEY not in repr(reading)


def test_a_run_of_echoed_errors_leaves_no_key(echo: EchoServer, tmp_path: Path) -> None:
    echo.echo.status = (400, 429, 500, 200)
    echo.echo.patience.set()
    printed = simkit(tmp_path, *play(echo, tasks=4), "--log", "log.jsonl")
    assert echo.echo.asked == 4, printed
    assert "[key]" in printed[1] + left(tmp_path)
    for command in (["doctor", "last"], ["show", "last"], ["ls"], ["sql", "from runs", "--format", "json"]):
        printed += simkit(tmp_path, *command)
    assert HALF not in "\n".join(printed) + left(tmp_path)


def test_a_run_that_an_echoed_refusal_stops_leaves_no_key(echo: EchoServer, tmp_path: Path) -> None:
    echo.echo.status = (401,)
    echo.echo.patience.set()
    printed = simkit(tmp_path, *play(echo))
    assert "Traceback" in printed[1]
    assert "I was sent Bearer [key]" in printed[1]
    assert HALF not in "\n".join(printed) + left(tmp_path)


def test_a_killed_run_leaves_no_key(echo: EchoServer, tmp_path: Path) -> None:
    echo.echo.answers = 5
    with (tmp_path / "printed.txt").open("wb") as file, open(os.devnull, "rb") as nothing:
        process = start_forked(play(echo), (nothing.fileno(), file.fileno(), file.fileno()), place_of(tmp_path))
    assert echo.echo.first.wait(60)
    process.kill()
    process.join()
    printed = [(tmp_path / "printed.txt").read_text()]
    assert '"e":"ModelCall"' in left(tmp_path)
    printed += simkit(tmp_path, "doctor", "last")
    assert HALF not in "\n".join(printed) + left(tmp_path)
