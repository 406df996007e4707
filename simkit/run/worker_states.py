"""What the driver knows of each worker, for people: kept in a small file beside the journal while the run is played.

The file is no record. What matters later, such as the loss of a worker, is in the journal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from simkit.store.files import open_private

FILE = ".workers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker as the driver sees it.

    Attributes:
        worker: its number, from 0; a worker that takes the place of a lost one has the same.
        place: its process and machine; empty until it has answered.
        open, done: episodes that it plays or holds, and those that ended in its place.
        lag: worst lag of its event loop, in seconds.
        heard: seconds since its last answer.
        lost: workers that were lost in its place.
        tokens, cost: the part of the run's budget that it has leased and not used.
        calls: model calls in flight or waiting.
        places: model calls that it may have in flight at endpoints with a fixed concurrency.
    """

    worker: int
    place: str = ""
    open: int = 0
    done: int = 0
    lag: float = 0.0
    heard: float = 0.0
    lost: int = 0
    tokens: float = 0.0
    cost: float = 0.0
    calls: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class KnownWorkers:
    """The workers of a run, and the seconds that have passed since the driver wrote it down."""

    age: float
    workers: tuple[WorkerState, ...]


class StatesFile:
    """The file of one run; failures to write it change nothing.

    Args:
        folder: the folder of the run's journals.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written = False

    def write(self, states: Sequence[WorkerState]) -> None:
        """Replace its contents; no states remove it."""
        if not states:
            if self._written:
                self.remove()
            return
        made = self._path.with_name(f"{FILE}.new")
        with suppress(OSError):
            made.unlink(missing_ok=True)
            file = open_private(made, os.O_WRONLY)
            try:
                os.write(file, orjson.dumps({"at": time.time(), "workers": [asdict(each) for each in states]}))
            finally:
                os.close(file)
            made.rename(self._path)
            self._written = True

    def remove(self) -> None:
        """Remove it, whoever has written it."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._written = False


def read_workers(folder: Path) -> KnownWorkers | None:
    """The workers of a run as its driver has written them down last; None if it has none."""
    try:
        found: Mapping[str, Any] = orjson.loads((folder / FILE).read_bytes())
        names = {field.name for field in fields(WorkerState)}
        rows = [{name: value for name, value in row.items() if name in names} for row in found["workers"]]
        return KnownWorkers(max(0.0, time.time() - found["at"]), tuple(WorkerState(**row) for row in rows))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # it is of another version, or being replaced
        return None
