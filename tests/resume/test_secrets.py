"""The key is in nothing that a run leaves behind: journals, database, logs, output, tracebacks, spans."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.from_thread
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.core.ids import TurnKey
from simkit.core.messages import UserMessage
from simkit.models import CallKey, ChatRequest
from simkit.models.config import ModelConfig
from simkit.models.factory import open_model
from simkit.models.transport.url import shown_url, url_secrets
from simkit.testing.behaviour import Behaviour, Faults
from simkit.testing.server import LoadServer, serve

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"
KEY = "sk-Proj-0123456789ABCdefSecret"
MANY = ("--tasks", "3")
"""Calls enough that every kind of failure is met."""

CRASHING = """
from simkit.agents.scripted import ScriptedAgent

class Crashing(ScriptedAgent):
    def __init__(self, world, model):
        super().__init__(world)
        self.model = model

    async def act(self, request):
        raise RuntimeError(f"no idea what {self.model!r} {vars(self.model)!r} is")
"""


@pytest.fixture
def refusing() -> Iterator[LoadServer]:
    """A server that wants another key, and repeats the one it was sent in its refusal."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(key="another"))) as server,
    ):
        yield server


@pytest.fixture
def failing() -> Iterator[LoadServer]:
    """A server on which many things go wrong."""
    faults = Faults(failed=0.1, dropped=0.1, malformed=0.1, wrong_type=0.1, rate_limited=0.1)
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(faults=faults))) as server,
    ):
        yield server


def leavings(folder: Path) -> str:
    """Every byte of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in files)
    assert any(path.name == "simkit.duckdb" for path in files)
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


def run(store: Path, server: LoadServer, agent: str, *more: str) -> tuple[int, str]:
    """Play with the key in the environment; the exit code, and everything that was printed."""
    flags = ["--agent", agent, "--model", "openai/load", "--base-url", server.base_url, "--tasks", "1"]
    command = ["run", "josh", "--beam", "2", *flags, "--store", str(store), "--log", str(store / "log.jsonl"), *more]
    store.mkdir()
    environment = {"OPENAI_API_KEY": KEY, "SIMKIT_DEBUG": "1"}
    done = CliRunner().invoke(app, command, env=environment)
    return done.exit_code, done.output


def test_a_run_with_failures_leaves_the_key_nowhere(tmp_path: Path, failing: LoadServer) -> None:
    code, printed = run(tmp_path / "store", failing, AGENT, "--json", "--max-retries", "20", *MANY)
    assert code == 0, printed
    assert "model_attempt_failed" in (tmp_path / "store" / "log.jsonl").read_text()
    assert KEY.lower() not in (printed + leavings(tmp_path / "store")).lower()


def test_a_refused_key_is_not_repeated(tmp_path: Path, refusing: LoadServer) -> None:
    code, printed = run(tmp_path / "store", refusing, AGENT)
    assert code == 1
    assert "Traceback" in printed
    assert "Incorrect API key provided" in printed
    log = [json.loads(line) for line in (tmp_path / "store" / "log.jsonl").read_text().splitlines()]
    assert (log[-1]["event"], log[-1]["status"]) == ("run_finished", "stopped")
    assert KEY.lower() not in (printed + leavings(tmp_path / "store")).lower()


def test_a_crash_that_prints_its_model_does_not_print_the_key(tmp_path: Path, failing: LoadServer) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    code, printed = run(tmp_path / "store", failing, str(tmp_path / "crashing.py"))
    assert code == 1
    left = leavings(tmp_path / "store")
    assert "no idea what" in left
    assert KEY.lower() not in (printed + left).lower()


# --- a key in the URL -------------------------------------------------------------------------------------------------

PASSWORD = "Pa55word-of-the-gateway"


def secret_url(server: LoadServer) -> str:
    return f"{server.base_url.replace('://', f'://somebody:{PASSWORD}@')}?api-version=2026-01-01&api-key={KEY}"


def test_a_key_in_the_url_is_sent_and_left_nowhere(tmp_path: Path, failing: LoadServer) -> None:
    more = ("--json", "--max-retries", "20", *MANY, "--base-url", secret_url(failing))
    code, printed = run(tmp_path / "store", failing, AGENT, *more)
    assert code == 0, printed
    left = (printed + leavings(tmp_path / "store")).lower()
    assert KEY.lower() not in left
    assert PASSWORD.lower() not in left
    assert "***@127.0.0.1" in left
    assert "api-version=2026-01-01&api-key=***" in left


@pytest.mark.parametrize("where", ["flag", "SIMKIT_BASE_URL", "OPENAI_BASE_URL"])
def test_a_run_is_resumed_with_the_key_in_the_url_given_again(
    tmp_path: Path, failing: LoadServer, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, url = tmp_path / "store", secret_url(failing)
    stopped = ("--max-tokens-total", "100", "--max-retries", "20", "--base-url", url)
    assert run(store, failing, AGENT, *stopped)[0] == 1
    command = ["resume", "last", "--store", str(store), "--max-tokens-total", "1000000"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "had a secret in it, which is not stored; give it again, or set SIMKIT_BASE_URL" in refused.output
    if where == "flag":
        command += ["--base-url", url]
    else:
        monkeypatch.setenv(where, url)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    left = (refused.output + done.output + leavings(store)).lower()
    assert KEY.lower() not in left
    assert PASSWORD.lower() not in left


def test_a_run_with_a_key_in_its_url_is_replayed_without_it(tmp_path: Path, failing: LoadServer) -> None:
    code, printed = run(tmp_path / "store", failing, AGENT, "--max-retries", "20", "--base-url", secret_url(failing))
    assert code == 0, printed
    command = ["run", "josh", "--beam", "2", "--agent", AGENT, "--tasks", "1", "--replay", "last"]
    done = CliRunner().invoke(app, [*command, "--store", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output


def test_a_crash_that_prints_its_model_does_not_print_the_url_s_key(tmp_path: Path, failing: LoadServer) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING.replace("vars(self.model)", "deep(self.model)") + DEEP)
    code, printed = run(tmp_path / "store", failing, str(tmp_path / "crashing.py"), "--base-url", secret_url(failing))
    assert code == 1
    left = leavings(tmp_path / "store")
    assert "no idea what" in left
    assert KEY.lower() not in (printed + left).lower()
    assert PASSWORD.lower() not in (printed + left).lower()


DEEP = """

