"""The garbage collector while a run goes: it looks less often, and not at what was there before."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count

CALM = (200_000, 10, 20)
"""Thresholds of the three generations; Python's own are for programs that hold little and drop much."""

FULL = 10
"""Runs from one full collection to the next; a full one takes 0.2 s in a process that has imported torch."""

_runs = count(1)  # of the process, as the collector itself is


@contextmanager
def calm_collector() -> Generator[None]:
    """Spare a run a quarter of its CPU: it holds many immutable values for long, and hardly any of them in cycles.

    What is alive at the beginning (modules, worlds) is frozen, so that no collection goes through it. Both are undone
    at the end. Before it is frozen, what earlier runs have left in cycles is collected, at every `FULL`th run also what
    has grown old: frozen and thawed it would count as old, and a program that plays one run after another would hold
    the garbage of hundreds. A program that has tuned its collector itself is left alone, and so is a run inside
    another one.
    """
    before = gc.get_threshold()
    if not gc.isenabled() or before[0] >= CALM[0] or gc.get_freeze_count():
        yield
        return
    gc.collect(1 if next(_runs) % FULL else 2)
    gc.freeze()
    gc.set_threshold(*CALM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
