"""What the report of a run offers next: nothing that would come out empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simkit.cli.report import Report, print_report
from simkit.run.accounting import UnitCounts
from simkit.run.summary import summarise


def offered(capsys: pytest.CaptureFixture[str], recipe: str, status: str, planned: int = 0, **more: Any) -> str:
    summary = summarise([], UnitCounts(planned=planned))
    report = Report(
        run_id="r1", name="", recipe=recipe, status=status, store=Path("s"), seconds=1.0, summary=summary, **more
    )
    print_report(report, as_json=False, quiet=False)
    return capsys.readouterr().out.split("Next:")[1]


@pytest.mark.parametrize("recipe", ["train_sft", "train_kto", "train_grpo", "josh", "preserve"])
def test_a_stopped_run_without_results_offers_to_resume_and_no_empty_query(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = offered(capsys, recipe, "interrupted", 4 if recipe == "josh" else 0)
    assert "resume r1" in text
    assert not any(words in text for words in ("episode_scores", "metrics", "item_scores", "export"))


def test_a_finished_training_offers_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert "from metrics where run_id = 'r1'" in offered(capsys, "train_sft", "done")


def test_a_fault_offers_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert "doctor r1" in offered(capsys, "rollout", "failed", 4, fault="agent `x`: KeyError: 'stars'")
