"""A run: one experiment with its name, seed, store and actors.

    async with simkit.Run(name="first try", seed=7) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent="scripted,error_rate=0.2")
        await run.play(Rollout(), cast, run.tasks(world, "test", "50"), trials=2)
        print(run.summary())

Leaving the block ends the actors, writes the last line of the journal and loads the store, whatever happened inside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import anyio.to_thread
import orjson

import simkit
from simkit.actors.deadlines import GRACE, Patience
from simkit.components.agent import Agent
from simkit.components.cast import Cast
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.components.user import User
from simkit.components.world import World, choose_tasks, load_world
from simkit.core.events import Episode, ItemScored, Measured, RunStarted
from simkit.core.limits import ASK_TIMEOUT
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.component_paths import Places
from simkit.run.accounting import Account, Units
from simkit.run.casting import Wanted, WantedModels, build_players
from simkit.run.engine import FaultPolicy, Stage, Tally, play_units
from simkit.run.observers import Tap
from simkit.run.request import Asked, RunOptions, Settled
from simkit.run.resume import Origin
from simkit.run.session import Ended, Opening, Progress, Session, Status
from simkit.run.stages import PartOf
from simkit.run.summary import Summary, summarise
from simkit.search.base import Search

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.middleware.budget import Allowances
    from simkit.store import QueryResult, Store


class Run:
    """One experiment: `async with Run(...) as run`; until it is entered it touches no file.

    Attributes:
        id: unique and readable, e.g. `josh-20261122-143015-3f2a`; `name` is the label the user gave.
        seed: what everything random in the run is derived from.
        store: where the results are.
        tally: live counts.
        models: configuration of the models.
        status: `running` inside the block; after it `done`, `failed`, `interrupted`, or `stopped` by a budget, an
            endpoint or a replay that misses a call.
        problem: why it is not `done`: what stopped it, what failed, and how many planned episodes were not played.

    Args:
        resume, replay: as `Run.resume` and `Run.replay`, which say it more plainly.
        models: configuration of the models; it wins over that of the environment.
        config: what to record of the run besides; JSON.
        allowances: what each episode and branch may use, reserved before each call; `models` bounds the whole run.
        durable: bring every acknowledged answer to the disk itself: what was paid for survives a power cut too.
        taps: told of every event.
        part_of: the run whose stage this is, see `Run.part`.
        ask_timeout: seconds a component may take for one answer, the time it waits for models not counted; then it is
            cancelled, and that is its fault. None (or 0) for no limit.
        grace: seconds that a component may go on after it was cancelled, before it is left behind.
        places: where the files that components are named by count from; None for the current folder, and for a resumed
            run where it was started.
        ended: told of the status and the problem when the run has ended.

    Raises:
        UsageError: a time is negative; or, on entering, a run to be resumed was configured otherwise: the message lists
            what differs.
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
        places: Places | None = None,
    ) -> None:
        from simkit.run.settings import read_settings

        settings = read_settings()
        self._asked = Asked(
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
            places=places,
        )
        self.part_of = part_of
        self.concurrency = settings.concurrency if concurrency is None else concurrency
        self.policy = policy or FaultPolicy()
        self.durable = durable
        self.ask_timeout = ask_timeout
        self.tally = Tally()
        self._patience = Patience(ask_timeout or None, grace)
        self._allowances = allowances
        self._taps = tuple(taps)
        self._reported: dict[str, Any] = {}
        self._notes: list[str] = []
        self._progress = progress
        self._ended = ended
        self._units = Units("", 0)
        self._session = Session(self.tally)
        self._entered: AbstractAsyncContextManager[None] | None = None
        if not self._asked.elsewhere:
            self._name(Origin())

    @classmethod
    def resume(cls, run: str = "last", **options: Unpack[RunOptions]) -> Run:
        """A run that goes on with an earlier one, named by its id, its name or `last`.

        Its finished episodes are kept, the others are played from their beginning, and no model call that was answered
        is made again. Options that are not given are as they were.
        """
        return cls(resume=run, **options)

    @classmethod
    def replay(cls, run: str = "last", **options: Unpack[RunOptions]) -> Run:
        """A run whose model calls are answered by those of an earlier one, named by its id, its name or `last`.

        A call that is not recorded there is an error, and nothing is asked over the network.
        """
        return cls(replay=run, **options)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Say why an attribute is not there yet."""
            if name in ("id", "name", "recipe", "seed", "models", "places", "config", "store"):
                raise AttributeError(f"`{name}` of a run is known once it is entered: `async with` it first")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def status(self) -> Status:
        """How the run is doing."""
        return self._session.status

    @property
    def problem(self) -> str | None:
        """Why it was stopped, or has failed."""
        return self._session.problem

    async def __aenter__(self) -> Run:
        opening = await anyio.to_thread.run_sync(self._look_up)
        self._entered = self._session.open(opening)
        await self._entered.__aenter__()
        self._units = Units(self.id, self.seed, self._session.past)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._entered is not None
        return await self._entered.__aexit__(kind, error, trace)

    # --- what a recipe does -------------------------------------------------------------------------------------------

    def world(self, world: str | World = "builtin", **options: Any) -> World:
        """A world by name (or as it is); options of value None are left out.

        Raises:
            ComponentNotFound: no world of that name.
            UsageError: the world does not take these options.
        """
        return load_world(world, self.places.of(world), **options) if isinstance(world, str) else world

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
        model: str | None = None,
        user_model: str | None = None,
        options: ModelConfig | None = None,
        user_options: ModelConfig | None = None,
    ) -> Cast:
        """Start the actors of a simulation: by name, as they are, or (None) the world's own choice.

        An agent or user whose constructor takes `model` gets the model named for it: the one given here, else the
        run's (`Run(models=...)`, `--model`, SIMKIT_MODEL). A user for whom none is named gets the agent's. When a model
        is named and no agent (or user), `function_calling` (or `goal`) plays.

        Args:
            model, user_model: `openai/NAME`, `scripted/TEXT` or `path/to/file.py:Class`.
            options, user_options: defaults of the agent's and of the user's model; what the run configures overrides
                them. The user's are the agent's when None.

        Raises:
            ComponentNotFound: no component of that name.
            UsageError: a component does not take its options or lacks a model, a model is named that nobody asks, or
                the run has not been entered.
        """
        scope = self._session.scope
        named = {"model": model, "user_model": user_model}
        config = self.models.model_copy(update={name: spec for name, spec in named.items() if spec is not None})
        players = build_players(
            world,
            Wanted(agent=agent, user=user, reward=reward, tools=tools, places=self.places),
            WantedModels(config=config, open=self._model, defaults=options, user_defaults=user_options),
        )
        if players.user.interactive:
            self._session.give_the_terminal()
        return players.cast(scope)

    def chat_model(self, spec: str, config: ModelConfig | None = None) -> ChatModel:
        """A model of this run for a recipe that asks it itself: recorded, within the run's budget, never asked twice.

        Args:
            spec: as in `--model`.
            config: how it is reached, sampled and limited; None for the run's own.

        Raises:
            UsageError: the name, the configuration or the environment cannot be used, or the run has not been entered.
        """
        return self._model(spec, self.models if config is None else config)

    async def play(
        self,
        search: Search,
        cast: Cast,
        tasks: Sequence[Task],
        *,
        trials: int = 1,
        concurrency: int | None = None,
    ) -> tuple[Episode, ...]:
        """Play every task `trials` times and return the episodes, by trial and then in the order of the tasks.

        Those of units that were not played are missing: the run then is not `done`, and the view `units` has the reason
        of each.

        A task played before in this run goes on with its next trial number, so that every episode has a name and a
        seed of its own: after `trials=2`, a further play of the same tasks is trial 2.

        Raises:
            UsageError: fewer than one trial or one task at once.
            NotForkable: the search branches and a component of the cast cannot.
            Fault: a component's own check of a task raised something else than a `UsageError`.
            RunStopped: a budget is used up, an endpoint is down, or a replay misses a call.
            StoreError: events could not be recorded.
        """
        if trials < 1:
            raise UsageError(f"trials is {trials}; play each task at least once")
        journal = self._session.journal
        tasks = tuple(tasks)  # a split may make a task anew each time it is looked at
        for task in tasks:
            cast.check(task)
        self._units.see(tasks, journal)
        units = self._units.of(tasks, trials)
        kept = self._units.kept(units, search.name)
        self.tally.keep(kept.values())
        self._session.ledger.plan(units, kept, journal)
        stage = Stage(search=search, cast=cast, recorder=journal, tally=self.tally, policy=self.policy)
        left = [unit for unit in units if unit.episode_id not in kept]
        at_once = self.concurrency if concurrency is None else concurrency
        with self._session.accounting_for(left):
            played = await play_units(stage, left, at_once)
        self._session.problem = self.policy.broken(self.tally.faulted, len(self.tally.episodes))
        found = {**kept, **{episode.episode_id: episode for episode in played}}
        return tuple(found[unit.episode_id] for unit in units if unit.episode_id in found)

    def summary(self, **extra: Any) -> Summary:
        """Scores and counts of all episodes so far, with further named numbers of your own, which the store keeps."""
        self._reported |= extra
        return summarise(self.tally.episodes, self._session.ledger.account(), **self._reported)

    def part(
        self,
        stage: str,
        *,
        recipe: str = "part",
        seed: int | None = None,
        models: ModelConfig | None = None,
        config: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> Run:
        """A run for one stage of this one (`async with run.part("round1/after") as part`), in the same store.

        Its id follows from the stage: a stage that was killed goes on where it was. Its models are this run's unless
        others are given; `ls` lists it with `--parts`.

        Raises:
            UsageError: the stage's name cannot be used; or, on entering, it was begun with another configuration.
        """
        place = PartOf(self.id, stage)
        return Run(
            store=self.store,
            name=f"{self.name or self.id}/{stage}",
            recipe=recipe,
            seed=self.seed if seed is None else seed,
            concurrency=self.concurrency if concurrency is None else concurrency,
            policy=self.policy,
            config={**(config or {}), **place.config()},
            progress=self._progress,
            models=self.models if models is None else models,
            allowances=self._allowances,
            durable=self.durable,
            taps=self._taps,
            part_of=place,
            ask_timeout=self.ask_timeout,
            ended=self._session.part_ended,
            places=self.places,
        )

    async def finished(self, stage: str) -> Mapping[str, Any] | None:
        """The summary of a stage that is done, None when it is still to be done."""
        part = PartOf(self.id, stage).id
        found = await self.query("select summary from runs where run_id = ? and status = 'done'", part, runs=(part,))
        return orjson.loads(found.rows[0][0]) if found.rows else None

    def measure(self, stage: str, step: int, /, **values: float) -> None:
        """Record numbers of a stage at a step, e.g. `run.measure("train", 20, loss=0.71)`; in SQL: `from metrics`."""
        self._session.journal.record(Measured(self.id, stage, step, values, time.time()))

    def score_item(
        self, suite: str, item: str, /, *, trial: int = 0, detail: Mapping[str, Any] | None = None, **metrics: float
    ) -> None:
        """Record the scores of one question of an evaluation that is no conversation; in SQL: `from item_scores`."""
        journal, now = self._session.journal, time.time()
        for metric, value in metrics.items():
            journal.record(ItemScored(self.id, suite, item, metric, value, now, trial, detail))

    async def query(self, sql: str, *parameters: Any, runs: Sequence[str] | None = None) -> QueryResult:
        """Ask the store, with everything this run has recorded so far; another process that holds the database cannot
        fail a run, see `Store.reading`.

        Args:
            runs: ids of the runs that the question is about; None for all in the store.

        Raises:
            UsageError: the SQL is wrong.
            StoreError: the store cannot be read.
        """
        await self.commit()
        return await anyio.to_thread.run_sync(partial(self.store.query, sql, parameters, runs=runs))

    async def commit(self) -> None:
        """Wait until everything this run has recorded is in its journal, where every reader of the store finds it.

        Raises:
            StoreError: it could not be written.
        """
        await self._session.journal.commit()

    def note(self, *notes: str) -> None:
        """Keep something that whoever reads the results must know; the command line prints it at the end."""
        self._notes += notes

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noted, each once; at the end also whether the database could be loaded."""
        return tuple(dict.fromkeys((*self._notes, *self._session.notes)))

    @property
    def account(self) -> Account:
        """How many episodes were planned, and what became of them."""
        return self._session.ledger.account()

    @property
    def is_open(self) -> bool:
        """Whether its journal is open."""
        return self._session.is_open

    @property
    def abandoned(self) -> bool:
        """Whether a component was left behind that would not end: a thread or a task of it may still be going."""
        return self._session.abandoned

    def write_off(self) -> str:
        """Record the end of a run that does not end by itself, and say what holds it up.

        For another thread of a process that is about to be left: the run cannot go on after it.
        """
        return self._session.write_off()

    def stop(self) -> None:
        """End the run now, as Ctrl-C does: what is recorded stays, the status becomes `interrupted`."""
        self._session.stop()

    # --- the inside ---------------------------------------------------------------------------------------------------

    def _model(self, spec: str, config: ModelConfig) -> ChatModel:
        return self._session.model(self.places.absolute(spec), config)

    def _started(self, attempt: int) -> RunStarted:
        number, now = self._session.number, time.time()
        return RunStarted(
            self.id, self.name, self.recipe, self.seed, self.config, simkit.__version__, now, attempt, number
        )

    def _look_up(self) -> Opening:
        """Open the store and read where the run comes from; runs in a thread."""
        asked = self._asked
        self.store = store = _open_store(asked.store)
        resume = asked.part_of.begun(store) if asked.part_of else asked.resume
        origin = Origin.find(store, resume, asked.replay)
        if asked.elsewhere:
            self._name(origin)
        settled = Settled(self.id, self.name, self.recipe, self.seed, self.models, self.places)
        self.config = origin.checked(asked.configured(settled, self.concurrency, origin))
        return Opening(
            run_id=self.id,
            store=store,
            origin=origin,
            models=self.models,
            started=self._started,
            summary=lambda: self.summary().to_json(),
            allowances=self._allowances,
            taps=self._taps,
            progress=self._progress,
            patience=self._patience,
            ended=self._ended,
            durable=self.durable,
        )

    def _name(self, origin: Origin) -> None:
        """Take over what the run is called and what it is derived from."""
        settled = self._asked.settled(origin)
        self.id, self.name, self.recipe, self.seed = settled.id, settled.name, settled.recipe, settled.seed
        self.models, self.places = settled.models, settled.places


def _open_store(store: Store | Path | str) -> Store:
    from simkit.store import Store

    return Store(Path(store)) if isinstance(store, (str, Path)) else store
