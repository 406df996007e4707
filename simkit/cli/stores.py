"""Opens the existing store that a command reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simkit.cli.program import program
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.store import Store


def open_store(path: Path | None, *, external: bool = False) -> Store:
    """Open the store from a flag or from the settings; `external` lets queries access other files.

    Raises:
        UsageError: no store exists there.
    """
    from simkit.run.settings import read_settings
    from simkit.store import Store

    place = read_settings().store if path is None else path
    if not place.is_dir():
        raise UsageError(
            f"there is no store at {place}; run something first (`{program()} run rollout`), or give --store"
        )
    return Store(place, external=external)
