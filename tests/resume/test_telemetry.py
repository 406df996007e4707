from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simkit.limits import Limits
from simkit.models.choices import ModelChoices
from simkit.run import Run
from simkit.supervisors.rollout import Rollout
from simkit.telemetry import Telemetry

pytestmark = pytest.mark.anyio

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"
SECRET = "nobody may see this 9"


async def traced(store: Path, *, content: bool) -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    tap = Telemetry(tracers=tracers, meters=MeterProvider([reader]), content=content)
    async with Run(store=store, models=ModelChoices(model=f"scripted/{'|'.join([SECRET] * 9)}"), taps=[tap]) as run:
        world = run.world("builtin")
        await run.play(Rollout(Limits(turns=3)), run.cast(world, agent=AGENT), run.tasks(world, "test", 2))
    return spans, reader


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
    assert any(span.name.startswith("execute_tool ") for span in found)
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


async def test_what_was_said_is_told_only_when_asked_for(tmp_path: Path) -> None:
    for content in (False, True):
        spans, _ = await traced(tmp_path / str(content), content=content)
        told = [
            str(span.attributes and span.attributes.get("gen_ai.output.messages"))
            for span in spans.get_finished_spans()
        ]
        assert any(SECRET in text for text in told) is content
