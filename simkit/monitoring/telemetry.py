"""OpenTelemetry: a run as spans and metrics, with the names of the GenAI semantic conventions. Extra: `otel`.

Spans are made from recorded events: `simkit.run`, below it an `invoke_workflow` for each episode, below that a
`chat MODEL` for each attempt of a model call and an `execute_tool NAME` for each tool call. Message content is omitted
unless enabled, because traces may be sent to places where transcripts are not allowed.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

import orjson

from simkit.core.events import BranchAdded, Episode, EpisodeStarted, Event, ModelCall, RunFinished, RunStarted
from simkit.core.records import CallRecord
from simkit.core.safe_text import visible_line
from simkit.core.text_table import cut
from simkit.errors import UsageError
from simkit.plugins.extras import install_command

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""Environment variable of the conventions that enables message content."""

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4**power for power in range(14))
"""Histogram bucket bounds of the conventions."""

_DEFAULT_URLS = {
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
}
"""URL of each provider of models behind an endpoint, if none is configured."""

REQUEST = ("temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty", "seed")
"""Request settings that the conventions define."""


class Telemetry:
    """A tap that sends one run to OpenTelemetry.

    Args:
        tracers, meters: providers; None for the process's own (`opentelemetry.trace.set_tracer_provider`).
        content: True to send model answers and tool arguments.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        *,
        tracers: TracerProvider | None = None,
        meters: MeterProvider | None = None,
        content: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise _missing() from error
        self._trace = trace
        self._tracer = trace.get_tracer("simkit", tracer_provider=tracers)
        meter = metrics.get_meter("simkit", meter_provider=meters)
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Seconds of a model call.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a model call.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._content = content
        self._served: Mapping[str, Mapping[str, Any]] = {}
        self._run: Span | None = None
        self._episodes: dict[str, Span] = {}

    @classmethod
    def from_environment(cls) -> Telemetry:
        """Telemetry over OTLP to the endpoint in the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, ..._HEADERS).

        Pending data is sent when the process ends.

        Raises:
            UsageError: OpenTelemetry, or its OTLP exporter, is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise _missing() from error
        report_problems_once()
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "simkit")})
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
        content = os.environ.get(CONTENT, "").lower() in ("1", "true")
        return cls(tracers=tracers, meters=meters, content=content)

    def __call__(self, event: Event) -> None:
        """Send an event of the run."""
        match event:
            case RunStarted():
                attributes = {
                    "simkit.run.id": event.run_id,
                    "simkit.recipe": event.recipe,
                    "simkit.seed": str(event.seed),
                }
                self._served = {role: _served(event.config, role) for role in ("agent", "user")}
                self._run = self._tracer.start_span("simkit.run", start_time=_ns(event.at), attributes=attributes)
            case EpisodeStarted():
                self._begin(event)
            case ModelCall():
                self._called(event)
            case BranchAdded():
                for row in event.tool_calls:
                    self._used(event, row)
            case Episode():
                self._end(event)
            case RunFinished():
                self._finish(event)
            case _:
                return

    def _begin(self, event: EpisodeStarted) -> None:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": event.supervisor,
            "gen_ai.conversation.id": event.episode_id,
            "simkit.task.id": event.task_id,
            "simkit.trial": event.trial,
        }
        name = f"invoke_workflow {event.supervisor}"
        self._episodes[event.episode_id] = self._start(name, self._run, event.at, attributes)

    def _called(self, event: ModelCall) -> None:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            **self._provided(event),
            "gen_ai.request.model": event.model,
            **_asked(event.request),
            "gen_ai.conversation.id": event.episode_id,
            "gen_ai.usage.input_tokens": event.prompt_tokens,
            "gen_ai.usage.output_tokens": event.completion_tokens,
            "gen_ai.agent.name": event.role,
            "simkit.branch.id": event.branch_id,
            "simkit.attempt": event.attempt,
            "simkit.cost_usd": event.cost,
        }
        if event.response is not None:
            attributes["gen_ai.response.model"] = str(event.response["model"])
            attributes["gen_ai.usage.cache_read.input_tokens"] = int(event.response["usage"]["cached_tokens"])
            attributes["gen_ai.response.finish_reasons"] = (str(event.response["finish"]),)
            if self._content:
                attributes["gen_ai.output.messages"] = orjson.dumps([event.response["message"]]).decode()
        if event.error is not None:
            attributes["error.type"] = event.error.partition(":")[0]
        span = self._start(
            f"chat {event.model}", self._episodes.get(event.episode_id), event.at, attributes, client=True
        )
        self._close(span, event.at + event.seconds, event.error)
        self._measure(event, attributes)

    def _provided(self, event: ModelCall) -> Mapping[str, Any]:
        """Provider and server of a call; scripted models have none."""
        if event.model.startswith("scripted"):
            return {"gen_ai.provider.name": "simkit"}
        return self._served.get(event.role) or _served({}, event.role)

    def _measure(self, event: ModelCall, attributes: Mapping[str, Any]) -> None:
        names = ("operation.name", "provider.name", "request.model", "response.model")
        names = (*(f"gen_ai.{name}" for name in names), "server.address", "server.port", "error.type")
        kept = {name: attributes[name] for name in names if name in attributes}
        self._seconds.record(event.seconds, kept)
        if event.response is not None:
            self._tokens.record(event.prompt_tokens, {**kept, "gen_ai.token.type": "input"})
            self._tokens.record(event.completion_tokens, {**kept, "gen_ai.token.type": "output"})

    def _used(self, event: BranchAdded, row: CallRecord) -> None:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": row.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": row.call_id,
            "simkit.branch.id": event.branch_id,
        }
        if self._content:
            attributes["gen_ai.tool.call.arguments"] = row.arguments
        parent = self._episodes.get(event.episode_id)
        span = self._start(f"execute_tool {row.name}", parent, event.at - row.seconds, attributes)
        self._close(span, event.at, "the tool answered with an error" if row.error else None)

    def _end(self, event: Episode) -> None:
        span = self._episodes.pop(event.episode_id, None)
        if span is not None:
            span.set_attribute("simkit.outcome", event.outcome)
            if event.reward is not None:
                span.set_attribute("simkit.reward", event.reward)
            self._close(span, event.at, event.error)

    def _finish(self, event: RunFinished) -> None:
        for span in self._episodes.values():
            self._close(span, event.at, "the run ended before it")
        self._episodes.clear()
        if self._run is not None:
            self._run.set_attribute("simkit.status", event.status)
            self._close(self._run, event.at, event.error)

    def _start(
        self, name: str, parent: Span | None, at: float, attributes: Mapping[str, Any], *, client: bool = False
    ) -> Span:
        kind = self._trace.SpanKind.CLIENT if client else self._trace.SpanKind.INTERNAL
        context = None if parent is None else self._trace.set_span_in_context(parent)
        return self._tracer.start_span(name, context, kind, attributes, start_time=_ns(at))

    def _close(self, span: Span, at: float, error: str | None) -> None:
        if error is not None:
            span.set_status(self._trace.StatusCode.ERROR, error if self._content else error.partition(":")[0])
        span.end(end_time=_ns(at))


