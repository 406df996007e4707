"""The sentences of a comparison, word for word: they are what people quote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simkit.comparison.claims import claims, format_interval, format_p, format_p_values, format_size, format_value
from simkit.comparison.measures import Noise
from simkit.comparison.results import Difference
from simkit.statistics.levels import RunLevel
from simkit.statistics.scores import Estimate

FOUND = Difference(
    kind="overall",
    name="success",
    label="success rate",
    unit="points",
    reference="before",
    arm="after",
    tasks=40,
    pairs=40,
    left_out=0,
    before=0.5,
    after=0.7,
    estimate=Estimate(0.2, 0.05, 0.35),
    p=0.01,
    corrected=0.02,
    family=2,
    effect=0.4,
    effect_name="h",
    detectable=0.15,
    by_run=(),
    noise=None,
    guarded=False,
    outcomes=None,
    alpha=0.05,
)
OPEN = replace(FOUND, estimate=Estimate(0.1, -0.05, 0.25), p=0.2, corrected=0.4)
NOISE = Noise(
    name="success",
    label="success rate",
    unit="points",
    source="repeated trials",
    repeats=3,
    tasks=40,
    typical=0.02,
    furthest=0.04,
    within=0.1,
    between=0.0,
)
UNKNOWN = (
    "The noise between identical runs was not measured: play with --trials 2 or more, or repeat a run with another "
    "--seed and pass the repeats with --noise."
)
NO_CLAIM = "No difference in the success rate between `after` and `before` may be claimed: "


def said(found: Difference) -> str:
    """What is said of one difference."""
    return claims([found], [NOISE], 0.95)[0]


def test_a_claim_says_what_is_higher_by_how_much_and_how_likely_chance_is() -> None:
    assert said(FOUND) == (
        "It may be claimed: the success rate of `after` is higher than that of `before`: +20.0 points, 95% interval "
        "+5.0 to +35.0 points (p = 0.01, 0.02 corrected for 2 comparisons, 40 tasks)."
    )
    less = replace(FOUND, estimate=Estimate(-0.2, -0.35, -0.05))
    assert "is lower than that of `before`: -20.0 points, 95% interval -35.0 to -5.0 points" in said(less)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, "40 tasks"),
        ({"pairs": 80}, "40 tasks, 80 pairs"),
        ({"kind": "suite"}, "40 items"),
        ({"kind": "suite", "less_is_better": True}, "40 items, lower is better"),
        ({"by_run": (0.3, -0.1, 0.2)}, "40 tasks, by run -10.0 to +30.0 points"),
        ({"pairs": 120, "by_run": (0.1, 0.2)}, "40 tasks, 120 pairs, by run +10.0 to +20.0 points"),
    ],
)
def test_a_claim_says_what_it_rests_on(change: dict[str, Any], what: str) -> None:
    for found in (FOUND, OPEN):
        assert f" comparisons, {what})." in said(replace(found, **change))


def test_what_is_no_claim_says_what_would_have_been_found() -> None:
    assert said(OPEN) == (
        NO_CLAIM + "+10.0 points, 95% interval -5.0 to +25.0 points (p = 0.20, 0.40 corrected for 2 comparisons, "
        "40 tasks). A difference of 15.0 points would have been detected with 80% power."
    )
    assert said(replace(OPEN, detectable=None)).endswith("40 tasks).")


WIDE = Estimate(0.1, -0.01, 0.25)
WITHIN = " It is significant, but no larger than the noise of repeated runs (30.0 points)."
FAMILY = " It is significant on its own, but not after correction for 2 comparisons."
POWER = " A difference of 15.0 points would have been detected with 80% power."


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (replace(FOUND, noise=0.3, guarded=True), WITHIN),
        (replace(OPEN, noise=0.3, guarded=True), POWER),
        (replace(OPEN, p=0.04, corrected=0.08, noise=0.3, guarded=True), FAMILY),
        (replace(FOUND, p=0.05, corrected=0.1), FAMILY),
        (replace(FOUND, p=0.051, corrected=0.102), POWER),
        (replace(FOUND, p=0.025, corrected=0.05, estimate=WIDE), POWER),
    ],
)
def test_why_nothing_may_be_claimed_is_said(found: Difference, reason: str) -> None:
    assert not found.claimed
    assert said(found).partition("40 tasks).")[2] == reason


KEPT = replace(FOUND, margin=0.1, estimate=Estimate(0.01, -0.05, 0.07), p=0.01, corrected=0.02)
GROWN = replace(KEPT, less_is_better=True, estimate=Estimate(-0.01, -0.07, 0.05))
"""Of perplexities, where more is a loss."""


@pytest.mark.parametrize(
    ("found", "begins", "ends"),
    [
        (KEPT, "It may be claimed", "less than 10.0 points lower than that of `before`"),
        (GROWN, "It may be claimed", "less than 10.0 points higher than that of `before`"),
        (replace(KEPT, corrected=0.2), "It may not", "within 10.0 points, but not after correction for 2 comparisons."),
        (replace(GROWN, corrected=0.2), "It may not", "but not after correction for 2 comparisons."),
        (
            replace(KEPT, estimate=Estimate(0.0, -0.125, 0.125)),
            "It may not",
            "A loss of 12.5 points is within the interval; the margin is 10.0 points.",
        ),
        (
            replace(KEPT, margin=0.125, estimate=Estimate(-0.0625, -0.125, 0.0)),
            "It may not",
            "A loss of 12.5 points is within the interval; the margin is 12.5 points.",
        ),
        (
            replace(GROWN, estimate=Estimate(0.2, 0.0, 0.4)),
            "It may not",
            "A loss of 40.0 points is within the interval; the margin is 10.0 points.",
        ),
        (
            replace(GROWN, estimate=Estimate(0.2, 0.125, 0.4)),
            "It may not",
            "the margin is 10.0 points. It is higher: the whole interval is a loss.",
        ),
        (
            replace(KEPT, estimate=Estimate(-0.2, -0.4, -0.125)),
            "It may not",
            "the margin is 10.0 points. It is lower: the whole interval is a loss.",
        ),
    ],
)
def test_what_is_said_of_a_loss(found: Difference, begins: str, ends: str) -> None:
    sentence = said(found)
    assert sentence.startswith(begins)
    assert sentence.endswith(ends) or (begins == "It may be claimed" and ends in sentence)


def test_levels_are_told_only_where_there_are_both() -> None:
    ends = Estimate(0.2, 0.1, 0.3)
    level = RunLevel((3,), ends, ends, 0.01, 0.05, 4.0)
    assert "3 runs as a sample: over tasks alone " in said(replace(FOUND, runs=level, over_tasks=ends))
    for part in (replace(FOUND, runs=level), replace(FOUND, over_tasks=ends)):
        assert "as a sample" not in said(part)


def test_what_cannot_be_compared_stands_side_by_side_without_signs() -> None:
    assert said(replace(FOUND, incomparable="the worlds differ")) == (
        "Nothing may be claimed about the success rate: it is 70.0 points for `after` and 50.0 points for `before`, "
        "but these are different measures: the worlds differ."
    )


def test_noise_that_was_not_measured_is_said_to_be_unknown_where_something_is_compared() -> None:
    suite, apart = replace(FOUND, kind="suite"), replace(FOUND, incomparable="the worlds differ")
    assert claims([FOUND], [], 0.95)[1:] == (UNKNOWN,)
    assert claims([suite, apart, FOUND], [], 0.95)[3:] == (UNKNOWN,)
    assert claims([suite, apart], [], 0.95)[2:] == ()
    assert claims([], [], 0.95) == ()


REPEATS = (
    "Repeats of the same configuration differ in the success rate by 2.0 points on average and 4.0 points at most "
    "(3 repeated trials, 40 tasks)"
)


def test_noise_is_given_with_the_widest_floor_of_its_measure() -> None:
    others = [replace(FOUND, name="reward", noise=0.9), FOUND]
    floors = [replace(FOUND, noise=0.05), replace(FOUND, noise=0.12)]
    assert claims(others, [NOISE], 0.95)[2:] == (f"{REPEATS}.",)
    within = "; 95% of independent repeats of this size differ by at most 12.0 points"
    assert claims([*others, *floors], [NOISE], 0.95)[4:] == (f"{REPEATS}{within}.",)
    shared = "; runs that share their seeds, as these do, differ less"
    assert claims([*others, *floors], [NOISE], 0.95, paired_seeds=True)[4:] == (f"{REPEATS}{within}{shared}.",)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0, "< 0.0001"),
        (0.000099, "< 0.0001"),
        (0.0001, "= 0.0001"),
        (0.0234, "= 0.023"),
        (0.0999, "= 0.1"),
        (0.1, "= 0.10"),
        (0.5, "= 0.50"),
        (1.0, "= 1.00"),
    ],
)
def test_p_values_have_two_digits(p: float, words: str) -> None:
    assert format_p(p) == words
    assert format_p_values(replace(FOUND, p=p, family=1)) == f"p {words}"


def test_a_corrected_p_value_names_the_number_of_comparisons() -> None:
    assert format_p_values(replace(FOUND, p=0.00001, corrected=0.00003, family=3)) == (
        "p < 0.0001, < 0.0001 corrected for 3 comparisons"
    )


def test_numbers_are_shown_in_their_unit() -> None:
    assert (format_value(0.0213, "points"), format_value(-0.0213, "points", sign=False)) == (
        "+2.1 points",
        "-2.1 points",
    )
    assert (format_value(0.3124, ""), format_value(0.3124, "", sign=False), format_value(-12.3456, "")) == (
        "+0.312",
        "0.312",
        "-12.3",
    )
    assert (format_size(-0.05, "points"), format_size(-1.5, "")) == ("5.0 points", "1.5")
    assert format_interval(Estimate(0.0, -0.1, 0.2), "points") == "-10.0 to +20.0 points"
    assert format_interval(Estimate(0.0, -1.0, 2.5), "") == "-1 to +2.5"
