"""The seeds of a self-training experiment, side by side: a process each, so many at once, all in one store.

A process is told its work in one line and tells in lines of JSON what it is at. It ends when its input does, so that
none is left behind, whatever became of whoever started it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
import anyio.abc
import orjson
from anyio.streams.buffered import BufferedByteReceiveStream

import simkit.errors as errors
from simkit.errors import SimkitError, UsageError
from simkit.recipes.selftrain.experiment import Plan

if TYPE_CHECKING:
    from simkit.run.run import Run

COMMAND = ("-m", "simkit.recipes.selftrain.seed_worker")
TAIL = 20
"""Lines of a failed process's own words that are shown."""
LONGEST_LINE = 1 << 20

Notes: TypeAlias = Callable[[Mapping[int, str]], object]
"""Told what each seed is at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedWork:
    """What a process is told: the experiment, its store and folder, which seed, and the run's choices of models."""

    store: Path
    folder: Path
    run_id: str
    name: str
    number: int
    seed: int
    plan: Plan
    models: Mapping[str, Any]
    allow_incomplete: bool = False

    @property
    def stage(self) -> str:
        """The part of the experiment that the seed is."""
        return f"seed{self.number}"

    def to_json(self) -> dict[str, Any]:
        """The work as JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "store": str(self.store), "folder": str(self.folder), "plan": self.plan.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SeedWork:
        """What `to_json` wrote."""
        paths = {"store": Path(data["store"]), "folder": Path(data["folder"])}
        read: dict[str, Any] = {**data, **paths, "plan": Plan.from_json(data["plan"])}
        return cls(**read)


async def play_seeds(run: Run, plan: Plan, seeds: int, workers: int, *, allow_incomplete: bool = False) -> None:
    """Carry out the plan with so many seeds, `workers` of them at a time; those that are done are not done again.

    Cancelled, it kills the processes; what they had finished stays. With `allow_incomplete` models learn from what
    could be read, although lines of a journal could not.

    Raises:
        UsageError: fewer than one seed or worker; what a seed raised, or that its process failed, with its last words.
    """
    if seeds < 1 or workers < 1:
        raise UsageError(f"--seeds is {seeds} and --workers is {workers}; give at least 1 of each")
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
    limit = anyio.CapacityLimiter(workers)
    async with anyio.create_task_group() as group:
        for work in left:
            group.start_soon(partial(_play, run, work, notes, limit))


async def _play(run: Run, work: SeedWork, notes: dict[int, str], limit: anyio.CapacityLimiter) -> None:
    def told(note: str) -> None:
        notes[work.number] = note
        run.tally.note = " | ".join(f"seed {number}: {text}" for number, text in sorted(notes.items()))

    async with limit:
        told("starting")
        await _SeedProcess(work, told).play()
        told("done")


class _SeedProcess:
    """The process of one seed, while it works."""

    def __init__(self, work: SeedWork, told: Callable[[str], object]) -> None:
        self._work = work
        self._told = told
        self._error: SimkitError | None = None
        self._done = False
        self._words: Sequence[str] = ()

    async def play(self) -> None:
        """Start it, listen until it ends, and raise what it raised."""
        command = (sys.executable, *COMMAND)
        # a session of its own: Ctrl-C reaches this process alone, which then ends that one
        async with await anyio.open_process(command, env=environment(), start_new_session=True) as process:
            assert process.stdin is not None
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen_to_errors, process)
                await process.stdin.send(orjson.dumps(self._work.to_json()) + b"\n")
                await self._listen(process)
            code = await process.wait()
        if self._error is not None:
            raise self._error
        if not self._done:
            words = "\n".join(self._words) or "it said nothing"
            raise UsageError(
                f"the process of {self._work.stage} ended with code {code} before it was done; its last words:\n{words}"
            )

    async def _listen(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            told = cast("dict[str, Any]", orjson.loads(line))
            if "note" in told:
                self._told(told["note"])
            elif "error" in told:
                self._error = _error(told["error"], f"{self._work.stage}: {told['message']}")
            else:
                self._done = True

    async def _listen_to_errors(self, process: anyio.abc.Process) -> None:
        assert process.stderr is not None
        async for line in _lines(process.stderr):
            self._words = [*self._words, line.decode(errors="replace").rstrip()][-TAIL:]


def environment() -> Mapping[str, str]:
    """Quiet libraries, one thread for arithmetic, and the same packages as here."""
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "WANDB_DISABLED": "true",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return {**os.environ, **quiet}


def _error(name: str, message: str) -> SimkitError:
    kind = getattr(errors, name, UsageError)
    return kind(message) if issubclass(kind, UsageError) else UsageError(message)


async def _lines(stream: anyio.abc.ByteReceiveStream) -> AsyncGenerator[bytes]:
    buffered = BufferedByteReceiveStream(stream)
    while True:
        try:
            yield await buffered.receive_until(b"\n", LONGEST_LINE)
        except anyio.IncompleteRead:
            return
