"""Background tasks of a run: loading of the store, measurement of lag, detection of blocks, and the display."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from simkit.core.events import ComponentsWaitedFor, LoopBlocked, RunStarted
from simkit.core.recorder import Recorder
from simkit.core.records import ComponentLoad
from simkit.errors import StoreBusy
from simkit.run.engine import ProgressDisplay, RunProgress
from simkit.run.watchdog import Watchdog
from simkit.run.worker_states import StatesFile
from simkit.store.source import size_of

if TYPE_CHECKING:
    from simkit.store import Store


LOAD_EVERY = 2.0
"""Seconds between two observations of the load of components."""

WAITING_BYTES = 256 << 20
"""Bytes of the run's journal that may wait for the loader while workers play; loading them takes some 20 seconds."""


class BackgroundTasks:
    """Tasks of a run that last as long as its actors; they end when `running` is left."""

    def __init__(
        self,
        start: RunStarted,
        store: Store,
        progress: RunProgress,
        recorder: Recorder,
        display: ProgressDisplay | None = None,
    ) -> None:
        self._run_id = start.run_id
        self._attempt = start.attempt or 0
        self._store = store
        self._progress = progress
        self._recorder = recorder
        self._display = display
        self._watchdog = Watchdog()
        self._drawing: anyio.CancelScope | None = None
        self._quiet = False
        self._loads: tuple[ComponentLoad, ...] = ()
        self._look_at = monotonic() + LOAD_EVERY
        self._loaded = 0  # size of the journal at the last round
        self._workers = StatesFile(store.path / "journals" / start.run_id)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Context in which the tasks run."""
        from simkit.store import keep_loaded

        async with anyio.create_task_group() as group:
            group.start_soon(keep_loaded, self._store.loader, 2.0, self._leaves_cores_to_workers)
            group.start_soon(self._progress.lag.watch, self._beat)
            if self._display is not None:
                group.start_soon(self._draw, self._display)
            self._workers.remove()  # of a driver that was killed
            try:
                with self._watchdog.watching():
                    yield
            finally:
                self._workers.remove()
            group.cancel_scope.cancel()

    def _leaves_cores_to_workers(self) -> bool:
        """Whether the loader rests: workers use all cores, and the lines that wait for it are few.

        Readers do not need it: they load the lines that are new to them.
        """
        size = size_of(self._store.path / "journals" / self._run_id / "main.jsonl")
        if self._progress.workers and size - self._loaded < WAITING_BYTES:
            return True
        self._loaded = size
        return False

    def holding(self) -> str:
        """Location of user code that blocks the event loop now; empty if there is none."""
        return self._watchdog.holding()

    def give_the_terminal(self) -> None:
        """End the progress display for the rest of the run: a person types at this terminal."""
        self._quiet = True  # the display may not have begun
        if self._drawing is not None:
            self._drawing.cancel()

    def _beat(self) -> None:
        block = self._watchdog.beat()
        if block is not None:
            self._recorder.record(LoopBlocked(self._run_id, block.seconds, block.place, block.stack, time.time()))
        if monotonic() >= self._look_at:
            self._look_at = monotonic() + LOAD_EVERY
            self._record_loads()
            self._workers.write(self._progress.worker_states())

    def _record_loads(self) -> None:
        """Record the load of components if something waits for one, or has just stopped waiting."""
        loads = tuple(self._progress.load())
        waiting = any(load.waiting or load.queued for load in loads)
        if (waiting and loads != self._loads) or (self._loads and not waiting):
            self._recorder.record(ComponentsWaitedFor(self._run_id, self._attempt, loads, time.time()))
        self._loads = loads if waiting else ()

    async def _draw(self, display: ProgressDisplay) -> None:
        with anyio.CancelScope() as self._drawing:
            if not self._quiet:
                await display(self._progress)


def load_if_free(store: Store) -> tuple[str, ...]:
    """Load what the run has recorded; returns warnings about the store.

    Warnings concern damage, also of other runs, and a database that stayed held by another process.
    """
    try:
        return store.load().warnings
    except StoreBusy as error:
        return (
            f"the run is recorded in its journal, but not loaded into {store.database}: {error}. simkit reads the "
            "journal meanwhile, and the next command that finds the database free loads it",
        )
