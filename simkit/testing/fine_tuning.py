"""A fake of the OpenAI fine-tuning API on the loopback: files, jobs, events and checkpoints, as documented.

    with FineTuningServer() as server:
        ...  # base_url=server.base_url, api_key=server.key

A job advances by one step at each poll: its files are validated, it waits, it trains and reports a loss per step, and
it succeeds with a new model. Nothing is trained, and nothing leaves the machine.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Literal, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit

Status: TypeAlias = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
Json: TypeAlias = dict[str, Any]

FEWEST_EXAMPLES = 10
OVER = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeJob:
    """A fine-tuning job: its request, its status, and its events so far."""

    id: str
    request: Mapping[str, Any]
    status: Status = "validating_files"
    step: int = 0
    error: Mapping[str, Any] | None = None
    events: tuple[Json, ...] = ()

    def with_event(self, message: str, data: Json | None = None, level: str = "info") -> FakeJob:
        """The job with one more event."""
        event: Json = {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{self.id}-{len(self.events)}",
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": "message" if data is None else "metrics",
            "data": data or {},
        }
        return replace(self, events=(*self.events, event))

    @property
    def model(self) -> str:
        """Name of the fine-tuned model."""
        suffix = self.request.get("suffix") or ""
        return f"ft:{self.request['model']}:fake:{suffix}:{self.id[-6:]}"

    def to_json(self, tokens: int) -> Json:
        """The job as the API returns it; `tokens` is the usage of a finished job."""
        done = self.status == "succeeded"
        return {
            "object": "fine_tuning.job",
            "id": self.id,
            "created_at": 1,
            "finished_at": 2 if self.status in OVER else None,
            "model": self.request["model"],
            "fine_tuned_model": self.model if done else None,
            "organization_id": "org-fake",
            "result_files": [],
            "status": self.status,
            "seed": self.request.get("seed") or 0,
            "hyperparameters": {},
            "method": self.request.get("method"),
            "metadata": self.request.get("metadata"),
            "training_file": self.request["training_file"],
            "validation_file": self.request.get("validation_file"),
            "trained_tokens": tokens if done else None,
            "error": self.error,
        }


@dataclass
class ServerState:
    """State of the fake server. `faults`: status codes to answer, one per request, before the request is handled."""

    key: str
    steps: int
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    jobs: dict[str, FakeJob] = field(default_factory=dict[str, FakeJob])
    faults: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    lost: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class FineTuningServer:
    """The fake server, which runs in its own thread during the `with` block.

    Args:
        steps: training steps of a job; each poll of a running job is one.
        key: the key that requests must bring.

    Attributes:
        files: contents of the uploaded files, by id.
        jobs: the jobs, by id, in the order of creation.
        base_url: the base URL for clients.
    """

    def __init__(self, *, steps: int = 3, key: str = "sk-fake-key") -> None:
        self._shared = ServerState(key, steps)
        handler = type("Handler", (_Handler,), {"shared": self._shared})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> FineTuningServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def key(self) -> str:
        """The key that requests must bring."""
        return self._shared.key

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def files(self) -> Mapping[str, bytes]:
        """Contents of the uploaded files, by id."""
        return self._shared.files

    @property
    def jobs(self) -> Mapping[str, FakeJob]:
        """The jobs, by id."""
        return self._shared.jobs

    def fail(self, route: str, *codes: int) -> None:
        """Answer the next requests to a route (`POST /fine_tuning/jobs`) with these status codes.

        The code 0 handles the request and then drops the connection, so the client gets no answer.
        """
        self._shared.faults.setdefault(route, []).extend(codes)


class _Handler(BaseHTTPRequestHandler):
    shared: ClassVar[ServerState]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve("GET", b"")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve("POST", self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _serve(self, method: str, body: bytes) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/v1")
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        with self.shared.lock:
            waiting = self.shared.faults.get(f"{method} {path}", [])
            fault = waiting.pop(0) if waiting else None
            if fault:
                return self._answer(fault, _error(f"fake fault {fault}", "fake"))
            code, answer = self._routed(method, path, query, body)
        if fault == 0:
            self.close_connection = True
            self.connection.close()
            return None
        return self._answer(code, answer)

    def _answer(self, code: int, answer: Json) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _routed(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, Json]:
        if self.headers.get("Authorization") != f"Bearer {self.shared.key}":
            return 401, _error("Incorrect API key provided", "invalid_api_key")
        parts = path.strip("/").split("/")
        match (method, parts):
            case ("POST", ["files"]):
                return self._upload(body)
            case ("POST", ["fine_tuning", "jobs"]):
                return self._create(json.loads(body))
            case ("GET", ["fine_tuning", "jobs"]):
                return 200, self._listed(query)
            case (_, ["fine_tuning", "jobs", name, *rest]) if name in self.shared.jobs:
                return self._of_job(method, self.shared.jobs[name], rest, query)
            case _:
                return 404, _error(f"there is nothing at {path}", "not_found")

    def _upload(self, body: bytes) -> tuple[int, Json]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        fields = {str(part.get_param("name", header="content-disposition")): part for part in form.iter_parts()}
        if "file" not in fields or str(fields["purpose"].get_content()).strip() != "fine-tune":
            return 400, _error("a file with the purpose fine-tune is needed", "invalid_request")
        name = f"file-{len(self.shared.files) + 1}"
        content = cast("bytes", fields["file"].get_payload(decode=True))
        self.shared.files[name] = content
        uploaded = {"object": "file", "id": name, "bytes": len(content), "created_at": 1, "purpose": "fine-tune"}
        return 200, {**uploaded, "filename": fields["file"].get_filename(), "status": "processed"}

    def _create(self, request: Json) -> tuple[int, Json]:
        for name in ("training_file", "validation_file"):
            if request.get(name) is not None and request[name] not in self.shared.files:
                return 400, _error(f"{name} {request[name]} does not exist", "invalid_request")
        if len(request.get("suffix") or "") > 64:
            return 400, _error("suffix is longer than 64 characters", "invalid_request")
        job = FakeJob(id=f"ftjob-{len(self.shared.jobs) + 1:06d}", request=request).with_event(
            "Created fine-tuning job"
        )
        self.shared.jobs[job.id] = job
        return 200, job.to_json(0)

    def _listed(self, query: Mapping[str, str]) -> Json:
        wanted = {
            found[1]: value for name, value in query.items() if (found := re.fullmatch(r"metadata\[(.+)\]", name))
        }
        jobs = [
            job
            for job in reversed(self.shared.jobs.values())
            if wanted.items() <= (job.request.get("metadata") or {}).items()
        ]
        return _page([job.to_json(0) for job in jobs], query)

    def _of_job(self, method: str, job: FakeJob, rest: list[str], query: Mapping[str, str]) -> tuple[int, Json]:
        tokens = 3 * sum(map(len, self.shared.files.values()))
        match (method, rest):
            case ("GET", []):
                job = self.shared.jobs[job.id] = self._stepped(job)
                return 200, job.to_json(tokens)
            case ("GET", ["events"]):
                return 200, _page(list(reversed(job.events)), query)
            case ("GET", ["checkpoints"]):
                return 200, _page([_checkpoint(job, job.step)] if job.status == "succeeded" else [], query)
            case ("POST", ["cancel"]):
                job = self.shared.jobs[job.id] = replace(job, status="cancelled").with_event("The job was cancelled")
                return 200, job.to_json(tokens)
            case _:
                return 404, _error("no such route", "not_found")

    def _stepped(self, job: FakeJob) -> FakeJob:
        match job.status:
            case "validating_files":
                problem = _problem(self.shared.files[str(job.request["training_file"])], job.request)
                if problem is not None:
                    error = {"code": "invalid_training_file", "message": problem, "param": "training_file"}
                    return replace(job, status="failed", error=error).with_event(problem, level="error")
                return replace(job, status="queued").with_event("Files validated, moving job to queued state")
            case "queued":
                return replace(job, status="running").with_event("Fine-tuning job started")
            case "running" if job.step < self.shared.steps:
                step = job.step + 1
                loss = {"step": step, "total_steps": self.shared.steps, "train_loss": 1 / step}
                message = f"Step {step}/{self.shared.steps}: training loss={1 / step:.2f}"
                return replace(job, step=step).with_event(message, loss)
            case "running":
                return replace(job, status="succeeded").with_event("The job has successfully completed")
            case "succeeded" | "failed" | "cancelled":
                return job


def _checkpoint(job: FakeJob, step: int) -> Json:
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": f"ftckpt-{job.id}-{step}",
        "created_at": 1,
        "fine_tuned_model_checkpoint": f"{job.model}:ckpt-step-{step}",
        "fine_tuning_job_id": job.id,
        "metrics": {"step": step, "train_loss": 1 / max(1, step)},
        "step_number": step,
    }


def _page(items: list[Json], query: Mapping[str, str]) -> Json:
    after, limit = query.get("after"), int(query.get("limit", 20))
    start = 1 + next((index for index, item in enumerate(items) if item["id"] == after), -1)
    page = items[start : start + limit]
    return {"object": "list", "data": page, "has_more": start + limit < len(items)}


def _error(message: str, code: str) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _problem(content: bytes, request: Mapping[str, Any]) -> str | None:
    """The first violation of the documented format, or None."""
    rows = [json.loads(line) for line in content.splitlines()]
    if len(rows) < FEWEST_EXAMPLES:
        return f"Training file has {len(rows)} example(s), but must have at least {FEWEST_EXAMPLES} examples"
    method = cast("Json", request.get("method") or {}).get("type", "supervised")
    for number, row in enumerate(rows, 1):
        if problem := _row_problem(row, method):
            return f"Invalid file format. Line {number}: {problem}"
    return None


def _row_problem(row: Json, method: str) -> str | None:
    if method == "dpo":
        if row.keys() != {"input", "preferred_output", "non_preferred_output"}:
            return "expected input, preferred_output and non_preferred_output"
        outputs = (row["preferred_output"], row["non_preferred_output"])
        if any([message["role"] for message in output] != ["assistant"] for output in outputs):
            return "an output must be one assistant message"
        return None
    if not row.keys() <= {"messages", "tools", "parallel_tool_calls"} or not row.get("messages"):
        return "expected messages (and tools, parallel_tool_calls)"
    return None if row["messages"][-1]["role"] == "assistant" else "the last message must be from the assistant"
