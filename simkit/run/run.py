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

import anyio.to_thread
import orjson

from simkit.components.cast import Cast
from simkit.core.boundary import described
from simkit.core.events import Episode, ItemScored, Measured
from simkit.core.tasks import Task
from simkit.errors import RunStopped, UsageError
from simkit.models.config import ModelConfig
from simkit.run.accounting import UNRECORDED, UnitCounts
from simkit.run.driven import play_elsewhere
from simkit.run.engine import PlayContext, play_units
from simkit.run.request import RunOptions
from simkit.run.run_casts import RunCasts
from simkit.run.stages import PartOf
from simkit.search.base import Search, WorkUnit

if TYPE_CHECKING:
    from simkit.models.factory import ModelHost
    from simkit.models.middleware.budget import Budget
    from simkit.store import QueryResult


class Run(RunCasts):
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
        workers: processes of this machine that play the episodes, at most one for each concurrent episode; `auto` for
            one per core if the concurrency is high enough. With 1, the default, this process plays. Results do not
            depend on it.
        engine: what starts the workers: `processes` (the default), `ray` or `ray=ADDRESS` with `workers` actors (one
            per core if that is not given), or an engine.
        shard: play one share of the tasks, `3/16` for the third of sixteen, with all their trials. The id of the run
            then follows from its settings, and a shard that is started again in its store continues there.
            `simkit store merge` joins the shards.
        host: another process that holds models of the machine (`local/...`) instead of this one.
        budget: the accounts of another run, which this one shares.

    Raises:
        UsageError: a time is negative; or, on entry, a run to be resumed had another configuration: the message lists
            the differences.
    """

    @classmethod
    def resume(cls, run: str = "last", **options: Unpack[RunOptions]) -> Self:
        """Resume an earlier run, identified by its id, its name or `last`.

        Finished episodes are kept, the others are played from their beginning, and answered model calls are not made
        again. Options that are not given keep their earlier values. Faulted episodes are played again with
        `policy=FaultPolicy(retry=True)`.
        """
        return cls(resume=run, **options)

    @classmethod
    def replay(cls, run: str = "last", **options: Unpack[RunOptions]) -> Self:
        """Create a run that takes its model answers from an earlier run, identified by its id, its name or `last`.

        A call missing from that run is an error; no network request is made.
        """
        return cls(replay=run, **options)

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
        planned = tuple(tasks)  # a split may create its tasks on each access
        tasks = planned if self._sharing is None else self._sharing.share(planned)
        for task in tasks:
            cast.check(task)
        if self._sharing is not None:
            for event in self._sharing.plan(self.id, self._ledger.attempt, planned, trials):
                journal.record(event)
        self._units.see(tasks, journal)
        units = self._units.of(tasks, trials)
        found = self._units.kept(units, search.name)
        kept = {name: episode for name, episode in found.items() if self.policy.keeps(episode)}
        self.progress.keep(kept.values())
        self._ledger.plan(units, kept, journal)
        context = PlayContext(search=search, cast=cast, recorder=journal, progress=self.progress, policy=self.policy)
        left = [unit for unit in units if unit.episode_id not in kept]
        at_once = self.concurrency if concurrency is None else concurrency
        with self._accounting_for(left):
            played = await self._played(context, left, at_once)
        self.problem = self.policy.broken(self.progress.faulted, len(self.progress.episodes))
        fault = self.progress.first_fault() if self.policy.raises else None
        if fault is not None:
            raise fault
        found = {**kept, **{episode.episode_id: episode for episode in played}}
        return tuple(found[unit.episode_id] for unit in units if unit.episode_id in found)

    async def _played(self, context: PlayContext, units: Sequence[WorkUnit], at_once: int) -> tuple[Episode, ...]:
        """Play units in this process, or with workers."""
        engine = self._engine_for_play()
        if engine is None:
            return await play_units(context, units, at_once)
        return await play_elsewhere(self._driven(context), engine, units, at_once)

    def part(
        self,
        stage: str,
        *,
        recipe: str = "part",
        seed: int | None = None,
        models: ModelConfig | None = None,
        config: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        host: ModelHost | None = None,
        budget: Budget | None = None,
    ) -> Run:
        """A run for one stage of this one (`async with run.part("round1/after") as part`), in the same store.

        Its id is derived from the stage, so a stage that was killed continues where it stopped. It uses this run's
        models unless others are given; `ls` lists it with `--parts`. `host` and `budget` are those of `Run`.

        Raises:
            UsageError: the stage's name is invalid, or this run is a shard; or, on entry, the stage was started with
                another configuration.
        """
        if self._sharing is not None:
            raise UsageError(
                f"the run has stages (`{stage}`), which build on each other, so it cannot be played in shards; leave "
                "--shard out, or shard the runs that it consists of"
            )
        place = PartOf(self.id, stage)
        return Run(
            store=self.store,
            name=f"{self.name or self.id}/{stage}",
            recipe=recipe,
            seed=self.seed if seed is None else seed,
            concurrency=self.concurrency if concurrency is None else concurrency,
            policy=self.policy,
            config={**(config or {}), **place.config()},
            progress=None if self._display is None else self.progress.stage,
            models=self.models if models is None else models,
            allowances=self._allowances,
            durable=self.durable,
            taps=self._taps,
            part_of=place,
            ask_timeout=self.ask_timeout,
            ended=self._stage_ended,
            folders=self.folders,
            workers=self.workers,
            engine=self._engine or self.engine_name,
            host=host,
            budget=budget,
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

    def _repr_html_(self) -> str:
        from simkit.run.notebook import run_html
        from simkit.store.watchers import watched_at

        known = vars(self)
        name = f"{known.get('id', 'run')} {known.get('name', '')}"
        viewer = watched_at(self.store.path) if "store" in known else None
        page = f"{viewer}/runs/{self.id}" if viewer else ""
        return str(run_html(name.strip(), self.status if "id" in known else "not entered", self.summary(), page))

    async def query(
        self, sql: str, *parameters: Any, runs: Sequence[str] | None = None, scoped: bool = False
    ) -> QueryResult:
        """Query the store, including everything that this run has recorded so far. A database held by another process
        does not make the run fail; see `Store.reading`.

        Args:
            sql: the query.
            parameters: values of its placeholders.
            runs: ids of the runs that the query concerns; None for all in the store.
            scoped: let tables and views hold the rows of `runs` alone, so that the answer costs no more in a big store.

        Raises:
            UsageError: the SQL is wrong.
            StoreError: the store cannot be read.
        """
        await self.commit()
        return await anyio.to_thread.run_sync(partial(self.store.query, sql, parameters, runs=runs, scoped=scoped))

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
