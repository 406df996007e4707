"""The store a command reads: it must be there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simkit.cli.program import program
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.store import Store


def open_store(path: Path | None, *, external: bool = False) -> Store:
    """The store of a flag, or of the settings; `external` lets queries reach other files than its own.

    Raises:
        UsageError: there is none there.
    """
    from simkit.run.settings import read_settings
    from simkit.store import Store

    place = read_settings().store if path is None else path
    if not place.is_dir():
        raise UsageError(
            f"there is no store at {place}; run something first (`{program()} run rollout`), or give --store"
        )
    return Store(place, external=external)
