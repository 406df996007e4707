"""The program name as the user called it, so that hints can be copied."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

NAME = "simkit"


def program() -> str:
    """`simkit`, or its path if it is not on the PATH, or `python -m simkit`, quoted for a shell."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.orig_argv[0])} -m {NAME}"
    if called.name != NAME:
        return NAME  # called from Python
    found = shutil.which(NAME)
    return NAME if found and Path(found).resolve() == called.resolve() else shlex.quote(str(called))


def store_flag(store: Path) -> str:
    """` --store PATH` if commands need it to find a store, else an empty text."""
    from simkit.run.settings import read_settings

    return "" if read_settings().store.resolve() == store.resolve() else f" --store {shlex.quote(str(store))}"
