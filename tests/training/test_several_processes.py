"""Trainings in two processes on a CPU (gloo), as a launcher starts them. `scripts/test --train` runs them."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from simkit.errors import UsageError
from simkit.store import Store
from simkit.training.config_files import load_config
from simkit.training.guard import Guard
from simkit.training.jobs import RECORDS, TrainingJob, TrainingMetrics, TrainingResult
from simkit.training.launch import launched, train_in_process
from support.training_runs import trained_by

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = pytest.mark.skipif(
    not os.environ.get("SIMKIT_TEST_RANKS"), reason="starts processes for minutes: scripts/test --train"
)

TORCHRUN = f"{sys.executable} -m torch.distributed.run --nproc_per_node 2"
STEPS: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}


def job(bench: Bench, out: Path, method: Any = "sft", **more: Any) -> TrainingJob:
    launcher, ranks = launched(TORCHRUN)
    settings = {**load_config("tiny-cpu", method), **STEPS, **more.pop("settings", {})}
    what: dict[str, Any] = (
        {"practice": bench.place} if method == "grpo" else {"examples": replace(bench.known, examples=four(bench))}
    )
    guard = Guard(place=bench.place, every=1, valid_floor=0.0, success_floor=0.0)
    values: dict[str, Any] = {"config": settings, "out": out, "guard": guard, "launcher": launcher, "ranks": ranks}
    return TrainingJob(method=method, model=str(bench.model), **{**values, **what, **more})


def four(bench: Bench) -> Any:
    """Four examples of different length, so that each has a loss of its own."""
    (known,) = bench.known.demonstrations
    ends = [place + 1 for place, message in enumerate(known.messages) if message.role == "assistant"]
    return tuple(replace(known, messages=known.messages[:end]) for end in ends[-4:])


def trained(store: Path, asked: TrainingJob) -> tuple[TrainingResult, list[TrainingMetrics]]:
    heard: list[TrainingMetrics] = []
    return anyio.run(trained_by, train_in_process, store, asked, heard.append), heard


@pytest.fixture(autouse=True)
def on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def test_two_processes_see_each_example_once_under_one_guard_with_one_record(bench: Bench, tmp_path: Path) -> None:
    settings = {"max_steps": -1, "num_train_epochs": 1}
    both, heard = trained(tmp_path / "store", job(bench, tmp_path / "both", settings=settings))
    alone = job(
        bench, tmp_path / "alone", settings={**settings, "per_device_train_batch_size": 4}, launcher=(), ranks=1
    )
    one, _ = trained(tmp_path / "store", alone)
    assert both.steps == one.steps == 1
    assert both.loss_start == pytest.approx(one.loss_start, rel=0.2)
    assert [(each.stage, each.step) for each in heard] == [("guard", 0), ("train", 1), ("guard", 1)]
    assert both.guard[0] == one.guard[0]
    looks = Store(tmp_path / "store").query("select count(*) from runs where recipe = 'guard'").rows
    assert looks == [(4,)]
    assert (tmp_path / "both" / RECORDS / "trained.json").exists()


def test_groups_of_grpo_stay_whole_in_each_process(bench: Bench, tmp_path: Path) -> None:
    asked = job(bench, tmp_path / "out", "grpo", settings={"num_generations": 2})
    found, heard = trained(tmp_path / "store", asked)
    assert (found.steps, found.examples) == (2, 8)
    assert [each.step for each in heard if each.stage == "train"] == [1, 2]
    rows = Store(tmp_path / "store").query(
        "select step, count(distinct episode_id), count(*) from training_conversations where role = 'practice' "
        "group by step order by step"
    )
    assert rows.rows == [(0, 2, 4), (1, 2, 4)]


def test_another_number_of_processes_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked to run in 8 processes, and takes part in a group of 2"):
        trained(tmp_path / "store", job(bench, tmp_path / "out", ranks=8))
