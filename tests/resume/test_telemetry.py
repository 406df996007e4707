from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import anyio.from_thread
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.monitoring.telemetry import Telemetry, report_problems_once
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"
SECRET = "nobody may see this 9"


async def traced(store: Path, *, content: bool) -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    tap = Telemetry(tracers=tracers, meters=MeterProvider([reader]), content=content)
    async with Run(store=store, models=ModelConfig(model=f"scripted/{'|'.join([SECRET] * 9)}"), taps=[tap]) as run:
        world = run.world("builtin")
        await run.play(Rollout(Limits(turns=3)), run.cast(world, agent=AGENT), run.tasks(world, "test", 2))
    return spans, reader


@pytest.mark.anyio
async def test_a_run_is_a_tree_of_spans_with_the_names_of_the_conventions(tmp_path: Path) -> None:
    spans, reader = await traced(tmp_path, content=False)
    found = spans.get_finished_spans()
    (run,) = (span for span in found if span.name == "simkit.run")
    episodes = [span for span in found if span.name == "invoke_workflow rollout"]
    calls = [span for span in found if span.name.startswith("chat ")]
    assert len(episodes) == 2
    assert len(calls) >= 2
    assert run.context is not None
    assert all(span.parent is not None and span.parent.span_id == run.context.span_id for span in episodes)
    above = {span.context.span_id for span in episodes if span.context is not None}
    assert all(span.parent is not None and span.parent.span_id in above for span in calls)
    attributes = calls[0].attributes or {}
    assert attributes["gen_ai.operation.name"] == "chat"
    assert str(attributes["gen_ai.request.model"]).startswith("scripted/")
    assert attributes["gen_ai.provider.name"] == "simkit"
    assert any(span.name.startswith("execute_tool ") for span in found)
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


@pytest.mark.anyio
async def test_what_was_said_is_told_only_when_asked_for(tmp_path: Path) -> None:
    for content in (False, True):
        spans, _ = await traced(tmp_path / str(content), content=content)
        told = [
            str(span.attributes and span.attributes.get("gen_ai.output.messages"))
            for span in spans.get_finished_spans()
        ]
        assert any(SECRET in text for text in told) is content


# --- over the wire ----------------------------------------------------------------------------------------------------


class Collector(BaseHTTPRequestHandler):
    """An OTLP/HTTP collector that keeps what it is sent."""

    received: ClassVar[list[tuple[str, bytes]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, gzip.decompress(body) if self.headers.get("content-encoding") else body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    handler = type("Handler", (Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()
        thread.join()


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes of a protobuf message by name."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


KEY = "sk-nobody-may-have-this-0815"


def test_a_run_of_the_command_line_reaches_a_collector(
    tmp_path: Path, collector: tuple[str, list[tuple[str, bytes]]]
) -> None:
    url, received = collector
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(reply=lambda _: f"{SECRET}?"))) as server,
    ):
        flags = [
            "--tasks",
            "2",
            "--max-turns",
            "2",
            "--model",
            "openai/load",
            "--temperature",
            "0.5",
            "--otel",
            "--quiet",
        ]
        where = ["--base-url", f"{server.base_url}?api-key={KEY}", "--store", str(tmp_path), "--max-tokens", "90"]
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OPENAI_API_KEY": KEY, "PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "simkit", "run", "rollout", *flags, *where]
        done = subprocess.run(
            command, env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
    assert {path for path, _ in received} == {"/v1/traces", "/v1/metrics"}
    spans = [
        span
        for path, body in received
        if path == "/v1/traces"
        for part in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]
    calls = [plain(span.attributes) for span in spans if span.name == "chat load"]
    assert len(calls) == 4
    assert calls[0]["gen_ai.provider.name"] == "openai"
    assert calls[0]["server.address"] == "127.0.0.1"
    assert calls[0]["server.port"] == server.port
    assert calls[0]["gen_ai.request.temperature"] == 0.5
    assert calls[0]["gen_ai.request.max_tokens"] == 90
    assert calls[0]["gen_ai.usage.output_tokens"] > 0
    roots = [span for span in spans if span.name == "simkit.run"]
    assert len(roots) == 1
    assert sum(span.parent_span_id == roots[0].span_id for span in spans) == 2
    points = {
        metric.name: [(plain(point.attributes), point.count) for point in metric.histogram.data_points]
        for path, body in received
        if path == "/v1/metrics"
        for part in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in part.scope_metrics
        for metric in scope.metrics
    }
    ((told, count),) = points["gen_ai.client.operation.duration"]
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"], count) == ("openai", "load", 4)
    kinds = {told["gen_ai.token.type"]: count for told, count in points["gen_ai.client.token.usage"]}
    assert kinds == {"input": 4, "output": 4}
    sent = b"".join(body for _, body in received)
    assert KEY.encode() not in sent
    assert SECRET.encode() not in sent


def test_without_a_collector_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("opentelemetry")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    report_problems_once()
    exporter = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    exporter.warning("Transient error, retrying in 1s.")
    for _ in range(3):
        exporter.error("Failed to export span batch: connection refused\n at 127.0.0.1", exc_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: telemetry was not sent (Failed to export span batch: connection refused")
    assert "--otel" in line
