"""A strict server of Anthropic's Messages API on the loopback. It refuses what the API refuses; a script answers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Set
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KNOWN = frozenset({
    *("model", "max_tokens", "messages", "system", "tools", "tool_choice", "stop_sequences", "temperature", "top_p"),
    *("thinking", "output_config", "metadata", "cache_control", "top_k", "stream", "service_tier"),
})  # fmt: skip
KEY = "sk-ant-test"

Answer = Callable[[Mapping[str, Any]], list[dict[str, Any]]]
"""The content blocks of the answer to a request."""


def thinking(text: str) -> dict[str, Any]:
    """A thinking block with its signature."""
    return {"type": "thinking", "thinking": text, "signature": signature(text)}


def signature(text: str) -> str:
    return blake2b(text.encode(), digest_size=12).hexdigest()


def refusal(headers: Mapping[str, str], body: Mapping[str, Any], known: Set[str] = KNOWN) -> str | None:
    """The reason why the API would refuse a request; None if it would not."""
    if headers.get("x-api-key") != KEY or not headers.get("anthropic-version"):
        return "invalid x-api-key"
    if unknown := set(body) - known:
        return f"{min(unknown)}: Extra inputs are not permitted"
    if "max_tokens" not in body:
        return "max_tokens: Field required"
    if "tool_choice" in body and "tools" not in body:
        return "tool_choice may only be specified while providing tools"
    roles = [message["role"] for message in body["messages"]]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        return f"messages: roles must alternate and start with the user's: {roles}"
    asked: list[str] = []
    for message in body["messages"]:
        blocks = message["content"]
        if wrong := next(filter(None, map(_wrong_block, blocks)), None):
            return wrong
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if message["role"] == "user" and sorted(results) != sorted(asked):
            return f"messages: tool_use ids {asked} need tool_result blocks in the next message, not {results}"
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            return "messages: tool_result blocks must come first"
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
    return None


def _wrong_block(block: Mapping[str, Any]) -> str | None:
    match block["type"]:
        case "text":
            return None if block["text"].strip() else "messages: text content blocks must be non-empty"
        case "thinking":
            return None if block == thinking(block["thinking"]) else "messages: thinking blocks cannot be modified"
        case "tool_use":
            fine = isinstance(block["input"], dict) and set(block) <= {"type", "id", "name", "input", "caller"}
            return None if fine else "messages: tool_use.input: Input should be a valid dictionary"
        case _:
            return None


class MessagesServer:
    """Requests that were accepted, in their order, and reasons of refusals."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.known: Set[str] = KNOWN
        self.accepted: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.victim: int | None = None
        self.kill_at: int | None = None
        self._lock = threading.Lock()
        self.base_url = ""

    def reply(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            if (why := refusal(headers, body, self.known)) is not None:
                self.refused.append(why)
                return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": why}}
            if len(self.accepted) == self.kill_at and self.victim is not None:
                self.kill_at = None
                os.kill(self.victim, signal.SIGKILL)
            self.accepted.append(dict(body))
        content = self.answer(body)
        uses_tools = any(block["type"] == "tool_use" for block in content)
        return 200, {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": "tool_use" if uses_tools else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5},
        }


@contextmanager
def serve_messages(answer: Answer) -> Generator[MessagesServer]:
    """The server, for as long as the block."""
    state = MessagesServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, reply = state.reply(dict(self.headers.items()), body)
            if self.path != "/v1/messages":
                status, reply = 404, {"type": "error", "error": {"type": "not_found_error", "message": self.path}}
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("request-id", "req_42")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.base_url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
