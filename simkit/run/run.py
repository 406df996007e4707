"""A run: one experiment with its name, seed, store and actors.

    async with simkit.Run(name="first try", seed=7) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent="scripted,error_rate=0.2")
        await run.play(Rollout(), cast, run.tasks(world, "test", "50"), trials=2)
        print(run.summary())

Leaving the block ends the actors, writes the last line of the journal and loads the store, even after an error.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio
import anyio.to_thread
import orjson

from simkit.components.agent import Agent
from simkit.components.cast import Cast
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.components.user import User
from simkit.components.world import World, choose_tasks, load_world
from simkit.core.boundary import described
from simkit.core.events import Episode, ItemScored, Measured
from simkit.core.tasks import Task
from simkit.errors import RunStopped, UsageError
from simkit.models.config import ModelConfig
from simkit.run.accounting import UNRECORDED, UnitCounts
from simkit.run.casting import CastRequest, ModelRequest, build_players, choose_agent, needed_models
from simkit.run.engine import PlayContext, play_units
from simkit.run.lifetime import Lifetime
from simkit.run.request import RunOptions
from simkit.run.stages import PartOf
from simkit.search.base import Search, WorkUnit

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.store import QueryResult


class Run(Lifetime):
    """One experiment: `async with Run(...) as run`. It accesses no files until it is entered.

    Attributes:
        id: unique and readable, e.g. `josh-20261122-143015-3f2a`; `name` is the label that the user gave.
        seed: seed that all randomness in the run is derived from.
        store: the store with the results.
        progress: live counts.
        models: configuration of the models.
        status: `running` inside the block; afterwards `done`, `failed`, `interrupted`, or `stopped` by a budget, an
            endpoint or a replay that lacks a call.
        problem: the reason why it is not `done`: what stopped it, what failed, and the number of planned episodes that
            were not played.
        abandoned: whether a component that did not end was abandoned; a thread or a task of it may still be running.

    Args:
        resume, replay: see `Run.resume` and `Run.replay`, the preferred forms.
        models: configuration of the models; it overrides the environment.
        config: additional JSON configuration to record.
        allowances: budgets of each episode and branch, reserved before each call; `models` limits the whole run.
        durable: sync every acknowledged answer to disk, so that paid answers also survive a power failure.
        taps: callbacks for every event.
        part_of: the run that this run is a stage of; see `Run.part`.
        ask_timeout: maximum seconds per answer of a component, not counting the time it waits for models. A component
            that exceeds it is cancelled and faulted. None (or 0) for no limit.
        grace: seconds that a cancelled component gets to finish before it is abandoned.
        ended: callback for the id, the status and the problem of the run when it has ended.
        folders: base folders for relative file names of components; None for the current folder, or for a resumed run
            the folder where it was started.

    Raises:
        UsageError: a time is negative; or, on entry, a run to be resumed had another configuration: the message lists
            the differences.
    """

    @classmethod
    def resume(cls, run: str = "last", **options: Unpack[RunOptions]) -> Self:
        """Resume an earlier run, identified by its id, its name or `last`.

        Finished episodes are kept, the others are played from their beginning, and answered model calls are not made
        again. Options that are not given keep their earlier values.
        """
        return cls(resume=run, **options)

    @classmethod
    def replay(cls, run: str = "last", **options: Unpack[RunOptions]) -> Self:
        """Create a run that takes its model answers from an earlier run, identified by its id, its name or `last`.

        A call missing from that run is an error; no network request is made.
        """
        return cls(replay=run, **options)

    def world(self, world: str | World = "builtin", **options: Any) -> World:
        """Load a world by name; a world object is returned unchanged. Options with the value None are omitted.

        Raises:
            ComponentNotFound: no world of that name.
            UsageError: the world does not accept these options.
        """
        return load_world(world, self.folders.of(world), **options) if isinstance(world, str) else world

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
        judge_model: str | None = None,
        judge_options: ModelConfig | None = None,
    ) -> Cast:
        """Start the actors of a simulation, given by name, as objects, or as None for the world's default.

        An agent or user whose constructor takes `model` gets the model named for it: the one given here, else the
        run's (`Run(models=...)`, `--model`, SIMKIT_MODEL). A user without a model of its own gets the agent's. If a
        model is named but no agent (or user), `function_calling` (or `goal`) is used; `react` instead of
        `function_calling` for a model that cannot be given tools, which a note of the run says.

        A model in this process is loaded in the event loop, which takes seconds; `open_cast` loads it in a thread.

        Args:
            model, user_model: `openai/NAME`, `scripted/TEXT` or `path/to/file.py:Class`.
            options, user_options: defaults for the agent's and the user's model; the run's configuration overrides
                them. `user_options` defaults to `options`.
            judge_model: the model that the reward asks, as an argument `judge` of its constructor; None for no judge.
            judge_options: its endpoint and sampling; None for the run's own, at the temperature 0.

        Raises:
            ComponentNotFound: no component of that name.
            UsageError: a component does not accept its options or lacks a model, no component uses a named model, or
                the run has not been entered.
        """
        wanted = CastRequest(agent=agent, user=user, reward=reward, tools=tools, folders=self.folders)
        requested = self._requested(model, user_model, options, user_options, judge_model, judge_options)
        return self._cast(world, wanted, requested)

    def _cast(self, world: World, wanted: CastRequest, requested: ModelRequest) -> Cast:
        scope = self._actors
        players = build_players(world, wanted, requested)
        if players.user.interactive and self._background is not None:
            self._background.give_the_terminal()
        return players.cast(scope, world.check_task)

    async def open_cast(
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
        judge_model: str | None = None,
        judge_options: ModelConfig | None = None,
    ) -> Cast:
        """Like `cast`, but models in this process are loaded in a thread, so that the event loop is never blocked.

        If it is cancelled while a model is loaded, it ends at once, and the run is `abandoned`: the thread goes on.
        """
        wanted = CastRequest(agent=agent, user=user, reward=reward, tools=tools, folders=self.folders)
        requested = self._requested(model, user_model, options, user_options, judge_model, judge_options)
        for spec, config in needed_models(world, wanted, requested):
            await self._load(spec, config)
        return self._cast(world, wanted, requested)

    def _requested(
        self,
        model: str | None,
        user_model: str | None,
        options: ModelConfig | None,
        user_options: ModelConfig | None,
        judge_model: str | None,
        judge_options: ModelConfig | None,
    ) -> ModelRequest:
        """The models of a cast: those named for it, else the run's."""
        named = {"model": model, "user_model": user_model}
        config = self.models.model_copy(update={name: spec for name, spec in named.items() if spec is not None})
        return ModelRequest(
            config=config,
            open=self._model,
            defaults=options,
            user_defaults=user_options,
            judge=judge_model,
            judge_config=judge_options,
            agent=lambda agent, chosen: choose_agent(self._opened_models(), self._notes.append, agent, chosen),
        )

    async def open_chat_model(self, spec: str, config: ModelConfig | None = None) -> ChatModel:
        """Like `chat_model`, but a model in this process is loaded in a thread; see `open_cast`."""
        await self._load(spec, self.models if config is None else config)
        return self.chat_model(spec, config)

    async def _load(self, spec: str, config: ModelConfig) -> None:
        """Load a model of this run in a thread."""
        try:
            await self._opened_models().load(self.folders.absolute(spec), config)
        except anyio.get_cancelled_exc_class():
            self.abandoned = True
            raise

    def chat_model(self, spec: str, config: ModelConfig | None = None) -> ChatModel:
        """A model for direct calls by a recipe: recorded, within the run's budget, and never called twice for the same
        request when the run is resumed.

        Args:
            spec: as in `--model`.
            config: endpoint, sampling and limits; None for the run's own.

        Raises:
            UsageError: the name, the configuration or the environment is invalid, or the run has not been entered.
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
        """Play every task `trials` times and return the episodes, ordered by trial and then by task.

        Episodes of units that were not played are missing: the run is then not `done`, and the view `units` has the
        reasons.

        A task that this run has already played continues with its next trial number, so that every episode has its own
        name and seed: after `trials=2`, a further play of the same tasks is trial 2.

        Raises:
            UsageError: `trials` or the concurrency is less than 1.
            NotForkable: the search branches, but a component of the cast cannot be forked.
            Fault: a component's own check of a task raised an error other than `UsageError`; or an episode faulted,
                and the policy is to stop at the first fault. The component's exception is its `__cause__`.
            RunStopped: a budget is used up, an endpoint is down, or a replay lacks a call.
            StoreError: events could not be recorded.
        """
        if trials < 1:
            raise UsageError(f"trials is {trials}; play each task at least once")
        journal = self._journal
        tasks = tuple(tasks)  # a split may create its tasks on each access
        for task in tasks:
            cast.check(task)
        self._units.see(tasks, journal)
        units = self._units.of(tasks, trials)
        kept = self._units.kept(units, search.name)
        self.progress.keep(kept.values())
        self._ledger.plan(units, kept, journal)
        context = PlayContext(search=search, cast=cast, recorder=journal, progress=self.progress, policy=self.policy)
        left = [unit for unit in units if unit.episode_id not in kept]
        at_once = self.concurrency if concurrency is None else concurrency
        with self._accounting_for(left):
            played = await play_units(context, left, at_once)
        self.problem = self.policy.broken(self.progress.faulted, len(self.progress.episodes))
        fault = self.progress.first_fault() if self.policy.raises else None
        if fault is not None:
            raise fault
        found = {**kept, **{episode.episode_id: episode for episode in played}}
        return tuple(found[unit.episode_id] for unit in units if unit.episode_id in found)

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

        Its id is derived from the stage, so a stage that was killed continues where it stopped. It uses this run's
        models unless others are given; `ls` lists it with `--parts`.

        Raises:
            UsageError: the stage's name is invalid; or, on entry, the stage was started with another configuration.
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
            progress=self._display,
            models=self.models if models is None else models,
            allowances=self._allowances,
            durable=self.durable,
            taps=self._taps,
            part_of=place,
            ask_timeout=self.ask_timeout,
            ended=self._stage_ended,
            folders=self.folders,
        )

    async def finished(self, stage: str) -> Mapping[str, Any] | None:
        """The summary of a finished stage; None if the stage is not done."""
        part = PartOf(self.id, stage).id
        found = await self.query("select summary from runs where run_id = ? and status = 'done'", part, runs=(part,))
        return orjson.loads(found.rows[0][0]) if found.rows else None

    def measure(self, stage: str, step: int, /, **values: float) -> None:
        """Record numbers of a stage at a step, e.g. `run.measure("train", 20, loss=0.71)`; in SQL: `from metrics`."""
        self._journal.record(Measured(self.id, stage, step, values, time.time()))

    def score_item(
        self, suite: str, item: str, /, *, trial: int = 0, detail: Mapping[str, Any] | None = None, **metrics: float
    ) -> None:
        """Record the scores of one item of a non-conversational evaluation; in SQL: `from item_scores`."""
        journal, now = self._journal, time.time()
        for metric, value in metrics.items():
            journal.record(ItemScored(self.id, suite, item, metric, value, now, trial, detail))

    async def query(self, sql: str, *parameters: Any, runs: Sequence[str] | None = None) -> QueryResult:
        """Query the store, including everything that this run has recorded so far. A database held by another process
        does not make the run fail; see `Store.reading`.

        Args:
            sql: the query.
            parameters: values of its placeholders.
            runs: ids of the runs that the query concerns; None for all in the store.

        Raises:
            UsageError: the SQL is wrong.
            StoreError: the store cannot be read.
        """
        await self.commit()
        return await anyio.to_thread.run_sync(partial(self.store.query, sql, parameters, runs=runs))

    async def commit(self) -> None:
        """Wait until everything this run has recorded is in its journal, where every reader of the store can see it.

        Raises:
            StoreError: the journal could not be written.
        """
        await self._journal.commit()

    def note(self, *notes: str) -> None:
        """Add notes for readers of the results; the command line prints them at the end."""
        self._notes += notes

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes without duplicates; after the end also warnings from loading the database."""
        return tuple(dict.fromkeys((*self._notes, *self._loading)))

    @property
    def account(self) -> UnitCounts:
        """Counts of planned episodes by their state."""
        return self._ledger.account()

    @contextmanager
    def _accounting_for(self, units: Sequence[WorkUnit]) -> Generator[None]:
        """Context for playing units: on exit, unfinished units are recorded with a reason, unless all was cancelled."""
        progress, reasons = self.progress, dict[str, str]()
        try:
            yield
            reasons = {unit.episode_id: progress.missed.get(unit.episode_id, UNRECORDED) for unit in units}
        except RunStopped as stopped:
            self._stopped_by = stopped
            reasons = _because(units, f"the run was stopped: {stopped}")
            raise
        except Exception as error:
            reasons = _because(units, f"the run failed: {described(error)}")
            raise
        finally:
            counted = {episode.episode_id for episode in progress.episodes}
            for unit in units:
                episode = self._ledger.ended(unit.episode_id)
                if episode is not None and episode.episode_id not in counted:  # worker cancelled afterwards
                    progress.finished(episode)
            self._ledger.not_played(reasons, self._journal)


def _because(units: Sequence[WorkUnit], reason: str) -> dict[str, str]:
    return {unit.episode_id: reason for unit in units}
