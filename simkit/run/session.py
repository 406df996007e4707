"""Lifecycle of an open run: journal, actors, models, loader and display, and their orderly end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from simkit.actors.actor import Scope, open_scope
from simkit.actors.deadlines import Patience
from simkit.core.boundary import described
from simkit.core.cancellation import cancelled_from_outside
from simkit.core.events import LoopBlocked, Recorder, RunFinished, RunStarted
from simkit.errors import RunStopped, StoreBusy, StoreError, StrayCancellation, UsageError
from simkit.run.accounting import CANCELLED, INTERRUPTED, UNRECORDED, CountingRecorder, Ledger
from simkit.run.engine import Tally, sole_error
from simkit.run.gc_tuning import calm_collector
from simkit.run.observers import HeldRecorder, Tap, TappedRecorder
from simkit.run.resume import Origin, Past
from simkit.run.watchdog import Watchdog
from simkit.store.source import next_start

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.config import ModelConfig
    from simkit.models.middleware.budget import Allowances
    from simkit.models.run_models import RunModels
    from simkit.search.base import WorkUnit
    from simkit.store import Store
    from simkit.store.journal import Journal

T = TypeVar("T")
Status: TypeAlias = Literal["running", "done", "failed", "interrupted", "stopped"]
Progress: TypeAlias = Callable[[Tally], Coroutine[Any, Any, None]]
"""Coroutine function that displays a tally until it is cancelled."""
Ended: TypeAlias = Callable[[str, Status, str | None], None]
"""Callback for the id, the status and the problem of a run that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Settings of a session.

    Attributes:
        started: function that returns the start event for a given attempt number.
        summary: function that returns the summary to store at the end.
        patience: time limits for answers of components.
        ended: callback for the end of the run.
    """

    run_id: str
    store: Store
    origin: Origin
    models: ModelConfig
    started: Callable[[int], RunStarted]
    summary: Callable[[], Mapping[str, Any]]
    allowances: Allowances | None = None
    taps: tuple[Tap, ...] = ()
    progress: Progress | None = None
    patience: Patience = field(default_factory=Patience)
    ended: Ended | None = None
    durable: bool = False


class Session:
    """One run from start to end.

    A caller's mistake (`UsageError`) before anything was recorded leaves no run in the store.

    Attributes:
        status: `running` inside; afterwards `done`, `failed`, `interrupted` or `stopped`.
        problem: the reason why it stopped or failed.
        notes: warnings from loading the database at the end.
        past: contents of the journals of earlier attempts, if the run is resumed.
        ledger: account of the planned units.
        abandoned: whether a component that did not end was abandoned.
        number: number of this start in the store.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.status: Status = "running"
        self.problem: str | None = None
        self.past: Past | None = None
        self.notes: tuple[str, ...] = ()
        self.ledger = Ledger()
        self._parts: dict[str, str] = {}
        self._met: RunStopped | None = None
        self.number: int | None = None
        self._untold = False
        self._replayed: Past | None = None
        self._models: RunModels | None = None
        self._closing = AsyncExitStack()
        self._stop: anyio.CancelScope | None = None
        self._drawing: anyio.CancelScope | None = None
        self._scope: Scope | None = None
        self._journal: Recorder | None = None
        self._file: Journal | None = None
        self._watchdog: Watchdog | None = None
        self._recorded_end = False
        self.abandoned = False

    @property
    def journal(self) -> Recorder:
        """Recorder of the run.

        Raises:
            UsageError: the run is not open.
        """
        return _opened(self._journal)

    @property
    def scope(self) -> Scope:
        """Scope of the run's actors.

        Raises:
            UsageError: the run is not open.
        """
        return _opened(self._scope)

    @property
    def is_open(self) -> bool:
        """Whether the journal is open."""
        return self._journal is not None

    def write_off(self) -> str:
        """Record the end from another thread, for a process that is about to exit; returns what blocks the run."""
        journal, file = self._journal, self._file
        if journal is None or file is None:
            return "it was about to end"
        held = self._watchdog.holding() if self._watchdog is not None else ""
        busy = ", ".join(f"`{name}`" for name in self._scope.busy()) if self._scope is not None else ""
        what = f"the event loop is held up at {held}" if held else f"busy: {busy}" if busy else "busy with the recipe"
        problem = f"it did not end when it was told to; {what}"
        if not self._recorded_end:
            self.status, self.problem = "interrupted", problem
            self._record_end(journal)
        file.write_now()
        return self.problem or problem

    def stop(self) -> None:
        """End the run now, as Ctrl-C does.

        Raises:
            UsageError: the run is not open.
        """
        _opened(self._stop).cancel()
        self._tally.stopping = True

    @contextmanager
    def accounting_for(self, units: Sequence[WorkUnit]) -> Generator[None]:
        """Context for playing units: on exit, unfinished units are recorded with a reason, unless all was cancelled."""
        tally, reasons = self._tally, dict[str, str]()
        try:
            yield
            reasons = {unit.episode_id: tally.missed.get(unit.episode_id, UNRECORDED) for unit in units}
        except RunStopped as stopped:
            self._met = stopped
            reasons = _because(units, f"the run was stopped: {stopped}")
            raise
        except Exception as error:
            reasons = _because(units, f"the run failed: {described(error)}")
            raise
        finally:
            told = {episode.episode_id for episode in tally.episodes}
            for unit in units:
                episode = self.ledger.ended(unit.episode_id)
                if episode is not None and episode.episode_id not in told:  # worker cancelled afterwards
                    tally.finished(episode)
            self.ledger.not_played(reasons, self.journal)

    def part_ended(self, run_id: str, status: Status, problem: str | None) -> None:
        """Register the end of a stage of this run; a stage that failed before may now be done."""
        if status == "done":
            self._parts.pop(run_id, None)
        else:
            self._parts[run_id] = f"its part {run_id} is {status}" + (f": {problem}" if problem else "")

    def give_the_terminal(self) -> None:
        """Stop the progress display."""
        if self._drawing is not None:
            self._drawing.cancel()

    def model(self, spec: str, config: ModelConfig) -> ChatModel:
        """A model of this run; the first call opens the shared resources.

        Raises:
            UsageError: the name, the configuration or the environment is invalid.
        """
        from simkit.models.run_models import RunModels

        if self._models is None:
            known = self._of.origin.known(self.past, self._replayed)
            allowances = self._of.models.allowances(self._of.allowances)
            self._models = RunModels(self._of.run_id, self.journal, allowances, known)
            self._closing.push_async_callback(self._models.aclose)
            self._tally.meter = self._models.meter
        return self._models.model(spec, config)

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncGenerator[None]:
        """Open the run; its end is recorded and loaded even after an error."""
        self._of, self.ledger.run_id = opening, opening.run_id
        self._file = file = self._of.store.journal(self._of.run_id, "main", durable=self._of.durable)
        try:
            async with file:
                await anyio.to_thread.run_sync(self._remember)
                async with self._recorded(file):
                    yield
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._tidy)
            cause = sole_error(error)
            if cause is not error:
                raise cause from error
            raise
        finally:
            self._journal = self._file = self._scope = self.past = self._replayed = self._models = None
        self.notes = await anyio.to_thread.run_sync(_load_if_free, self._of.store)

    @asynccontextmanager
    async def _recorded(self, file: Recorder) -> AsyncGenerator[None]:
        held = HeldRecorder(file, hold=self._of.origin.resumed is None)
        counted = CountingRecorder(held, self.ledger)
        self._journal = TappedRecorder(counted, self._of.taps) if self._of.taps else counted
        self.ledger.attempt = 0 if self.past is None else self.past.attempt + 1
        self._journal.record(self._of.started(self.ledger.attempt))
        try:
            async with self._closing, self._background(), self._acting():
                yield
            self.status = self._ending()
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) or cancelled_from_outside():
                self.status = "interrupted"
                raise
            stray = StrayCancellation(
                "the recipe, or a library it uses, raised a cancellation that was not requested; look for a timeout "
                "inside a library"
            )
            self._broken(stray)
            raise stray from error
        except GeneratorExit:
            raise
        except BaseException as error:
            cause = sole_error(error)
            self._broken(cause)
            self._untold = isinstance(cause, UsageError) and held.forget()
            raise
        finally:
            await self._finish(self._journal)

    @asynccontextmanager
    async def _acting(self) -> AsyncGenerator[None]:
        with calm_collector(), anyio.CancelScope() as self._stop:
            async with open_scope(self._of.patience) as self._scope:
                self._tally.load = self._scope.load
                yield

    @asynccontextmanager
    async def _background(self) -> AsyncGenerator[None]:
        from simkit.store import keep_loaded

        self._watchdog = Watchdog()
        async with anyio.create_task_group() as group:
            group.start_soon(keep_loaded, self._of.store.loader)
            group.start_soon(self._tally.lag.watch, self._beat)
            if self._of.progress is not None:
                group.start_soon(self._draw, self._of.progress)
            with self._watchdog.watching():
                yield
            group.cancel_scope.cancel()

    def _beat(self) -> None:
        block = self._watchdog.beat() if self._watchdog is not None else None
        if block is not None:
            event = LoopBlocked(self._of.run_id, block.seconds, block.place, block.stack, time.time())
            self.journal.record(event)

    async def _draw(self, progress: Progress) -> None:
        with anyio.CancelScope() as self._drawing:
            await progress(self._tally)

    def _broken(self, cause: BaseException) -> None:
        stopped = isinstance(cause, RunStopped)
        self.status = "stopped" if stopped else "failed"
        self.problem = str(cause) if stopped else described(cause)

    def _ending(self) -> Status:
        if self._stop is not None and self._stop.cancel_called:
            return "interrupted"
        self.ledger.close(CANCELLED, self.journal)
        self.problem = "; ".join(filter(None, [self.problem, *self._parts.values()])) or None
        if self._met is not None and self.ledger.account().not_played:  # the recipe ignored the stop
            self.problem = self.problem or str(self._met)
            return "stopped"
        return "failed" if self.problem or self.ledger.account().not_played else "done"

    def _account(self, journal: Recorder) -> None:
        """Mark all open units as not played, and add that to the problem."""
        reason = {"interrupted": INTERRUPTED, "stopped": f"the run was stopped: {self.problem}"}
        self.ledger.close(reason.get(self.status, f"the run failed: {self.problem}"), journal)
        account = self.ledger.account()
        if account.not_played:
            self.problem = f"{self.problem}; {account.short}" if self.problem else account.problem
        abandoned = self._scope.abandoned if self._scope is not None else ()
        self.abandoned = bool(abandoned)
        if abandoned and self.status != "done":
            left = f"abandoned, because they continued after they were cancelled: {', '.join(abandoned)}"
            self.problem = f"{self.problem}; {left}" if self.problem else left

    def _record_end(self, journal: Recorder) -> None:
        if self.status == "running":
            self.status = "failed"
        self._account(journal)
        summary, stats = self._of.summary(), self._tally.to_json()
        journal.record(RunFinished(self._of.run_id, self.status, summary, time.time(), self.problem, stats))
        self._recorded_end = True

    async def _finish(self, journal: Recorder) -> None:
        with anyio.CancelScope(shield=True):
            self._record_end(journal)
            if self._of.ended is not None:
                self._of.ended(self._of.run_id, self.status, self.problem)
            try:
                await journal.commit()
            except StoreError:
                if self.status != "failed":  # a failed run has already raised the cause
                    raise

    def _remember(self) -> None:
        """Count this start, and read the journals of the resumed or replayed run; runs in a thread."""
        self.number = next_start(self._of.store.path)
        if self._of.origin.resumed is not None:
            self.past = Past.read(self._of.store.path, self._of.run_id)
        if self._of.origin.replayed is not None:
            self._replayed = Past.read(self._of.store.path, self._of.origin.replayed)

    def _tidy(self) -> None:
        """Clean up after a failed run; further store errors are suppressed, because the caller needs the first one."""
        with suppress(StoreError):
            if self._untold:
                self._of.store.forget(self._of.run_id)
            self._of.store.load(wait=0)


def _opened(part: T | None) -> T:
    if part is None:
        raise UsageError("the run is not open; use it inside `async with simkit.Run(...) as run:`")
    return part


def _because(units: Sequence[WorkUnit], reason: str) -> dict[str, str]:
    return {unit.episode_id: reason for unit in units}


def _load_if_free(store: Store) -> tuple[str, ...]:
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