def deep(part, seen=()):
    inside = getattr(part, "__dict__", None)
    if inside is None or len(seen) > 6:
        return repr(part)
    return {name: deep(value, (*seen, part)) for name, value in inside.items() if name not in ("_pool", "_transport")}
"""


def test_what_is_hidden_of_a_url() -> None:
    assert shown_url("http://localhost:8000/v1") == "http://localhost:8000/v1"
    assert shown_url("https://me:word@x/v1@2?api-version=1&code=abcd&plain#top") == (
        "https://***@x/v1@2?api-version=1&code=***&***"
    )
    assert url_secrets("https://me:wo%40rd@x/v1?api-version=2026&code=abcd") == ("wo%40rd", "wo@rd", "abcd")


class Gateway(BaseHTTPRequestHandler):
    """Keeps what it is asked, and answers like a model."""

    seen: ClassVar[list[tuple[str, str | None]]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, self.headers["authorization"]))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Yes."}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.mark.anyio
async def test_a_url_s_user_name_and_password_are_sent_as_basic_authentication() -> None:
    seen: list[tuple[str, str | None]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Gateway,), {"seen": seen})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://somebody:pass%40word@127.0.0.1:{server.server_address[1]}/v1?api-key=there"
        options = ModelConfig(base_url=url, api_key=SecretStr(KEY))
        assert "pass" not in repr(options)
        async with open_model("openai/any", options) as model:
            request = ChatRequest(messages=(UserMessage.of("hi"),))
            await model.complete(request, CallKey(TurnKey(1, "t", 0, "", 1), "agent"))
        server.shutdown()
        thread.join()
    sent = f"Basic {b64encode(b'somebody:pass@word').decode()}"
    assert seen == [("/v1/chat/completions?api-key=there", sent)]
