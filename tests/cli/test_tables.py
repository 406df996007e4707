from __future__ import annotations

import pytest

from simkit.core.text_table import Column, Table, cut

RUNS = Table(
    (Column("run"), Column("name", shorten=True), Column("reward", right=True), Column("time", drop=1)),
    (("josh-20261122-131707-1950", "a rather long label", "1.000", "0.6 s"), ("rollout-1", "旅", "0.5", "12.0 s")),
)


def test_a_table_with_room_is_aligned_and_whole() -> None:
    assert list(RUNS.fitted(80).lines()) == [
        "run                        name                 reward  time",
        "--------------------------------------------------------------",
        "josh-20261122-131707-1950  a rather long label   1.000  0.6 s",
        "rollout-1                  旅                      0.5  12.0 s",
    ]


def test_a_narrow_table_shortens_names_then_drops_columns_and_never_ids() -> None:
    assert RUNS.fitted(58).lines().__next__().split() == ["run", "name", "reward", "time"]
    assert "a rather long…" in "\n".join(RUNS.fitted(58).lines())
    narrow = RUNS.fitted(46)
    assert [column.name for column in narrow.columns] == ["run", "name", "reward"]
    assert narrow.width <= 46
    least = RUNS.fitted(10)
    assert [column.name for column in least.columns] == ["run", "name", "reward"]
    assert least.rows[0][0] == "josh-20261122-131707-1950"


@pytest.mark.parametrize("width", range(43, 70, 3))
def test_a_fitted_table_is_within_its_width(width: int) -> None:
    assert RUNS.fitted(width).width <= width


@pytest.mark.parametrize(
    ("text", "shown"), [("short", "short"), ("two\n lines", "two lines"), ("a long one here", "a long o…"), ("", "")]
)
def test_texts_are_cut_to_one_line(text: str, shown: str) -> None:
    assert cut(text, 9) == shown
