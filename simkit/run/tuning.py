"""Tuning of the process for runs: the fastest event loop, and a garbage collector that does less."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count

CALM = (200_000, 10, 20)
"""Thresholds of the three generations; Python's defaults suit programs with few long-lived objects."""

FULL = 10
"""Number of runs between full collections; one takes 0.2 s in a process that has imported torch."""

_runs = count(1)  # per process, like the collector itself


@contextmanager
def calm_collector() -> Generator[None]:
    """Reduce the collector's work during a run, which saves a quarter of the CPU time.

    A run holds many immutable values for a long time, hardly any of them in cycles. The thresholds are raised, and
    objects alive at the start (modules, worlds) are frozen so that no collection visits them. Both are undone at the
    end. Cyclic garbage of earlier runs is collected before freezing; every `FULL`th run also collects the oldest
    generation. Otherwise that garbage would count as old after unfreezing, and a program that plays one run after
    another would keep the garbage of hundreds of runs. Nothing changes if the program has tuned the collector itself,
    or inside another run.
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


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Factory of uvloop event loops if uvloop is installed; None for asyncio's default."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
