"""How parameters are compared, leniently and literally."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.rule_based.matching import clean, compound, covers, first_row
from simkit.rule_based.normalise import NO_WISH


@pytest.mark.parametrize(
    ("value", "lenient", "literal"),
    [
        ("Rosa's", "rosas", "rosas"),
        ("  two   words ", "two words", "  two   words "),
        ("DONTCARE", None, "dontcare"),
        ("Do N't Care", None, "do nt care"),
        ("9:15", "09:15", "9:15"),
        (4, "4", 4),
        (4.0, "4", 4.0),
        (2.5, "2.5", 2.5),
        (True, "yes", True),
        (False, "no", False),
        (["a"], ("a",), ("a",)),
    ],
)
def test_a_value_is_read_in_two_ways(value: Any, lenient: Any, literal: Any) -> None:
    assert clean({"x": value}).get("x") == lenient
    assert clean({"x": value}, lenient=False)["x"] == literal


@pytest.mark.parametrize("word", sorted(NO_WISH))
@pytest.mark.parametrize("lenient", [True, False])
def test_words_for_no_constraint_are_dropped(word: str, lenient: bool) -> None:
    assert clean({"x": word}, lenient=lenient) == {}


def test_null_is_no_constraint_unless_read_literally() -> None:
    assert clean({"x": None}) == {}
    assert clean({"x": None}, lenient=False) == {"x": None}


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.text(max_size=6) | st.integers() | st.booleans(), max_size=5))
def test_lenient_cleaning_is_idempotent_and_covers_itself(parameters: dict[str, Any]) -> None:
    once = clean(parameters)
    assert clean(once) == once
    assert covers(once, once)
    assert covers(once, {})


@pytest.mark.parametrize(
    ("value", "row"),
    [([{"a": 1}, {"a": 2}], {"a": 1}), ([], None), ({"a": 1}, {"a": 1}), ({}, None), ("ERROR", None), (None, None)],
)
def test_the_first_row_of_an_answer(value: Any, row: Any) -> None:
    assert first_row(value) == row


def test_lists_and_objects_are_compound() -> None:
    values: list[object] = [[], {}, (), "a", 1, None]
    assert [compound(value) for value in values] == [True, True, True, False, False, False]
