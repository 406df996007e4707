"""Lifetime of a run: what is open between its start and its orderly end, and how it ended."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

import anyio
import anyio.to_thread

import simkit
from simkit.actors.deadlines import GRACE, AskLimits
from simkit.actors.scope import Scope, open_scope
from simkit.core.boundary import described
from simkit.core.cancellation import cancelled_from_outside
from simkit.core.events import FaultTraced, RunFinished, RunStarted
from simkit.core.limits import ASK_TIMEOUT
from simkit.core.recorder import LineRecorder, Recorder
from simkit.core.tracebacks import traceback_of
from simkit.errors import Fault, RunStopped, StoreError, StrayCancellation, UsageError
from simkit.run.accounting import CANCELLED, INTERRUPTED, CountingRecorder, UnitLedger, Units
from simkit.run.background import BackgroundTasks, load_if_free
from simkit.run.engine import FaultPolicy, ProgressDisplay, RunProgress, sole_error
from simkit.run.engine_names import PROCESSES, engine_named
from simkit.run.observers import DeferredRecorder, Tap, TappedRecorder
from simkit.run.processes import Workers
from simkit.run.request import RunIdentity, RunRequest, open_store
from simkit.run.resume import RecordedRun, RunSource
from simkit.run.sharding import Shard, Sharing
from simkit.run.summary import Summary, summarise
from simkit.run.tuning import calm_collector
from simkit.store.source import next_start

if TYPE_CHECKING:
    from simkit.components.cast import Cast
    from simkit.components.world import World
    from simkit.models.base import ChatModel
    from simkit.models.config import ModelConfig
    from simkit.models.factory import ModelHost
    from simkit.models.middleware.budget import Allowances, Budget
    from simkit.models.run_models import RunModels
    from simkit.plugins.component_paths import BaseFolders
    from simkit.run.cast_spec import CastOrigin, WorldSpec
    from simkit.run.contract import Engine
    from simkit.run.stages import PartOf
    from simkit.store import Store
    from simkit.store.journal import Journal

T = TypeVar("T")
Status: TypeAlias = Literal["running", "done", "failed", "interrupted", "stopped"]
Ended: TypeAlias = Callable[[str, Status, str | None], None]
"""Callback for the id, the status and the problem of a run that has ended."""

UNKNOWN_YET = frozenset({"id", "name", "recipe", "seed", "models", "folders", "config", "store"})
"""Attributes that a run may have only once it is entered."""


class Lifetime:
    """Start, open resources and end of a run; `Run` adds what recipes do in between.

    A caller's mistake (`UsageError`) before anything was recorded leaves no run in the store.
    """

    def __init__(
        self,
        *,
        store: Store | Path | str | None = None,
        name: str = "",
        recipe: str = "python",
        seed: int | None = None,
        concurrency: int | None = None,
        policy: FaultPolicy | None = None,
        config: Mapping[str, Any] | None = None,
        progress: ProgressDisplay | None = None,
        models: ModelConfig | None = None,
        allowances: Allowances | None = None,
        durable: bool = False,
        resume: str | None = None,
        replay: str | None = None,
        taps: Sequence[Tap] = (),
        part_of: PartOf | None = None,
        ask_timeout: float | None = ASK_TIMEOUT,
        grace: float = GRACE,
        ended: Ended | None = None,
        folders: BaseFolders | None = None,
        workers: Workers | None = None,
        engine: Engine | str | None = None,
        shard: Shard | str | None = None,
        host: ModelHost | None = None,
        budget: Budget | None = None,
    ) -> None:
        from simkit.run.settings import read_settings

        settings = read_settings()
        self._request = RunRequest(
            store=settings.store if store is None else store,
            name=name,
            recipe=recipe,
            seed=seed,
            default_seed=settings.seed,
            models=models,
            config=config,
            resume=resume,
            replay=replay,
            part_of=part_of,
            folders=folders,
            shard=Shard.parse(shard) if isinstance(shard, str) else shard,
        )
        self.part_of = part_of
        self.concurrency = settings.concurrency if concurrency is None else concurrency
        self.workers: Workers = settings.workers if workers is None else workers
        self.policy = policy or FaultPolicy()
        self.durable = durable
        self.ask_timeout = ask_timeout
        self.progress = RunProgress(keeps_faults=self.policy.fail_fast)
        self.status: Status = "running"
        self.problem: str | None = None
        self.abandoned = False
        self._ask_limits = AskLimits(ask_timeout or None, grace)
        self._allowances = allowances
        self._host = host
        self._budget = budget
        self._taps = tuple(taps)
        self._display = progress
        self._ended = ended
        self._reported: dict[str, Any] = {}
        self._notes: list[str] = []
        self._loading: tuple[str, ...] = ()  # warnings from loading the database at the end
        self._units = Units("", 0)
        self._ledger = UnitLedger()
        self.engine_name = engine if isinstance(engine, str) else settings.engine if engine is None else PROCESSES
        chosen = workers if workers is not None or "workers" not in settings.model_fields_set else settings.workers
        self._engine = engine_named(self.engine_name, chosen) if engine is None or isinstance(engine, str) else engine
        self._sharing: Sharing | None = None
        self._worlds: list[tuple[World, WorldSpec]] = []
        self._casts: list[tuple[Cast, CastOrigin]] = []
        self._stages: dict[str, str] = {}  # problems of stages, by run id
        self._stopped_by: RunStopped | None = None
        self._origin = RunSource()
        self._earlier: RecordedRun | None = None
        self._replayed: RecordedRun | None = None
        self._number: int | None = None  # of this start in the store
        self._entered: AbstractAsyncContextManager[None] | None = None
        self._closing = AsyncExitStack()
        self._models: RunModels | None = None
        self._stop: anyio.CancelScope | None = None
        self._scope: Scope | None = None
        self._recorder: LineRecorder | None = None
        self._file: Journal | None = None
        self._background: BackgroundTasks | None = None
        self._recorded_end = False
        self._to_forget = False
        if not self._request.elsewhere:
            self._name(self._origin)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Explain why an attribute is not available yet."""
            if name in UNKNOWN_YET:
                raise AttributeError(f"`{name}` of a run is known once it is entered: `async with` it first")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        known, asked = vars(self), self._request
        who = known.get("id") or f"of {asked.resume or asked.replay or asked.part_of!r}"
        name, recipe = known.get("name", asked.name), known.get("recipe", asked.recipe)
        state = "not entered" if self._entered is None else self.status
        return f"<Run {who}{f' {name!r}' if name else ''}, recipe {recipe}, {state}>"

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self._look_up)
        self._entered = self._open()
        await self._entered.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._entered is not None
        return await self._entered.__aexit__(kind, error, trace)

    @property
    def is_open(self) -> bool:
        """Whether its journal is open."""
        return self._recorder is not None

    def summary(self, **extra: Any) -> Summary:
        """Scores and counts of all episodes so far, with additional named values, which are stored too."""
        self._reported |= extra
        return summarise(self.progress.episodes, self._ledger.account(), **self._reported)

    def stop(self) -> None:
        """End the run now, as Ctrl-C does: recorded events stay, and the status becomes `interrupted`."""
        _opened(self._stop).cancel()
        self.progress.stopping = True

    def write_off(self) -> str:
        """Record the end of a run that does not end on its own; returns what blocks it.

        For use from another thread of a process that is about to exit: the run cannot continue afterwards.
        """
        recorder, file = self._recorder, self._file
        if recorder is None or file is None:
            return "it was about to end"
        held = self._background.holding() if self._background is not None else ""
        busy = ", ".join(f"`{name}`" for name in self._scope.busy()) if self._scope is not None else ""
        what = f"the event loop is held up at {held}" if held else f"busy: {busy}" if busy else "busy with the recipe"
        problem = f"it did not stop when it was cancelled; {what}"
        if not self._recorded_end:
            self.status, self.problem = "interrupted", problem
            self._record_end(recorder)
        file.write_now()
        return self.problem or problem

    # --- while it is open ---------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> LineRecorder:
        return _opened(self._recorder)

    @property
    def _actors(self) -> Scope:
        return _opened(self._scope)

    def _model(self, spec: str, config: ModelConfig) -> ChatModel:
        """A model of this run."""
        return self._opened_models().model(self.folders.absolute(spec), config)

    def _opened_models(self) -> RunModels:
        """The models of this run; the first call opens the shared resources."""
        from simkit.models.run_models import RunModels

        if self._models is None:
            recorded = self._origin.recorded_calls(self._earlier, self._replayed)
            allowances = self.models.allowances(self._allowances)
            host = self._host or (None if self._engine is None else self._engine.host)
            self._models = RunModels(self.id, self._journal, allowances, recorded, host=host, budget=self._budget)
            self._closing.push_async_callback(self._models.aclose)
            self.progress.metrics = self._models.metrics
        return self._models

    def _stage_ended(self, run_id: str, status: Status, problem: str | None) -> None:
        """Register the end of a stage of this run; a stage that failed before may now be done."""
        if status == "done":
            self._stages.pop(run_id, None)
        else:
            self._stages[run_id] = f"its part {run_id} is {status}" + (f": {problem}" if problem else "")

    # --- start --------------------------------------------------------------------------------------------------------

    def _look_up(self) -> None:
        """Open the store and look up the run's origin; runs in a thread."""
        asked = self._request
        self.store = store = open_store(asked.store)
        resume = asked.part_of.begun(store) if asked.part_of else asked.resume
        self._configure(RunSource.find(store, resume, asked.replay))
        if asked.shard is not None and resume is None:
            self.id = asked.shard.run_id(self.recipe, self.name, self.seed, self.config)
            if asked.shard.begun(store, self.id):
                self._configure(RunSource.find(store, self.id, None))
        shard = Shard.of(self.config)
        self._sharing = None if shard is None else Sharing(shard)

    def _configure(self, origin: RunSource) -> None:
        """Set identity and configuration of the run, given its origin."""
        asked, self._origin = self._request, origin
        if asked.elsewhere:
            self._name(origin)
        identity = RunIdentity(self.id, self.name, self.recipe, self.seed, self.models, self.folders)
        self.config = origin.checked(
            asked.configured(identity, self.concurrency, self.workers, self.engine_name, origin)
        )

    def _name(self, origin: RunSource) -> None:
        """Set the identity of the run."""
        identity = self._request.identity(origin)
        self.id, self.name, self.recipe, self.seed = identity.id, identity.name, identity.recipe, identity.seed
        self.models, self.folders = identity.models, identity.folders

    def _remember(self) -> None:
        """Count this start, and read the journals of the resumed or replayed run; runs in a thread."""
        self._number = next_start(self.store.path)
        if self._origin.resumed is not None:
            self._earlier = RecordedRun.read(self.store.path, self.id)
        if self._origin.replayed is not None:
            self._replayed = RecordedRun.read(self.store.path, self._origin.replayed)

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        """Open the run; its end is recorded and loaded even after an error."""
        self._file = file = self.store.journal(self.id, "main", durable=self.durable)
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
                raise cause from cause.__cause__ or error
            raise
        finally:
            self._recorder = self._file = self._scope = self._earlier = self._replayed = self._models = None
        self._loading = await anyio.to_thread.run_sync(load_if_free, self.store)

    @asynccontextmanager
    async def _recorded(self, file: LineRecorder) -> AsyncGenerator[None]:
        held = DeferredRecorder(file, hold=self._origin.resumed is None)
        counted = CountingRecorder(held, self._ledger)
        self._recorder = recorder = TappedRecorder(counted, self._taps) if self._taps else counted
        attempt = 0 if self._earlier is None else self._earlier.attempt + 1
        self._ledger.run_id, self._ledger.attempt = self.id, attempt
        self._units = Units(self.id, self.seed, self._earlier)
        identity = (self.id, self.name, self.recipe, self.seed, self.config, simkit.__version__)
        start = RunStarted(*identity, time.time(), attempt, self._number)
        recorder.record(start)
        self._background = BackgroundTasks(start, self.store, self.progress, recorder, self._display)
        try:
            async with self._closing, self._background.running(), self._acting():
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
            self._to_forget = isinstance(cause, UsageError) and held.forget()
            self._trace(cause)
            raise
        finally:
            await self._finish(recorder)

    @asynccontextmanager
    async def _acting(self) -> AsyncGenerator[None]:
        engine = nullcontext() if self._engine is None else self._engine.opened()
        begun = False
        with calm_collector(), anyio.CancelScope() as self._stop:
            async with engine, open_scope(self._ask_limits) as self._scope:
                self.progress.load, begun = self._scope.load, True
                yield
        if not begun:
            raise UsageError("the run was stopped before its engine was ready; nothing was played")

    # --- end ----------------------------------------------------------------------------------------------------------

    def _broken(self, cause: BaseException) -> None:
        stopped = isinstance(cause, RunStopped)
        self.status = "stopped" if stopped else "failed"
        if not (isinstance(cause, Fault) and self.problem):  # the policy's reason
            self.problem = str(cause) if stopped else described(cause)

    def _trace(self, cause: BaseException) -> None:
        """Record where the error that ends the run was raised, if by the code of a recipe, a search or a world."""
        trace = "" if isinstance(cause, Fault) else traceback_of(cause)
        if trace:
            self._journal.record(FaultTraced(self.id, None, None, "run", self.problem or "", trace, time.time()))

    def _ending(self) -> Status:
        if self._stop is not None and self._stop.cancel_called:
            return "interrupted"
        self._ledger.close(CANCELLED, self._journal)
        self.problem = "; ".join(filter(None, [self.problem, *self._stages.values()])) or None
        if self._stopped_by is not None and self._ledger.account().not_played:  # the recipe ignored the stop
            self.problem = self.problem or str(self._stopped_by)
            return "stopped"
        return "failed" if self.problem or self._ledger.account().not_played else "done"

    def _account(self, recorder: Recorder) -> None:
        """Mark all open units as not played, and add that to the problem."""
        reason = {"interrupted": INTERRUPTED, "stopped": f"the run was stopped: {self.problem}"}
        self._ledger.close(reason.get(self.status, f"the run failed: {self.problem}"), recorder)
        account = self._ledger.account()
        if account.not_played:
            self.problem = f"{self.problem}; {account.short}" if self.problem else account.problem
        abandoned = self._scope.abandoned if self._scope is not None else ()
        self.abandoned = self.abandoned or bool(abandoned)
        if abandoned and self.status != "done":
            left = f"abandoned, because they continued after they were cancelled: {', '.join(abandoned)}"
            self.problem = f"{self.problem}; {left}" if self.problem else left

    def _record_end(self, recorder: Recorder) -> None:
        if self.status == "running":
            self.status = "failed"
        self._account(recorder)
        summary, stats = self.summary().to_json(), self.progress.to_json()
        recorder.record(RunFinished(self.id, self.status, summary, time.time(), self.problem, stats))
        self._recorded_end = True

    async def _finish(self, recorder: Recorder) -> None:
        with anyio.CancelScope(shield=True):
            self._record_end(recorder)
            if self._ended is not None:
                self._ended(self.id, self.status, self.problem)
            try:
                await recorder.commit()
            except StoreError:
                if self.status != "failed":  # a failed run has already raised the cause
                    raise

    def _tidy(self) -> None:
        """Clean up after a failed run; further store errors are suppressed, because the caller needs the first one."""
        with suppress(StoreError):
            if self._to_forget:
                self.store.forget(self.id)
            self.store.load(wait=0)


def _opened(part: T | None) -> T:
    if part is None:
        raise UsageError("the run is not open; use it inside `async with simkit.Run(...) as run:`")
    return part
