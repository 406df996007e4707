"""What a person at a real terminal sees: the commands run on a pseudo-terminal of so many columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pseudo_terminal import at_terminal

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    output = at_terminal(
        80, "run", "rollout", "--tasks", "2", "--name", "a label that is long for a table", "--store", path
    )
    assert "episodes" in output
    return path


def lines(output: str) -> list[str]:
    return CODES.sub("", output).replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_lists_fit_the_terminal_and_ids_stay_whole(columns: int, store: Path) -> None:
    for command in (["ls"], ["show", "last"]):
        shown = lines(at_terminal(columns, *command, "--store", store))
        table = [line for line in shown if "simkit show" not in line]
        assert max(map(len, table)) <= columns
        assert any(re.match(r"rollout-\d{8}-\d{6}-[0-9a-f]{4} ", line) for line in table)


def test_a_narrow_list_names_the_columns_that_it_leaves_out(store: Path) -> None:
    narrow, wide = (" ".join(lines(at_terminal(columns, "ls", "--store", store))) for columns in (60, 200))
    heading = narrow.split("----")[0]
    left_out = narrow.split("(left out, because the terminal is narrow: ")[1].split(";")[0].split(", ")
    assert set(left_out) >= {"started UTC", "time"}
    assert not any(f" {name} " in heading for name in left_out)
    assert all(f" {name}" in wide for name in left_out)
    assert "left out" not in wide


def test_a_query_too_wide_for_the_terminal_is_shown_in_blocks(store: Path) -> None:
    narrow = lines(at_terminal(80, "sql", "from run_summary", "--store", store))
    assert narrow[0] == "--- row 1 ---"
    assert "recipe          rollout" in narrow
    wide = lines(at_terminal(300, "sql", "from run_summary", "--store", store))
    assert wide[0].startswith("run_id ")
    assert len(wide) == 4


def test_the_live_display_is_gone_when_the_run_is_over(tmp_path: Path) -> None:
    output = at_terminal(80, "run", "rollout", "--tasks", "2", "--store", tmp_path)
    assert "\x1b[?25l" in output  # the cursor was hidden ...
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # ... and is back
    assert output.rindex("average reward") > output.rindex("\x1b[2K")


def test_quiet_draws_nothing(tmp_path: Path) -> None:
    output = at_terminal(80, "run", "rollout", "--tasks", "2", "--quiet", "--store", tmp_path)
    assert "\x1b[?25l" not in output
    assert lines(output)[0].startswith("rollout-")
    assert "Next:" not in output
