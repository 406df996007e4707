"""Seeds of a self-training experiment, played side by side: one process each, a bounded number at a time, one store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.extras import require
from simkit.recipes.scratch import make_model
from simkit.recipes.selftrain.experiment import SeedLoop
from simkit.recipes.selftrain.plan import ExperimentPlan
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.run.stages import PartOf
from simkit.run.tuning import fast_loop
from simkit.store import Store
from simkit.training.process import Message, Send, child_environment, run_in_child

BASE = "base"
"""Stage and folder of the first model, which the seeds share."""
NOTE_INTERVAL = 1.0
"""Seconds between two progress notes."""
PATIENCE = 120.0
"""Seconds that a query waits while another seed loads the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedWork:
    """Work of one process: a seed, or the first model.

    Attributes:
        store, folder: the experiment's store, and the folder for its models.
        run_id, name: the experiment's run.
        stage: the work's stage in it: `base`, `seed0`, `seed1`, ...
        seed: the seed itself.
        models: the run's model options as JSON.
        allow_incomplete: learn from readable data although lines of a journal are unreadable.
    """

    store: Path
    folder: Path
    run_id: str
    name: str
    stage: str
    seed: int
    plan: ExperimentPlan
    models: Mapping[str, Any]
    allow_incomplete: bool = False

    @property
    def start(self) -> str:
        """The model that the seeds start from."""
        return self.plan.model or str(self.folder / BASE)


# --- the experiment's process -----------------------------------------------------------------------------------------


async def play_seeds(
    run: Run, plan: ExperimentPlan, seeds: int, at_once: int, *, allow_incomplete: bool = False
) -> None:
    """Make the first model, then carry out the plan for each seed, `at_once` of them at a time.

    Finished stages are not repeated. Cancelling kills the processes; what they had finished is kept. With
    `allow_incomplete`, models learn from the readable data although lines of a journal are unreadable.

    Raises:
        UsageError: fewer than one seed, also at once; or a process's own error, or it failed.
    """
    if seeds < 1 or at_once < 1:
        raise UsageError(f"--seeds is {seeds} and --seeds-at-once is {at_once}; give at least 1 of each")
    base = SeedWork(
        store=run.store.path.absolute(),
        folder=(run.store.path / run.id).absolute(),
        run_id=run.id,
        name=run.name,
        stage=BASE,
        seed=run.seed,
        plan=plan,
        models=run.models.model_copy(update={"model": None}).to_json(),
        allow_incomplete=allow_incomplete,
    )
    if plan.model is None:
        await _play(run, [base], 1)
    await _play(run, [replace(base, stage=f"seed{number}", seed=run.seed + number) for number in range(seeds)], at_once)


async def _play(run: Run, works: list[SeedWork], at_once: int) -> None:
    left = [work for work in works if await run.finished(work.stage) is None]
    notes = {work.stage: "waiting" if work in left else "done" for work in works}
    limit = anyio.CapacityLimiter(at_once)

    async def play(work: SeedWork) -> None:
        def note(text: str) -> None:
            notes[work.stage] = text
            run.progress.note = " | ".join(f"{stage}: {each}" for stage, each in sorted(notes.items()))

        def receive(message: Message) -> None:
            note(message["note"])

        async with limit:
            note("starting")
            try:
                await run_in_child(play_in_child, work, receive, child_environment(OMP_NUM_THREADS="1"))
            except UsageError as error:
                raise type(error)(f"{work.stage}: {error}") from error
            note("done")

    async with anyio.create_task_group() as group:
        for work in left:
            group.start_soon(play, work)


# --- the processes of the seeds ---------------------------------------------------------------------------------------


def play_in_child(work: SeedWork, send: Send) -> None:
    """Play one seed, or make the first model, with one thread; sends notes about the progress.

    Raises:
        UsageError: the plan cannot be carried out, or its run is not done.
    """
    require("torch", "train").set_num_threads(1)
    anyio.run(_play_stage, work, _Notes(send), backend_options={"loop_factory": fast_loop()})


class _Notes:
    """Progress notes of a process, sent to its parent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stage = ""

    def begin(self, stage: str) -> None:
        """A stage begins, or advances."""
        self._stage = stage
        self._send({"note": stage})

    async def follow(self, progress: RunProgress) -> None:
        """Display of a run's progress: the number of finished conversations of the stage."""
        while True:
            await anyio.sleep(NOTE_INTERVAL)
            if len(progress.episodes) < progress.planned:
                self._send({"note": f"{self._stage} {len(progress.episodes)}/{progress.planned}"})


async def _play_stage(work: SeedWork, notes: _Notes) -> None:
    part_of, plan = PartOf(work.run_id, work.stage), work.plan
    async with Run(
        store=Store(work.store, patience=PATIENCE),
        name=f"{work.name or work.run_id}/{work.stage}",
        recipe="selftrain",
        seed=work.seed,
        models=ModelConfig.of(work.models),
        config={"plan": plan.to_json(), **part_of.config()},
        progress=notes.follow,
        part_of=part_of,
    ) as run:
        began, incomplete = time.process_time(), work.allow_incomplete
        if work.stage == BASE:
            make = partial(make_model, run, work.folder / BASE, plan.lessons, plan.schooling, notes.begin)
            await make(allow_incomplete=incomplete)
        else:
            folder = work.folder / work.stage
            await SeedLoop(run, plan, folder, work.start, notes.begin, allow_incomplete=incomplete).play()
        run.summary(cpu_seconds=round(time.process_time() - began, 1))
    if run.status != "done":
        raise UsageError(f"the run {run.id} is {run.status}: {run.problem}")
