"""docs/tau.md names a test for each defect of the releases that the worlds keep or repair."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+) \| .* \| (?:`([^`]+)::([^`]+)`)? ?\|$")


def rows() -> list[tuple[int, str, str]]:
    found = map(ROW.match, (ROOT / "docs" / "tau.md").read_text("utf-8").splitlines())
    return [(int(row[1]), row[2] or "", row[3] or "") for row in found if row]


def test_all_defects_are_listed() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, 33))


def test_each_has_a_test_that_exists() -> None:
    untested = [number for number, path, _ in rows() if not path]
    assert untested == [9]
    for _, path, name in rows():
        if path:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), name
