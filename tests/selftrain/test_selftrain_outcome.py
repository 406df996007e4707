from __future__ import annotations

from pathlib import Path
from statistics import stdev
from typing import Any

import orjson
import pytest

from simkit.comparison.results import Difference
from simkit.recipes.selftrain.outcome import (
    NUMBERS,
    PICTURE,
    REPORT,
    ExperimentOutcome,
    StatedDifference,
    over_seeds,
)
from simkit.recipes.selftrain.plan import ExperimentPlan
from simkit.statistics.scores import Estimate


def stated(at: str, value: float, reach: float, seeds: tuple[float, ...], **names: str) -> StatedDifference:
    shown: dict[str, Any] = {"arm": "JOSH", "reference": "rejection sampling", **names}
    found = Difference(
        kind="overall",
        name="success",
        label="success rate",
        unit="points",
        tasks=10,
        pairs=10,
        left_out=0,
        before=0.5,
        after=0.5 + value,
        estimate=Estimate(value, value - reach, value + reach),
        p=0.01,
        corrected=0.02,
        family=2,
        effect=None,
        effect_name="h",
        detectable=None,
        by_run=seeds,
        noise=None,
        guarded=False,
        outcomes=None,
        alpha=0.05,
        **shown,
    )
    return StatedDifference(at, found, over_seeds(seeds))


def test_the_interval_over_seeds_is_students() -> None:
    values = (0.31, 0.35, 0.42)
    found = over_seeds(values)
    assert found is not None
    reach = 4.302652729911275 * stdev(values) / 3**0.5  # scipy.stats.t.ppf(0.975, 2)
    assert (found.low, found.high) == pytest.approx((0.36 - reach, 0.36 + reach))
    assert over_seeds((0.3,)) is None


@pytest.mark.parametrize(
    ("value", "reach", "seeds", "sign"),
    [
        (0.3, 0.1, (0.29, 0.30, 0.31), 1),
        (-0.3, 0.1, (-0.29, -0.30, -0.31), -1),
        (0.3, 0.1, (0.0, 0.3, 0.6), 0),
        (0.3, 0.4, (0.29, 0.30, 0.31), 0),
        (0.3, 0.1, (), 1),
    ],
)
def test_a_difference_has_a_sign_only_if_goals_and_seeds_agree(
    value: float, reach: float, seeds: tuple[float, ...], sign: int
) -> None:
    assert stated("t1", value, reach, seeds).sign == sign


def outcome() -> ExperimentOutcome:
    values = {"before": 0.2, "rejection sampling": 0.5, "JOSH": 0.8}
    arms = {arm: Estimate(value, value - 0.1, value + 0.1) for arm, value in values.items()}
    return ExperimentOutcome(
        plan=ExperimentPlan(seeds=2),
        goals=10,
        arms={"t1": arms, "t0": arms},
        rates={at: {arm: (each.value, each.value) for arm, each in arms.items()} for at in ("t1", "t0")},
        stated=(stated("t1", 0.3, 0.1, (0.29, 0.31)), stated("t0", -0.01, 0.1, (0.02, -0.04))),
        stages=((0, "round1/harvest-josh", None, None, 123456),),
    )


def test_the_verdict_says_plainly_which_harvest_was_better_for_as_many_tokens() -> None:
    assert outcome().verdict() == (
        "At T = 1 and equal tokens, JOSH's trees beat rejection sampling: 0.800 for JOSH, 0.500 for rejection sampling."
        " At T = 0 and equal tokens, neither is shown to be better: 0.490 for JOSH, 0.500 for rejection sampling."
    )


def test_the_result_is_written_as_tables_numbers_and_a_picture(tmp_path: Path) -> None:
    outcome().write(tmp_path, ("- Command: none",))
    report = (tmp_path / REPORT).read_text()
    assert report.startswith("- Command: none\n\n| success | T = 1 | T = 0 |\n")
    assert "| JOSH - rejection sampling | +30.0 points, +20.0 to +40.0 points; over seeds " in report
    assert "| 0 | round1/harvest-josh |  |  | 123,456 |" in report
    assert "| JOSH | 0.800, 0.800 | 0.800, 0.800 |" in report
    assert (tmp_path / PICTURE).stat().st_size > 5000
    numbers = orjson.loads((tmp_path / NUMBERS).read_bytes())
    assert numbers["stated"][0]["found"]["corrected"] == 0.02
    assert outcome().to_summary()["JOSH, T = 1"] == Estimate(0.8, 0.8 - 0.1, 0.8 + 0.1).to_json()
