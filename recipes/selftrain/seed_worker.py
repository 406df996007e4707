"""The process of one seed: its work as a line of JSON on its input, what it is at on its output (`training.seeds`)."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from typing import BinaryIO

import anyio
import orjson

from simkit.errors import SimkitError, UsageError
from simkit.models.config import ModelConfig
from simkit.recipes.selftrain.experiment import SeedLoop
from simkit.recipes.selftrain.seeds import SeedWork
from simkit.run.engine import Tally
from simkit.run.event_loop import fast_loop
from simkit.run.run import Run
from simkit.run.stages import PartOf
from simkit.store import Store

NOTE_EVERY = 1.0
"""Seconds between two notes."""
PATIENCE = 120.0
"""Seconds a query waits while another seed loads the store."""


class Telling:
    """Says on the process's output what the seed is at."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._stage = ""
        self._began = time.process_time()

    def at(self, note: str) -> None:
        """A stage begins, or gets on."""
        self._stage = note
        self.line(note=note)

    async def follow(self, tally: Tally) -> None:
        """A `Progress`: how far the stage's conversations are."""
        while True:
            await anyio.sleep(NOTE_EVERY)
            if len(tally.episodes) < tally.planned:
                self.line(note=f"{self._stage} {len(tally.episodes)}/{tally.planned}")

    def done(self) -> None:
        """The seed is done; tells the processor seconds it took."""
        self.line(done=True, cpu_seconds=time.process_time() - self._began)

    def line(self, **told: object) -> None:
        """One line."""
        self._out.write(orjson.dumps(told) + b"\n")


def main() -> int:
    """Play the seed and say what came of it; the exit code is 0 unless something failed that nobody foresaw."""
    telling = Telling(_own_output())
    work = SeedWork.from_json(orjson.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_input, daemon=True).start()
    _set_threads()
    try:
        anyio.run(partial(play_seed, work, telling), backend_options={"loop_factory": fast_loop()})
    except SimkitError as error:
        telling.line(error=type(error).__name__, message=str(error))
        return 0
    telling.done()
    return 0


async def play_seed(work: SeedWork, telling: Telling) -> None:
    """Play one seed as a part of the experiment.

    Raises:
        UsageError: the plan cannot be carried out, or its run is not done.
    """
    async with Run(
        store=Store(work.store, patience=PATIENCE),
        name=f"{work.name or work.run_id}/{work.stage}",
        recipe="selftrain",
        seed=work.seed,
        models=ModelConfig.of(work.models),
        config={"plan": work.plan.to_json(), **PartOf(work.run_id, work.stage).config()},
        progress=telling.follow,
        part_of=PartOf(work.run_id, work.stage),
    ) as run:
        began = time.process_time()
        await SeedLoop(run, work.plan, work.folder, telling.at, allow_incomplete=work.allow_incomplete).play()
        run.summary(cpu_seconds=round(time.process_time() - began, 1))
    if run.status != "done":
        raise UsageError(f"the seed's run {run.id} is {run.status}: {run.problem}")


def _end_with_input() -> None:
    """The input ends when whoever started this process is done with it, or is no more."""
    while os.read(0, 4096):  # not through sys.stdin, whose lock a dying interpreter could not get
        pass
    os._exit(1)


def _own_output() -> BinaryIO:
    """The process's output, for us alone: whatever a library prints goes to its errors."""
    own = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return own


def _set_threads() -> None:
    from simkit.plugins.extras import require

    require("torch", "train").set_num_threads(1)


if __name__ == "__main__":
    sys.exit(main())
