"""What a run has open while it goes: journal, actors, models, the loader and the display; and how all of it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

import anyio
import anyio.to_thread

from simkit.actors import Scope, open_scope
from simkit.collector import calm_collector
from simkit.engine import Tally, sole_error
from simkit.errors import RunStopped, StoreBusy, StoreError, UsageError
from simkit.events import Recorder, RunFinished, RunStarted
from simkit.observe import HeldRecorder, Tap, TappedRecorder
from simkit.resume import Origin, Past

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.budget import Allowances
    from simkit.models.build import ModelOptions
    from simkit.models.choices import ModelChoices
    from simkit.models.desk import ModelDesk
    from simkit.store import Store

T = TypeVar("T")
Status: TypeAlias = Literal["running", "done", "failed", "interrupted", "stopped"]
Progress: TypeAlias = Callable[[Tally], Coroutine[Any, Any, None]]
"""Shows a tally until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a session is of.

    Attributes:
        started: the event that begins it.
        summary: what is kept of it when it ends.
    """

    run_id: str
    store: Store
    origin: Origin
    models: ModelChoices
    tally: Tally
    started: Callable[[], RunStarted]
    summary: Callable[[], Mapping[str, Any]]
    allowances: Allowances | None = None
    taps: tuple[Tap, ...] = ()
    progress: Progress | None = None


class Session:
    """One run from its opening to its end.

    A mistake of the caller (`UsageError`) that comes before anything was recorded leaves no run behind.

    Attributes:
        status: `running` inside; after it `done`, `failed`, `interrupted` or `stopped`.
        problem: why it was stopped or has failed.
        notes: whether the database could not be loaded at its end.
        past: what an earlier part of the run has done, when it goes on.
    """

    def __init__(self, opening: Opening) -> None:
        self._of = opening
        self.status: Status = "running"
        self.problem: str | None = None
        self.past: Past | None = None
        self.notes: tuple[str, ...] = ()
        self._untold = False
        self._desk: ModelDesk | None = None
        self._stop: anyio.CancelScope | None = None
        self._drawing: anyio.CancelScope | None = None
        self._scope: Scope | None = None
        self._journal: Recorder | None = None

    @property
    def journal(self) -> Recorder:
        """Where the run is recorded.

        Raises:
            UsageError: the run is not open.
        """
        return _opened(self._journal)

    @property
    def scope(self) -> Scope:
        """Where its actors live.

        Raises:
            UsageError: the run is not open.
        """
        return _opened(self._scope)

    def stop(self) -> None:
        """End it now, as Ctrl-C does.

        Raises:
            UsageError: the run is not open.
        """
        _opened(self._stop).cancel()
        self._of.tally.stopping = True

    def give_the_terminal(self) -> None:
        """Draw no progress any more."""
        if self._drawing is not None:
            self._drawing.cancel()

    def model(self, spec: str, options: ModelOptions) -> ChatModel:
        """A model of this run; the first one opens the desk they share.

        Raises:
            UsageError: the name, the options or the environment cannot be used.
        """
        from simkit.models.desk import ModelDesk

        if self._desk is None:
            known = self._of.origin.known(self._of.store, self.past)
            allowances = self._of.models.allowances(self._of.allowances)
            self._desk = ModelDesk(self._of.run_id, self.journal, allowances, known)
            self._of.tally.meter = self._desk.meter
        return self._desk.model(spec, options)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Open everything; the end is recorded and loaded, whatever happens inside."""
        file = self._of.store.journal(self._of.run_id, "main")
        try:
            async with file:
                await anyio.to_thread.run_sync(self._remember)
                async with self._recorded(file):
                    yield
        except Exception as error:
            await anyio.to_thread.run_sync(self._tidy)
            if isinstance(error, ExceptionGroup):
                raise sole_error(cast("ExceptionGroup[Exception]", error)) from error
            raise
        finally:
            self._journal = self._scope = self.past = self._desk = None
        self.notes = await anyio.to_thread.run_sync(_load_if_free, self._of.store)

    @asynccontextmanager
    async def _recorded(self, file: Recorder) -> AsyncGenerator[None]:
        held = HeldRecorder(file, hold=self._of.origin.resumed is None)
        self._journal = TappedRecorder(held, self._of.taps) if self._of.taps else held
        self._journal.record(self._of.started())
        try:
            async with self._background(), self._acting():
                yield
            self.status = self._ending()
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt):
            self.status = "interrupted"
            raise
        except Exception as error:
            cause = sole_error(cast("ExceptionGroup[Exception]", error)) if isinstance(error, ExceptionGroup) else error
            self._broken(cause)
            self._untold = isinstance(cause, UsageError) and held.forget()
            raise
        finally:
            await self._finish(self._journal)

    @asynccontextmanager
    async def _acting(self) -> AsyncGenerator[None]:
        with calm_collector(), anyio.CancelScope() as self._stop:
            async with open_scope() as self._scope:
                yield

    @asynccontextmanager
    async def _background(self) -> AsyncGenerator[None]:
        from simkit.store import keep_loaded

        async with anyio.create_task_group() as group:
            group.start_soon(keep_loaded, self._of.store.loader)
            group.start_soon(self._of.tally.lag.watch)
            if self._of.progress is not None:
                group.start_soon(self._draw, self._of.progress)
            yield
            group.cancel_scope.cancel()

    async def _draw(self, progress: Progress) -> None:
        with anyio.CancelScope() as self._drawing:
            await progress(self._of.tally)

    def _broken(self, cause: Exception) -> None:
        stopped = isinstance(cause, RunStopped)
        self.status = "stopped" if stopped else "failed"
        self.problem = str(cause) if stopped else f"{type(cause).__name__}: {cause}"

    def _ending(self) -> Status:
        if self._stop is not None and self._stop.cancel_called:
            return "interrupted"
        return "failed" if self.problem else "done"

    async def _finish(self, journal: Recorder) -> None:
        with anyio.CancelScope(shield=True):
            status = "failed" if self.status == "running" else self.status
            summary, stats = self._of.summary(), self._of.tally.to_json()
            journal.record(RunFinished(self._of.run_id, status, summary, time.time(), self.problem, stats))
            if self._desk is not None:
                await self._desk.__aexit__(None, None, None)
            try:
                await journal.commit()
            except StoreError:
                if self.status != "failed":  # a failed run has already raised the cause
                    raise

    def _remember(self) -> None:
        """Read what the run did before it was interrupted; runs in a thread."""
        if self._of.origin.resumed is not None:
            self.past = Past.read(self._of.store.path, self._of.run_id)

    def _tidy(self) -> None:
        """For a run that has failed: what else goes wrong is not what its caller needs to read."""
        with suppress(StoreError):
            if self._untold:
                self._of.store.forget(self._of.run_id)
            self._of.store.load(wait=0)


def _opened(part: T | None) -> T:
    if part is None:
        raise UsageError("the run is not open; use it inside `async with simkit.Run(...) as run:`")
    return part


def _load_if_free(store: Store) -> tuple[str, ...]:
    """Load what the run has recorded, and say so when the database is held by another process all the time."""
    try:
        store.load()
    except StoreBusy as error:
        return (
            f"the run is recorded in its journal, but not loaded into {store.database}: {error}. simkit reads the "
            "journal meanwhile, and the next command that finds the database free loads it",
        )
    return ()
