"""Seeds of a self-training experiment, played side by side: one process each, a bounded number at a time, one store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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
from simkit.training.process import Ask, child_environment, run_in_processes

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
        store: folder of the experiment's store.
        part: the work's stage in the experiment: `base`, `seed0`, `seed1`, ...
        name: name of the experiment.
        seed: the seed itself.
        models: the run's model options as JSON, without keys.
    """

    store: Path
    part: PartOf
    name: str
    seed: int
    plan: ExperimentPlan
    models: Mapping[str, Any]


# --- the experiment's process -----------------------------------------------------------------------------------------


async def play_seeds(run: Run, plan: ExperimentPlan) -> None:
    """Make the first model, then carry out the plan for each seed, some of them at a time.

    Finished stages are not repeated. Cancelling kills the processes; what they had finished is kept.

    Raises:
        UsageError: a process's own error, or it failed.
    """
    base = SeedWork(
        store=run.store.path.absolute(),
        part=PartOf(run.id, BASE),
        name=run.name or run.id,
        seed=run.seed,
        plan=plan,
        models=run.models.model_copy(update={"model": None}).to_json(),
    )
    if plan.model is None:
        await _play(run, [base])
    numbers = range(plan.seeds)
    await _play(run, [replace(base, part=PartOf(run.id, f"seed{n}"), seed=run.seed + n) for n in numbers])


async def _play(run: Run, works: list[SeedWork]) -> None:
    left = [work for work in works if await run.finished(work.part.stage) is None]
    notes = {work.part.stage: "waiting" if work in left else "done" for work in works}
    limit = anyio.CapacityLimiter(works[0].plan.seeds_at_once)

    async def play(work: SeedWork) -> None:
        async def note(text: str) -> None:
            notes[work.part.stage] = text
            run.progress.note = " | ".join(f"{stage}: {each}" for stage, each in sorted(notes.items()))

        async with limit:
            await note("starting")
            try:
                await run_in_processes(play_in_child, work, note, environment=child_environment(OMP_NUM_THREADS="1"))
            except UsageError as error:
                raise type(error)(f"{work.part.stage}: {error}") from error
            await note("done")

    async with anyio.create_task_group() as group:
        for work in left:
            group.start_soon(play, work)


# --- the processes of the seeds ---------------------------------------------------------------------------------------


def play_in_child(work: SeedWork, tell: Ask) -> None:
    """Play one seed, or make the first model, with one thread; tells the progress.

    Raises:
        UsageError: the plan cannot be carried out, or its run is not done.
    """
    require("torch", "train").set_num_threads(1)
    anyio.run(_play_stage, work, _Notes(tell), backend_options={"loop_factory": fast_loop()})


class _Notes:
    """Progress notes of a process: its stage, and the number of finished conversations in it."""

    def __init__(self, tell: Ask) -> None:
        self._tell = tell
        self._stage = ""

    def begin(self, stage: str) -> None:
        self._stage = stage
        self._tell(stage)

    async def follow(self, progress: RunProgress) -> None:
        while True:
            await anyio.sleep(NOTE_INTERVAL)
            if len(progress.episodes) < progress.planned:
                self._tell(f"{self._stage} {len(progress.episodes)}/{progress.planned}")


async def _play_stage(work: SeedWork, notes: _Notes) -> None:
    part, plan, folder = work.part, work.plan, work.store / work.part.run_id
    async with Run(
        store=Store(work.store, patience=PATIENCE),
        name=f"{work.name}/{part.stage}",
        recipe="selftrain",
        seed=work.seed,
        models=ModelConfig.of(work.models),
        config={"plan": asdict(plan), **part.config()},
        progress=notes.follow,
        part_of=part,
    ) as run:
        began = time.process_time()
        if part.stage == BASE:
            await make_model(run, folder / BASE, plan.first, notes.begin)
        else:
            await SeedLoop(run, plan, folder / part.stage, plan.model or str(folder / BASE), notes.begin).play()
        run.summary(cpu_seconds=round(time.process_time() - began, 1))
    if run.status != "done":
        raise UsageError(f"the run {run.id} is {run.status}: {run.problem}")
