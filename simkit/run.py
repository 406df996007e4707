"""A run: one experiment with its name, seed, store and actors.

    async with simkit.Run(name="first try", seed=7) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent="scripted,error_rate=0.2")
        await run.play(Rollout(), cast, run.tasks(world, "test", "50"), trials=2)
        print(run.summary())

Leaving the block ends the actors, writes the last line of the journal and loads the store, whatever happened inside.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from simkit.actors import Scope, open_scope
from simkit.components import Agent, Cast, Reward, ToolServer, User
from simkit.engine import FaultPolicy, Stage, Tally, play_units, sole_error
from simkit.errors import StoreBusy, StoreError, UsageError
from simkit.events import Recorder, RunFinished, RunStarted, TaskSeen
from simkit.loading import Kind, load
from simkit.summary import Summary, summarise
from simkit.supervisors.base import Episode, Supervisor, WorkUnit
from simkit.tasks import Task, World

if TYPE_CHECKING:
    from simkit.store import QueryResult, Store

T = TypeVar("T")
Status: TypeAlias = Literal["running", "done", "failed", "interrupted"]
Progress: TypeAlias = Callable[[Tally], Coroutine[Any, Any, None]]
"""Shows a tally until it is cancelled."""

WORLD = Kind("world", "simkit.worlds", World)
AGENT = Kind("agent", "simkit.agents", Agent)
USER = Kind("user", "simkit.users", User)
REWARD = Kind("reward", "simkit.rewards", Reward)

AT_ONCE = 1_000_000
"""Components hold no conversation, so as many branches as there are may ask one actor at the same time."""


class Run:
    """One experiment: `async with Run(...) as run`.

    Attributes:
        id: unique and readable, e.g. `josh-20261122-143015-3f2a`; `name` is the label the user gave.
        seed: what everything random in the run is derived from.
        store: where the results are.
        tally: live counts.
        status: `running` inside the block; after it `done`, `failed` or `interrupted`.
        problem: why the episodes' faults are too many for the policy, None when they are not.
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
        progress: Progress | None = None,
    ) -> None:
        from simkit.settings import read_settings

        settings = read_settings()
        self.id = _run_id(recipe)
        self.name = name
        self.recipe = recipe
        self.seed = settings.seed if seed is None else seed
        self.concurrency = settings.concurrency if concurrency is None else concurrency
        self.policy = policy or FaultPolicy()
        self.config = dict(config or {})
        self.store = _open_store(settings.store if store is None else store)
        self.tally = Tally()
        self.status: Status = "running"
        self.problem: str | None = None
        self._progress = progress
        self._seen: frozenset[str] = frozenset()
        self._played: Mapping[str, int] = {}  # how many trials of each task there have been
        self._stop: anyio.CancelScope | None = None
        self._drawing: anyio.CancelScope | None = None
        self._scope: Scope | None = None
        self._journal: Recorder | None = None
        self._session: AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> Run:
        self._session = self._open()
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._session is not None
        return await self._session.__aexit__(kind, error, trace)

    # --- what a recipe does -------------------------------------------------------------------------------------------

    def world(self, world: str | World = "builtin", **options: Any) -> World:
        """A world by name (or as it is); options of value None are left out.

        Raises:
            ComponentNotFound: no world of that name.
            UsageError: the world does not take these options.
        """
        return load(WORLD, world, **options) if isinstance(world, str) else world

    def tasks(self, world: World, split: str, choice: str | int = "all") -> Sequence[Task]:
        """The tasks of a split that `choice` names; see `choose_tasks`."""
        return choose_tasks(world.tasks(world.check_split(split)), choice)

    def cast(
        self,
        world: World,
        *,
        agent: str | Agent | None = None,
        user: str | User | None = None,
        reward: str | Reward | None = None,
        tools: ToolServer | None = None,
    ) -> Cast:
        """Start the actors of a simulation: by name, as they are, or (None) the world's own choice.

        Raises:
            ComponentNotFound: no component of that name.
            UsageError: a component does not take its options, or the run has not been entered.
        """
        agents = _built(AGENT, agent, world.default_agent, world)
        users = _built(USER, user, world.default_user, world)
        rewards = _built(REWARD, reward, world.default_reward, world)
        server = world.tools() if tools is None else tools
        if users.interactive:
            self._give_the_terminal()
        parts = {"agent": agents, "user": users, "tools": server}
        return Cast(
            agent=self._spawn(agents, "agent"),
            user=self._spawn(users, "user"),
            tools=self._spawn(server, "tools"),
            reward=self._spawn(rewards, "reward"),
            unforkable=tuple(f"{role} `{part.name}`" for role, part in parts.items() if not part.forkable),
            deterministic=agents.deterministic,
        )

    async def play(
        self,
        supervisor: Supervisor,
        cast: Cast,
        tasks: Sequence[Task],
        *,
        trials: int = 1,
        concurrency: int | None = None,
    ) -> tuple[Episode, ...]:
        """Play every task `trials` times and return the episodes, by trial and then in the order of the tasks.

        A task played before in this run goes on with its next trial number, so that every episode has a name and a
        seed of its own: after `trials=2`, a further play of the same tasks is trial 2.

        Raises:
            UsageError: fewer than one trial or one task at once.
            NotForkable: the supervisor branches and a component of the cast cannot.
            StoreError: events could not be recorded.
        """
        if trials < 1:
            raise UsageError(f"trials is {trials}; play each task at least once")
        journal = self._entered(self._journal)
        self._record_tasks(journal, tasks)
        units = self._units(tasks, trials)
        stage = Stage(supervisor=supervisor, cast=cast, recorder=journal, tally=self.tally, policy=self.policy)
        episodes = await play_units(stage, units, self.concurrency if concurrency is None else concurrency)
        self.problem = self.policy.broken(self.tally.faulted, len(self.tally.episodes))
        return episodes

    def summary(self, **extra: Any) -> Summary:
        """Scores and counts of all episodes so far, with further named numbers of your own."""
        return summarise(self.tally.episodes, **extra)

    async def query(self, sql: str, *parameters: Any) -> QueryResult:
        """Ask the store, with everything this run has recorded so far."""
        await self._entered(self._journal).commit()
        await anyio.to_thread.run_sync(self.store.load)
        return await anyio.to_thread.run_sync(self.store.query, sql, parameters)

    def stop(self) -> None:
        """End the run now, as Ctrl-C does: what is recorded stays, the status becomes `interrupted`."""
        self._entered(self._stop).cancel()

    # --- the inside ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        try:
            async with self.store.journal(self.id, "main") as journal:
                journal.record(self._started())
                await journal.commit()
                self._journal = journal
                try:
                    async with self._background(), self._acting():
                        yield
                    self.status = self._ending()
                except anyio.get_cancelled_exc_class():
                    self.status = "interrupted"
                    raise
                except KeyboardInterrupt:
                    self.status = "interrupted"
                    raise
                except Exception:
                    self.status = "failed"
                    raise
                finally:
                    await self._finish(journal)
        except ExceptionGroup as errors:
            raise sole_error(errors) from errors
        finally:
            self._journal = self._scope = None
        await anyio.to_thread.run_sync(_load_if_free, self.store)

    @asynccontextmanager
    async def _acting(self) -> AsyncGenerator[None]:
        with anyio.CancelScope() as self._stop:
            async with open_scope() as self._scope:
                yield

    @asynccontextmanager
    async def _background(self) -> AsyncGenerator[None]:
        from simkit.store import keep_loaded

        async with anyio.create_task_group() as group:
            group.start_soon(keep_loaded, self.store.loader)
            if self._progress is not None:
                group.start_soon(self._draw, self._progress)
            yield
            group.cancel_scope.cancel()

    def _give_the_terminal(self) -> None:
        """One conversation at a time, and no progress drawn over it."""
        self.concurrency = 1
        if self._drawing is not None:
            self._drawing.cancel()

    async def _draw(self, progress: Progress) -> None:
        with anyio.CancelScope() as self._drawing:
            await progress(self.tally)

    def _ending(self) -> Status:
        if self._stop is not None and self._stop.cancel_called:
            return "interrupted"
        return "failed" if self.problem else "done"

    async def _finish(self, journal: Recorder) -> None:
        with anyio.CancelScope(shield=True):
            status = "failed" if self.status == "running" else self.status
            journal.record(RunFinished(self.id, status, self.summary().to_json(), time.time()))
            try:
                await journal.commit()
            except StoreError:
                if self.status != "failed":  # a failed run has already raised the cause
                    raise

    def _started(self) -> RunStarted:
        config = {**self.config, "seed": self.seed, "concurrency": self.concurrency}
        return RunStarted(self.id, self.name, self.recipe, self.seed, config, _version(), time.time())

    def _record_tasks(self, journal: Recorder, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.id not in self._seen:
                journal.record(_task_seen(self.id, task))
        self._seen = self._seen.union(task.id for task in tasks)

    def _units(self, tasks: Sequence[Task], trials: int) -> list[WorkUnit]:
        units: list[WorkUnit] = []
        played = dict(self._played)
        for task in [*tasks] * trials:
            trial = played.get(task.id, 0)
            played[task.id] = trial + 1
            units.append(WorkUnit(self.id, self.seed, task, trial))
        self._played = played
        return units

    def _spawn(self, component: Any, name: str) -> Any:
        return self._entered(self._scope).spawn(component, name=name, concurrency=AT_ONCE)

    def _entered(self, part: T | None) -> T:
        if part is None:
            raise UsageError("the run is not open; use it inside `async with simkit.Run(...) as run:`")
        return part


def choose_tasks(tasks: Sequence[Task], choice: str | int) -> Sequence[Task]:
    """`all`, a number (the first so many) or a slice `10-20` (tasks 10 to 19, counted from 0; `10-` to the end).

    Raises:
        UsageError: the choice is none of these, or chooses nothing.
    """
    text = str(choice).strip()
    numbers = re.fullmatch(r"(\d+)|(\d+)-(\d*)", text)
    if text != "all" and numbers is None:
        raise UsageError(f"`{text}` chooses no tasks; write a number (50), a slice (10-20, or 10- to the end) or `all`")
    if numbers is None:
        return tasks[:]
    first, start, end = numbers.groups()
    chosen = tasks[: int(first)] if first else tasks[int(start) : int(end) if end else None]
    if not chosen:
        raise UsageError(f"`{text}` chooses nothing: the split has {len(tasks)} tasks, counted from 0")
    return chosen


def _built(kind: Kind[T], wanted: str | T | None, default: str, world: World) -> T:
    if wanted is None:
        return load(kind, default, {"world": world})
    return load(kind, wanted, {"world": world}) if isinstance(wanted, str) else wanted


def _task_seen(run_id: str, task: Task) -> TaskSeen:
    goals = tuple({"key": goal.key, "detail": dict(goal.detail), "weight": goal.weight} for goal in task.goals)
    return TaskSeen(run_id, task.id, task.world, task.split, task.instructions, goals)


def _run_id(recipe: str) -> str:
    label = re.sub(r"[^a-z0-9]+", "-", recipe.lower()).strip("-") or "run"
    return f"{label}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _open_store(store: Store | Path | str) -> Store:
    from simkit.store import Store

    return Store(Path(store)) if isinstance(store, (str, Path)) else store


def _load_if_free(store: Store) -> None:
    try:
        store.load()
    except StoreBusy:
        return  # somebody reads the database; the next command loads the rest


def _version() -> str:
    try:
        return version("josh-simkit")
    except PackageNotFoundError:
        return "unknown"
