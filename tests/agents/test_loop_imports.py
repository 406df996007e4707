"""Loops of agents import only what simkit requires: the tests' environment holds more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OTHERS = ("sniffio", "openai", "langchain", "agents", "pydantic_ai", "mcp", "trio")


@pytest.mark.parametrize("module", ["simkit.agents.loop", "simkit.agents.frameworks", "simkit.tools.mcp"])
def test_no_package_of_an_extra_is_needed(module: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({OTHERS})); import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
