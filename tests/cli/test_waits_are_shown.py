"""The progress of a run says what its model calls wait for."""

from __future__ import annotations

import time

import pytest

from simkit.cli.progress import describe
from simkit.models.middleware.metrics import CallMetrics, Health, Wait
from simkit.run.engine import RunProgress

REASON = "http://there cannot be reached: Connection refused"


def shown(*waits: Wait | None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    metrics = CallMetrics(endpoints=[Health(wait=wait) for wait in waits])
    return describe(RunProgress(planned=3, metrics=metrics))


def test_a_wait_is_shown_with_its_reason_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(Wait(REASON, since=935.0, until=1008.0), monkeypatch=monkeypatch)
    assert f"waiting for 1:05, next attempt in 8 s: {REASON}" in line


def test_each_endpoint_that_is_waited_for_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(Wait("a: slow down", 990.0, 1001.0), None, Wait("b: loading", 900.0, 1001.0), monkeypatch=monkeypatch)
    assert line.count("next attempt in") == 2
    assert "a: slow down" in line
    assert "b: loading" in line


def test_short_pauses_and_endpoints_that_answer_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "waiting" not in shown(None, Wait(REASON, since=999.9, until=1000.4), monkeypatch=monkeypatch)


def test_a_long_reason_is_cut_and_shows_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(Wait("x\x1b[2J" + "y" * 5000, since=900.0, until=1001.0), monkeypatch=monkeypatch)
    assert "\x1b" not in line
    assert len(line) < 600
