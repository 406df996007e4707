"""What a shell is told when the user presses tab."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [("simkit ver", []), ("simkit com", ["components", "compare"]), ("simkit run best", ["best_of_n"])],
)
def test_commands_and_recipes_are_completed(words: str, expected: list[str]) -> None:
    code = "import sys; sys.argv = ['simkit']; from simkit.cli import main; main()"
    asked = {"_SIMKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == expected
