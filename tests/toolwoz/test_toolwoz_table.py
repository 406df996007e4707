"""Bitmaps say what a scan of the rows says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from simkit.rule_based.bitset_table import BitsetTable, Row

WORDS = st.sampled_from(["ash", "Elm's", "oak", ""])
TIMES = st.sampled_from(["05:00", "09:15", "09:16", "24:10"])
ROWS: st.SearchStrategy[list[dict[str, str]]] = st.lists(
    st.fixed_dictionaries({"name": WORDS, "leaveAt": TIMES, "arriveBy": TIMES}, optional={"area": WORDS}), max_size=12
)
NO_DEADLINE = limits(deadline=None)


def chosen(table: BitsetTable, rows: int) -> list[Row]:
    return [row for place, row in enumerate(table.rows) if rows >> place & 1]


@NO_DEADLINE
@given(ROWS, WORDS, TIMES, TIMES)
def test_literal_filters_compare_letter_by_letter(
    rows: list[dict[str, Any]], name: str, since: str, until: str
) -> None:
    table = BitsetTable(rows)
    found = chosen(table, table.literal({"name": name, "leaveAt": since, "arriveBy": until}))
    assert found == [
        row for row in table.rows if row["name"] == name and row["leaveAt"] > since and row["arriveBy"] < until
    ]


@NO_DEADLINE
@given(ROWS, st.sampled_from(["ash", "elms", "oak"]), TIMES, TIMES)
def test_lenient_filters_fold_and_include_the_time(
    rows: list[dict[str, Any]], name: str, since: str, until: str
) -> None:
    table = BitsetTable(rows)
    found = chosen(table, table.lenient({"name": name, "leaveAt": since, "arriveBy": until}))
    assert found == [
        row
        for row in table.rows
        if row["name"].lower().replace("'", "") == name and row["leaveAt"] >= since and row["arriveBy"] <= until
    ]


@NO_DEADLINE
@given(ROWS, TIMES)
def test_holding_compares_times_as_values(rows: list[dict[str, Any]], time: str) -> None:
    table = BitsetTable(rows)
    assert chosen(table, table.holding({"leaveAt": time})) == [row for row in table.rows if row["leaveAt"] == time]


@NO_DEADLINE
@given(ROWS.filter(bool), st.data())
def test_first_and_last_are_the_ends_of_a_set(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    table = BitsetTable(rows)
    chosen_rows = data.draw(st.integers(1, table.everything))
    found = chosen(table, chosen_rows)
    assert (table.first(chosen_rows), table.last(chosen_rows)) == (found[0], found[-1])


@pytest.mark.parametrize("value", [None, 3, ["ash"], {"a": 1}, ("ash",)])
def test_a_value_that_is_no_text_matches_nothing(value: object) -> None:
    table = BitsetTable([{"name": "ash", "price": {"single": "50"}}])
    assert table.holding({"name": value}) == table.named("name", value) == 0
    assert table.literal({"unknown": "ash"}) == 0


def test_every_row_has_every_column_and_is_frozen_to_the_bottom() -> None:
    table = BitsetTable([{"name": "ash"}, {"name": "oak", "price": {"single": "50"}, "location": [1.0, 2.0]}])
    assert table.rows[0] == {"name": "ash", "price": None, "location": None}
    assert table.rows[1]["location"] == (1.0, 2.0)
    with pytest.raises(TypeError):
        table.rows[1]["price"]["single"] = "60"
