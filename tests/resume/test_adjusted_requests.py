"""What a run learns about an endpoint is recorded, shown, and applied when the run is resumed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app

USAGE = {"prompt_tokens": 4000, "completion_tokens": 5}


class Picky(ThreadingHTTPServer):
    """An endpoint that knows no seeds and no `max_tokens`; counts the requests that it refuses and answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.refused: list[str] = []
        self.answered: list[dict[str, object]] = []
        self.headers: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast("Picky", self.server)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.headers.append(self.headers["x-api-key"])
        odd = [name for name in ("max_tokens", "seed") if name in body]
        if odd:
            server.refused.append(odd[0])
            status, reply = 400, {"error": {"message": f"Unsupported parameter: '{odd[0]}'", "param": odd[0]}}
        else:
            server.answered.append(body)
            choice = {"message": {"role": "assistant", "content": "Which day?"}, "finish_reason": "stop"}
            status, reply = 200, {"choices": [choice], "usage": USAGE}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def picky() -> Iterator[Picky]:
    with Picky() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def simkit(store: Path, *args: str) -> Result:
    return CliRunner(env={"OPENAI_API_KEY": "k", "COLUMNS": "200"}).invoke(app, [*args, "--store", str(store)])


def test_what_was_learned_is_shown_and_applied_on_resume(picky: Picky, tmp_path: Path) -> None:
    model = ("--model", "openai/m", "--base-url", picky.url, "--header", "x-api-key=s3cretvalue")
    budget = ("--max-tokens", "20", "--max-tokens-total", "15000", "--max-turns", "3")
    first = simkit(tmp_path, "run", "rollout", "--tasks", "2", "--concurrency", "1", *model, *budget)
    assert first.exit_code == 1
    assert "m: `max_tokens` is sent as `max_completion_tokens`; m: `seed` is not sent" in " ".join(first.stdout.split())
    assert picky.refused == ["max_tokens", "seed"]
    assert all(body["max_completion_tokens"] == 20 for body in picky.answered)

    without = simkit(tmp_path, "resume", "last", "--max-tokens-total", "100000")
    assert without.exit_code == 2
    assert "the run's header x-api-key had a secret in it" in without.stderr
    again = simkit(tmp_path, "resume", "last", "--max-tokens-total", "100000", "--header", "x-api-key=s3cretvalue")
    assert again.exit_code == 0, again.output
    assert picky.refused == ["max_tokens", "seed"]
    assert set(picky.headers) == {"s3cretvalue"}

    rows = simkit(tmp_path, "sql", "select setting, sent_as, model from endpoint_adjustments order by setting")
    assert "max_completion_tokens" in rows.stdout
    doctor = simkit(tmp_path, "doctor", "last")
    assert "`m`: `seed` is not sent, because" in doctor.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert not any(b"s3cretvalue" in path.read_bytes() for path in files)
