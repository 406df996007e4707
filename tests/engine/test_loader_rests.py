"""The loader of a run leaves the cores to workers, until many lines wait for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit.core.events import RunStarted
from simkit.run import background
from simkit.run.background import BackgroundTasks
from simkit.run.engine import RunProgress
from simkit.store import Store


class Nothing:
    """A recorder that is not asked."""

    def record(self, event: object) -> None:
        raise AssertionError(event)

    async def commit(self) -> None:
        raise AssertionError


def test_the_loader_rests_while_workers_play_and_few_lines_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "WAITING_BYTES", 100)
    progress, journal = RunProgress(), tmp_path / "journals" / "r" / "main.jsonl"
    tasks = BackgroundTasks(RunStarted("r", "r", "josh", 1, {}, "0", 1.0), Store(tmp_path), progress, Nothing())
    rests = tasks._leaves_cores_to_workers  # pyright: ignore[reportPrivateUsage]  (seen from outside only in CPU time)
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"x" * 60)
    assert not rests()  # no workers: 60 bytes are loaded
    progress.workers = 2
    journal.write_bytes(b"x" * 159)
    assert rests()
    journal.write_bytes(b"x" * 160)
    assert not rests()  # 100 bytes waited
    assert rests()
    progress.workers = 0
    assert not rests()
