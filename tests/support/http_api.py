"""An HTTP API of notes on the loopback: with sessions by header or cookie, and answers of every kind."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Notes", "version": "1"},
    "components": {
        "schemas": {
            "Note": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "parent": {"$ref": "#/components/schemas/Note"}},
                "required": ["text"],
            }
        }
    },
    "paths": {
        "/notes": {
            "get": {"operationId": "notes.list", "summary": "Lists notes."},
            "post": {
                "operationId": "write",
                "summary": "Writes a note.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}},
                },
            },
        },
        "/echo/{part}": {
            "parameters": [{"name": "part", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "echo",
                "parameters": [
                    {"name": "tag", "in": "query", "description": "Tags.", "schema": {"type": "array"}},
                    {"name": "x-mark", "in": "header", "schema": {"type": "string"}},
                ],
            },
        },
    },
}


class Api(ThreadingHTTPServer):
    """The server, with what it holds and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.notes: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def serve(self) -> None:
        api, parts = cast("Api", self.server), urlsplit(self.path)
        size = int(self.headers.get("content-length") or 0)
        given: Any = json.loads(self.rfile.read(size)) if size else {}
        if parts.path == "/late":
            threading.Event().wait(3)
            return
        with api.lock:
            key = f"{self.command} {parts.path}"
            api.asked[key] += 1
            self.route(api, key, parts.query, given)

    do_GET = do_POST = do_DELETE = serve  # noqa: N815 -- names of http.server

    def session(self, api: Api) -> str:
        cookie = self.headers.get("cookie", "").removeprefix("sid=")
        return self.headers.get("x-session") or cookie

    def route(self, api: Api, key: str, query: str, given: Any) -> None:
        method, path = key.split(" ", 1)
        names = path.strip("/").split("/")
        own = self.session(api)
        match [method, *names]:
            case ["POST", "sessions"]:
                api.notes[fresh := uuid4().hex] = []
                self.answer({"id": fresh}, 201, Set_Cookie=f"sid={fresh}")
            case ["POST", "sessions", old, "copy"]:
                api.notes[fresh := uuid4().hex] = [*api.notes[old]]
                self.answer({"id": fresh})
            case ["DELETE", "sessions", old]:
                self.answer(b"", 204 if api.notes.pop(old, None) is not None else 404)
            case ["POST", "notes"]:
                kept = api.notes.setdefault(own, [])
                kept.append(given["text"])
                self.answer({"written": given["text"], "in": own})
            case ["POST", "stamped"]:
                self.answer({"stamp": uuid4().hex})
            case ["POST", "chat"]:
                self.chat(api.notes.setdefault(given.get("session") or own, []), given)
            case ["GET", "notes"]:
                self.answer(api.notes.get(own, []))
            case ["GET", "echo", part]:
                asked = {"part": unquote(part), "query": parse_qs(query), "mark": self.headers.get("x-mark")}
                self.answer({**asked, "authorization": self.headers.get("authorization"), "cookie": own})
            case ["GET" | "POST", "busy"]:
                busy = api.asked[key] < 3
                self.answer({"busy": busy}, 503 if busy else 200, **({"Retry_After": "0"} if busy else {}))
            case [_, "broken"]:
                self.answer({"error": "\x1b[31mno"}, 500)
            case ["GET", "moved"]:
                self.answer(b"", 302, Location="http://elsewhere.example/")
            case ["GET", "text"]:
                self.answer(b"Plain words.", kind="text/plain")
            case ["GET", "picture"]:
                self.answer(b"\x89PNG...", kind="image/png")
            case ["GET", "packed"]:
                self.answer(gzip.compress(b'{"packed": true}'), Content_Encoding="gzip")
            case ["GET", "damaged"]:
                self.answer(gzip.compress(b'{"packed": true}')[:-9], Content_Encoding="gzip")
            case ["GET", "bomb"]:
                self.answer(gzip.compress(bytes(3_000_000)), Content_Encoding="gzip")
            case ["GET", "latin"]:
                self.answer("größer".encode("latin-1"), kind="text/plain; charset=ISO-8859-1")
            case ["GET", "long"]:
                self.answer(b'\xef\xbb\xbf{"id": 123456789012345678901234}')
            case ["GET", "empty"]:
                self.answer(b"", 204)
            case ["GET", "big"]:
                self.answer(b"x" * 3_000_000, kind="text/plain")
            case ["GET", "torn"]:
                self.answer(b'{"rooms": [1, ')
            case ["GET", "refused"]:
                self.answer({"detail": "no such room"}, 404)
            case ["GET", "forbidden"]:
                self.answer({"detail": "who are you?"}, 401)
            case _:
                self.answer({"detail": "no such path"}, 404)

    def chat(self, log: list[str], given: Any) -> None:
        """A bot that keeps its conversations: it counts what it heard, finds hotels, and hangs up."""
        said = given.get("message", "")
        results = given.get("results", [])
        log.append(said or str(results))
        match said.split():
            case [] if results:
                self.answer({"reply": f"I have found {results[0]['content']} for {results[0]['id']}."})
            case ["find", area]:
                self.answer({"calls": [{"id": "c1", "name": "notes_list", "arguments": {"area": area}}]})
            case ["bye"]:
                self.answer({"reply": "Goodbye.", "end": True})
            case ["nothing"]:
                self.answer({"answer": 42})
            case ["drawn"]:
                self.answer({"reply": uuid4().hex})
            case ["spend"]:
                spent = cast("Api", self.server).asked["POST /chat"]  # another number each time
                self.answer({"reply": "Spent.", "usage": {"prompt_tokens": 90, "completion_tokens": spent}})
            case ["begin"]:
                self.answer({"reply": f"{given.get('policy')} {[tool['function']['name'] for tool in given['tools']]}"})
            case _:
                self.answer({"reply": f"{len(log)} {self.headers.get('authorization')}"})


@contextmanager
def notes_api() -> Generator[Api]:
    """The API, served from threads of its own."""
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
            thread.join()
