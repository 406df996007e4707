"""What a message says about an error of the system beside the file that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit.errors import UsageError, reason
from simkit.rewards.criteria import Rubric


def test_a_file_is_named_once(tmp_path: Path) -> None:
    missing = tmp_path / "rubric.txt"
    with pytest.raises(UsageError) as caught:
        Rubric.read(missing)
    assert (
        str(caught.value)
        == f"the rubric {missing} cannot be read: No such file or directory; give a text file in UTF-8"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory"),
        (OSError("odd"), "odd"),
        (ValueError("not a number"), "not a number"),
    ],
)
def test_the_reason_of_an_error(error: Exception, text: str) -> None:
    assert reason(error) == text
