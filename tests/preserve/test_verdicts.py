"""Verdicts are read from what a judge wrote, and never made up."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from simkit.preservation.judge import (
    Choice,
    JudgedPair,
    Preference,
    Side,
    agreement,
    cohens_kappa,
    read_grade,
    read_preference,
)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Good.\n\nSCORE: 7", 7),
        ("**Score:** 7/10", 7),
        ("Final grade = 9.5 out of 10.", 9.5),
        ("- **SCORE: 10**", 10),
        ("Rating: [[3]]", 3),
        ("The answer deserves [[6]] of ten points, no more.", 6),
        ("First I thought\nSCORE: 3\nbut then:\nSCORE: 8", 8),
        ("SCORE: 8\n\nI hope this helps.", 8),
    ],
)
def test_a_grade_is_found(text: str, score: float) -> None:
    assert read_grade(text).score == score
    assert read_grade(text).text == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "wrote nothing"),
        ("A fine answer, eight points.", "no verdict"),
        ("SCORE: <number>", "no verdict"),
        ("SCORE: high", "no verdict"),
        ("I would say 8.", "no verdict"),
        ("SCORE: 8\nSCORE: 3\nHm, hard.", "several verdicts: 8, 3"),
        ("SCORE: 0", "is not between 1 and 10"),
        ("SCORE: 11", "is not between 1 and 10"),
        ("SCORE: -3", "is not between 1 and 10"),
        ("SCORE: 7-9", "no verdict"),
        ("SCORE: 7,5", "no verdict"),
    ],
)
def test_a_grade_that_is_not_there_is_not_made_up(text: str, problem: str) -> None:
    grade = read_grade(text)
    assert grade.score is None
    assert problem in grade.problem


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("A is wrong about the year.\nVERDICT: B", "second"),
        ("VERDICT: A", "first"),
        ("verdict: **tie**", "tie"),
        ("**Winner:** Assistant B.", "second"),
        ("[[A]]", "first"),
        ("My final verdict is: [[C]]", "tie"),
    ],
)
def test_a_preference_is_found(text: str, choice: Choice) -> None:
    assert read_preference(text).choice == choice


@pytest.mark.parametrize(
    "text", ["A is better.", "VERDICT: A, or VERDICT: B", "[[A]] or [[B]]", "VERDICT: C", "both", "[[D]]"]
)
def test_a_preference_that_is_not_there_is_not_made_up(text: str) -> None:
    assert read_preference(text).choice is None
    assert read_preference(text).problem


def pair(ours_first: Choice | None, theirs_first: Choice | None) -> JudgedPair:
    return JudgedPair(Preference(ours_first), Preference(theirs_first))


@pytest.mark.parametrize(
    ("ours_first", "theirs_first", "winner", "value"),
    [
        ("first", "second", "ours", 1.0),
        ("second", "first", "theirs", 0.0),
        ("first", "first", "tie", 0.5),
        ("tie", "tie", "tie", 0.5),
        ("first", "tie", "tie", 0.5),
        (None, "first", None, None),
    ],
)
def test_only_a_preference_that_holds_in_both_orders_wins(
    ours_first: Choice | None, theirs_first: Choice | None, winner: Side | None, value: float | None
) -> None:
    assert pair(ours_first, theirs_first).winner == winner
    assert pair(ours_first, theirs_first).value == value


def test_a_judge_that_prefers_places_is_found_out() -> None:
    found = agreement(
        [
            [one]
            for one in [pair("first", "first")] * 8 + [pair("first", "second"), pair("tie", "tie"), pair(None, "first")]
        ]
    )
    assert (found.pairs, found.missing) == (10, 1)
    assert found.same is not None
    assert found.same.value == 0.2
    assert found.ties == pytest.approx(0.1)
    assert found.first == pytest.approx(17 / 18)
    assert found.kappa == pytest.approx(1 / 9)  # observed 0.2, expected (9 * 1 + 0 * 8 + 1 * 1) / 100


def test_kappa_is_cohens() -> None:
    """Known answer: 50 applications, 20 twice yes, 15 twice no, 5 and 10 split: kappa 0.4."""
    ratings = [("y", "y")] * 20 + [("n", "n")] * 15 + [("y", "n")] * 5 + [("n", "y")] * 10
    assert cohens_kappa(ratings) == pytest.approx(0.4)
    assert cohens_kappa([("y", "y")] * 5) is None
    assert cohens_kappa([]) is None
    assert cohens_kappa([("y", "n"), ("n", "y")]) == -1


def test_agreement_has_an_interval_inside_the_exact_one_of_scipy() -> None:
    stats: Any = importlib.import_module("scipy.stats")  # has no types
    expected = stats.binomtest(9, 10).proportion_ci(method="exact")
    found = agreement([[one] for one in [pair("first", "second")] * 9 + [pair("first", "first")]])
    assert found.same is not None
    assert expected.low < found.same.low < 0.9 < found.same.high < expected.high  # Blaker's lies inside Clopper's
    assert (found.same.low, found.same.high) == pytest.approx((0.5555, 0.9949), abs=1e-3)


def test_pairs_of_one_question_are_no_independent_facts_about_the_judge() -> None:
    same, other = pair("first", "second"), pair("first", "first")
    apart = agreement([[same]] * 18 + [[other]] * 2)
    together = agreement([[same] * 6] * 3 + [[other] * 2])
    assert apart.same is not None
    assert together.same is not None
    assert apart.same.value == together.same.value == 0.9
    assert together.same.low < apart.same.low - 0.2
