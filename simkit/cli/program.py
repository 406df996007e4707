"""The program as the user called it, the store that a command reads, and notes about what it found there."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.cli.output import say
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.store import Store

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
    return "" if _store_of(None).resolve() == store.resolve() else f" --store {shlex.quote(str(store))}"


def open_store(path: Path | None, *, external: bool = False) -> Store:
    """Open the store from a flag or from the settings; `external` lets queries access other files.

    Raises:
        UsageError: no store exists there.
    """
    from simkit.store import Store

    place = _store_of(path)
    if not place.is_dir():
        raise UsageError(
            f"there is no store at {place}; run something first (`{program()} run rollout`), or give --store"
        )
    return Store(place, external=external)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on stderr, each once: the source of an answer, what it lacks, and unfinished runs."""
    for note in dict.fromkeys(notes):
        say(f"note: {note}", err=True)


def _store_of(path: Path | None) -> Path:
    if path is not None:
        return path
    if not any(name.startswith("SIMKIT_") for name in os.environ):
        return Path("simkit-store")  # without pydantic, whose import takes longer than `simkit ls`
    from simkit.run.settings import read_settings

    return read_settings().store