def _served(config: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    """The provider and server of a role's model, by the run's configuration and the environment."""
    spec = config.get("user_model") if role == "user" else None
    provider = str(spec or config.get("model") or "openai/").partition("/")[0]
    if provider not in _DEFAULT_URLS:
        return {"gen_ai.provider.name": "simkit"}
    url = config.get("user_base_url") if role == "user" else None
    default, provider = _DEFAULT_URLS[provider], provider.partition("-")[0]
    url = url or config.get("base_url") or os.environ.get(f"{provider.upper()}_BASE_URL") or default
    try:
        parts = urlsplit(str(url))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # the model reports this error
        return {"gen_ai.provider.name": provider}
    host = parts.hostname or ""
    name = "azure.ai.openai" if host.endswith(".azure.com") else provider
    return {"gen_ai.provider.name": name, "server.address": host, "server.port": port}


def _asked(request: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a recorded request, stored in full or as digests."""
    if request is None:
        return {}
    settings = request["digest"]["settings"] if "digest" in request else request
    attributes = {f"gen_ai.request.{name}": settings[name] for name in REQUEST if settings.get(name) is not None}
    if settings.get("stop"):
        attributes["gen_ai.request.stop_sequences"] = tuple(settings["stop"])
    return attributes


def _missing() -> UsageError:
    return UsageError(f"OpenTelemetry is not installed; {install_command('otel')}, or leave --otel out")


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


class _UnsentReport(logging.StreamHandler[TextIO]):
    """Prints one line for all messages of the exporter, which repeats itself with every batch."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._reported = False

    def emit(self, record: logging.LogRecord) -> None:
        """Report the first problem."""
        if self._reported or record.levelno < logging.ERROR:
            return
        self._reported = True
        message = " ".join(visible_line(record.getMessage()).split())
        record.msg, record.args, record.exc_info = _UNSENT.format(cut(message, 300)), (), None
        super().emit(record)


_UNSENT = (
    "note: telemetry was not sent ({}). The run is not affected; start a collector at OTEL_EXPORTER_OTLP_ENDPOINT "
    "(default http://localhost:4318), or leave --otel out"
)


def report_problems_once() -> None:
    """Report problems of the exporter in one line, unless the program handles its log itself."""
    log = logging.getLogger("opentelemetry")
    if not log.handlers and not logging.getLogger().handlers:
        log.addHandler(_UnsentReport())
        log.propagate = False
