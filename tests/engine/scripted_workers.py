"""Workers that answer as a test says: no process, no cast, no model."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import anyio.lowlevel

from simkit.core.events import EndpointAdjusted, Episode, EpisodeStarted
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Goal, Task
from simkit.errors import WorkerLost
from simkit.models.middleware.budget import Amount
from simkit.models.middleware.lending import Held
from simkit.run.contract import Down, Link, Order, PlaySpec, Result, Up
from simkit.run.dispatch import DriverContext, play_with_workers
from simkit.run.engine import FaultPolicy, RunProgress
from simkit.run.served_models import OnThisMachine
from simkit.search.base import WorkUnit
from simkit.store.encoding import encode


def unit(number: int) -> WorkUnit:
    goals = (Goal("a"), Goal("b"))
    return WorkUnit("run", 7, Task(id=f"T{number}", world="test", split="test", instructions="", goals=goals))


def units(count: int) -> list[WorkUnit]:
    return [unit(number) for number in range(count)]


def episode(of: WorkUnit, outcome: Any = "user_ended") -> Episode:
    return Episode(episode_id=of.episode_id, reward=None if "fault" in outcome else 0.5, outcome=outcome, at=1.0)


def started(of: WorkUnit) -> EpisodeStarted:
    return EpisodeStarted(of.episode_id, "run", of.task.id, 0, "josh", "", (), 1.0, of.attempt)


@dataclass
class Worker:
    """One worker: what it was told, and what it holds."""

    number: int
    spec: PlaySpec
    answer: Answer
    downs: list[Down] = field(default_factory=list[Down])
    open: list[Order] = field(default_factory=list[Order])
    end: int = 0

    async def exchange(self, down: Down) -> Up:
        self.downs.append(down)
        self.open += down.orders
        await anyio.lowlevel.checkpoint()
        made = self.answer(self, down)
        return await made if inspect.isawaitable(made) else made

    def up(self, *orders: Order, lines: Sequence[bytes] = (), outcome: str = "user_ended", **more: Any) -> Up:
        """An answer with the lines and results of some orders."""
        ends = [(order, episode(order.unit, outcome)) for order in orders]
        written = [line for order, end in ends for line in (encode(started(order.unit)), encode(end))]
        self.open = [order for order in self.open if order not in orders]
        self.end += len(written) + len(lines)
        results = tuple(Result(order.index, end) for order, end in ends)
        return Up(lines=(*written, *lines), end=self.end, results=results, **more)

    @property
    def ordered(self) -> list[list[int]]:
        """The numbers of the units that came with each exchange."""
        return [[order.index for order in down.orders] for down in self.downs]


Answer = Callable[[Worker, Down], Up | Awaitable[Up]]


def plays(worker: Worker, down: Down) -> Up:
    """Plays at once whatever it is ordered, and ends when it is told to."""
    return worker.up(done=True) if down.stop else worker.up(*worker.open)


@dataclass
class Scripted(OnThisMachine):
    """An engine of such workers.

    Attributes:
        size: maximum number of workers.
        answer: what workers answer.
        starts: whether the worker of this number, from 1, can be started.
        waits: whether its start never ends.
    """

    size: int
    answer: Answer = plays
    starts: Callable[[int], bool] = lambda number: True
    waits: Callable[[int], bool] = lambda number: False
    workers: list[Worker] = field(default_factory=list[Worker])

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        worker = Worker(len(self.workers) + 1, spec, self.answer)
        self.workers.append(worker)
        if self.waits(worker.number):
            await anyio.sleep_forever()
        if not self.starts(worker.number):
            raise WorkerLost("no place")
        yield worker


class Steps(MemoryRecorder):
    """A recorder that also notes when it is asked to commit."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def record_lines(self, lines: Sequence[bytes]) -> None:
        super().record_lines(lines)
        self.steps.append(f"{len(lines)} lines")

    async def commit(self) -> None:
        self.steps.append("commit")


@dataclass
class Answers:
    """Recorded answers: the episode and the attempt of the unit that was asked for."""

    renewed: int = 0

    def of(self, unit: WorkUnit) -> bytes:
        return f"{unit.task.id} {unit.attempt}".encode()

    async def renew(self) -> None:
        self.renewed += 1


@dataclass
class Lending:
    """A lender that notes what happens to it."""

    steps: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    def enter(self, worker: int) -> None:
        self.steps.append(("enter", worker))

    def leave(self, worker: int, *, lost: bool = False) -> None:
        self.steps.append(("leave", worker, lost))

    def settle(self, worker: int, wants: Any) -> None:
        self.steps.append(("settle", worker, wants))

    def held(self, worker: int) -> Held:
        return Held(Amount(5, 0.5), 3)

    def leases(self, worker: int) -> Any:
        return f"leases of {worker}"


@dataclass
class Driver:
    """A play with such workers."""

    engine: Scripted
    policy: FaultPolicy = field(default_factory=FaultPolicy)
    lender: Any = None
    progress: RunProgress = field(default_factory=lambda: RunProgress(keeps_faults=True))
    recorder: Steps = field(default_factory=Steps)
    past: Answers = field(default_factory=Answers)
    adjusted: list[EndpointAdjusted] = field(default_factory=list[EndpointAdjusted])

    async def play(self, count: int, concurrency: int) -> tuple[Episode, ...]:
        context = DriverContext(
            spec=PlaySpec(run_id="run", cast=cast("Any", None), search=cast("Any", None)),
            search="josh",
            full_reward=2.0,
            recorder=self.recorder,
            progress=self.progress,
            policy=self.policy,
            past=self.past,
            lender=self.lender,
            adjusted=self.adjusted.append,
        )
        return await play_with_workers(context, self.engine, units(count), concurrency)


def numbers(episodes: Sequence[Episode]) -> list[int]:
    """The numbers of the units of some episodes."""
    return [int(each.episode_id.split("/T")[1].partition("/")[0]) for each in episodes]
