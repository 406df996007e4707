"""Preservation is non-inferiority: not that no loss was seen, but that none beyond a margin is likely."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from comparing import ItemRow, RecordedRuns

from simkit.comparison import Comparison, ComparisonPlan
from simkit.comparison.preserved import loss_p
from simkit.errors import UsageError
from simkit.statistics.intervals import difference_limits


def answers(rate: float, count: int, seed: int, metric: str = "acc") -> list[ItemRow]:
    rng = Random(seed)
    return [ItemRow("quiz", f"q{number}", metric, float(rng.random() < rate)) for number in range(count)]


def preserved(recorded: RecordedRuns, before: list[ItemRow], after: list[ItemRow], **choices: Any) -> Comparison:
    recorded.run("before", {}, items=before, supervisor="preserve")
    recorded.run("after", {}, items=after, supervisor="preserve", **choices)
    return recorded.compare("before", "after")


def test_few_questions_do_not_show_that_nothing_was_lost(recorded: RecordedRuns) -> None:
    found = preserved(recorded, answers(0.7, 30, 1), answers(0.7, 30, 1))
    (suite,) = found.differences
    assert (suite.before, suite.margin) == (suite.after, 0.02)
    assert not suite.claimed
    assert found.claims[0].startswith("It may not be claimed that the quiz/acc of `after` is preserved")
    assert "is within the interval; the margin is 2.0 points" in found.claims[0]


def test_many_do(recorded: RecordedRuns) -> None:
    found = preserved(recorded, answers(0.7, 400, 1), answers(0.7, 400, 1))
    assert found.differences[0].claimed
    assert "is preserved, that is, less than 2.0 points lower than that of `before`" in found.claims[0]
    assert "preserved within 2.0" in found.to_markdown()


def test_a_loss_is_called_one(recorded: RecordedRuns) -> None:
    found = preserved(recorded, answers(0.9, 400, 1), answers(0.6, 400, 2))
    assert not found.differences[0].claimed
    assert found.differences[0].p == 1.0
    assert found.claims[0].endswith("It is lower: the whole interval is a loss.")


def test_of_perplexities_a_gain_is_a_loss(recorded: RecordedRuns) -> None:
    def text(size: float) -> list[ItemRow]:
        return [ItemRow("text", f"d{n}", "bits_per_byte", size + n / 1e4, better="lower") for n in range(40)]

    worse = preserved(recorded, text(1.0), text(1.1))
    assert worse.differences[0].less_is_better
    assert not worse.differences[0].claimed
    recorded.run("slightly", {}, items=text(1.001), supervisor="preserve")
    found = recorded.compare("before", "slightly")
    assert found.differences[0].claimed
    assert found.differences[0].margin == pytest.approx(0.02, abs=1e-3)  # 2% of the reference


def test_the_margin_is_the_one_that_the_runs_state_or_the_plan(recorded: RecordedRuns) -> None:
    found = preserved(recorded, answers(0.7, 100, 1), answers(0.7, 100, 1), margin=10.0)
    assert found.differences[0].margin == pytest.approx(0.1)
    other = recorded.compare("before", "after", plan=ComparisonPlan(margin=1))
    assert other.differences[0].margin == pytest.approx(0.01)
    for margin in (0, -1, 100):
        with pytest.raises(UsageError, match="would not matter"):
            ComparisonPlan(margin=margin)


def test_suites_of_other_runs_are_tested_for_a_difference(recorded: RecordedRuns) -> None:
    for name, rate in (("one", 0.3), ("two", 0.8)):
        recorded.run(name, {}, items=answers(rate, 100, 1))
    (suite,) = recorded.compare("one", "two").differences
    assert suite.margin is None
    assert suite.claimed


def test_a_suite_has_one_primary_metric(recorded: RecordedRuns) -> None:
    both = [each for metric in ("acc", "acc_norm", "zeal") for each in answers(0.7, 60, 1, metric)]
    found = preserved(recorded, both, both)
    assert [each.name for each in found.differences] == ["quiz/acc"]
    assert [each.name for each in found.secondary] == ["quiz/acc_norm", "quiz/zeal"]
    assert found.differences[0].family == 1
    chosen = recorded.compare("before", "after", plan=ComparisonPlan(primary={"quiz": "zeal"}))
    assert [each.name for each in chosen.differences] == ["quiz/zeal"]
    assert all("zeal" in claim for claim in chosen.claims)
    with pytest.raises(UsageError, match="has no metric `f1`; it has acc, acc_norm, zeal"):
        recorded.compare("before", "after", plan=ComparisonPlan(primary={"quiz": "f1"}))


def test_p_is_where_the_interval_ends_at_the_margin() -> None:
    rng = Random(3)
    gains = [float(rng.choice((-1, 0, 0, 0, 0, 1))) for _ in range(80)]
    p = loss_p(gains, 0.2, full=1.0)
    assert difference_limits(gains, 1 - p).low == pytest.approx(-0.2, abs=1e-6)
    assert loss_p([-0.3] * 9 + [0.1], 0.2, full=1.0) == 1.0
    assert loss_p([0.0] * 5, 0.1, full=None) == 0.0
    assert loss_p([0.1, -0.1, 0.2, 0.0], 0.3, full=None) == pytest.approx(0.0123, abs=1e-4)  # Student's t, 3 degrees
