"""Seeds of a self-training experiment, played side by side: one process each, a bounded number at a time, one store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.extras import require
from simkit.recipes.selftrain.experiment import ExperimentPlan, SeedLoop
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.run.stages import PartOf
from simkit.run.tuning import fast_loop
from simkit.store import Store
from simkit.training.process import Message, Send, child_environment, run_in_child

NOTE_INTERVAL = 1.0
"""Seconds between two progress notes."""
PATIENCE = 120.0
"""Seconds that a query waits while another seed loads the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedWork:
    """Work of one seed's process.

    Attributes:
        store, folder: the experiment's store, and the folder for the seed's models.
        run_id, name: the experiment's run.
        number, seed: the seed's number, counted from 0, and the seed itself.
        models: the run's model options as JSON.
        allow_incomplete: learn from readable data although lines of a journal are unreadable.
    """

    store: Path
    folder: Path
    run_id: str
    name: str
    number: int
    seed: int
    plan: ExperimentPlan
    models: Mapping[str, Any]
    allow_incomplete: bool = False

    @property
    def stage(self) -> str:
        """Name of the seed's stage in the experiment."""
        return f"seed{self.number}"


# --- the experiment's process -----------------------------------------------------------------------------------------


async def play_seeds(
    run: Run, plan: ExperimentPlan, seeds: int, at_once: int, *, allow_incomplete: bool = False
) -> None:
    """Carry out the plan for each seed, `at_once` of them at a time; finished seeds are not repeated.

    Cancelling kills the processes; what they had finished is kept. With `allow_incomplete`, models learn from the
    readable data although lines of a journal are unreadable.

    Raises:
        UsageError: fewer than one seed, also at once; or a seed's own error, or its process failed.
    """
    if seeds < 1 or at_once < 1:
        raise UsageError(f"--seeds is {seeds} and --seeds-at-once is {at_once}; give at least 1 of each")
    folder = (run.store.path / run.id).absolute()
    works = [
        SeedWork(
            store=run.store.path.absolute(),
            folder=folder / f"seed{number}",
            run_id=run.id,
            name=run.name,
            number=number,
            seed=run.seed + number,
            plan=plan,
            models=run.models.model_copy(update={"model": None}).to_json(),
            allow_incomplete=allow_incomplete,
        )
        for number in range(seeds)
    ]
    left = [work for work in works if await run.finished(work.stage) is None]
    notes = {work.number: "waiting" if work in left else "done" for work in works}
    limit = anyio.CapacityLimiter(at_once)
    async with anyio.create_task_group() as group:
        for work in left:
            group.start_soon(partial(_play, run, work, notes, limit))


async def _play(run: Run, work: SeedWork, notes: dict[int, str], limit: anyio.CapacityLimiter) -> None:
    def note(text: str) -> None:
        notes[work.number] = text
        run.progress.note = " | ".join(f"seed {number}: {text}" for number, text in sorted(notes.items()))

    def receive(message: Message) -> None:
        note(message["note"])

    async with limit:
        note("starting")
        try:
            await run_in_child(play_in_child, work, receive, child_environment(OMP_NUM_THREADS="1"))
        except UsageError as error:
            raise type(error)(f"{work.stage}: {error}") from error
        note("done")


# --- the seed's process -----------------------------------------------------------------------------------------------


def play_in_child(work: SeedWork, send: Send) -> None:
    """Play one seed with one thread; sends notes about its progress.

    Raises:
        UsageError: the plan cannot be carried out, or its run is not done.
    """
    require("torch", "train").set_num_threads(1)
    anyio.run(_play_seed, work, _Notes(send), backend_options={"loop_factory": fast_loop()})


class _Notes:
    """Progress notes of a seed, sent to the parent process."""

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


async def _play_seed(work: SeedWork, notes: _Notes) -> None:
    part_of = PartOf(work.run_id, work.stage)
    async with Run(
        store=Store(work.store, patience=PATIENCE),
        name=f"{work.name or work.run_id}/{work.stage}",
        recipe="selftrain",
        seed=work.seed,
        models=ModelConfig.of(work.models),
        config={"plan": work.plan.to_json(), **part_of.config()},
        progress=notes.follow,
        part_of=part_of,
    ) as run:
        began = time.process_time()
        await SeedLoop(run, work.plan, work.folder, notes.begin, allow_incomplete=work.allow_incomplete).play()
        run.summary(cpu_seconds=round(time.process_time() - began, 1))
    if run.status != "done":
        raise UsageError(f"the seed's run {run.id} is {run.status}: {run.problem}")
