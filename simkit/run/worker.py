"""A worker: plays the orders of a driver and answers its exchanges. It has no store; the driver writes its lines."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from socket import gethostname

import anyio

from simkit.actors.scope import open_scope
from simkit.components.cast import Cast
from simkit.core.events import Event, LoopBlocked
from simkit.errors import JournalFailed
from simkit.models.base import ChatModel
from simkit.models.config import ModelConfig
from simkit.models.middleware.leases import WorkerLeases
from simkit.models.middleware.replay import Recording
from simkit.models.run_models import RecordedCalls, RunModels
from simkit.run.casting import build_players, choose_agent
from simkit.run.contract import TICK, Counts, Down, Order, PlaySpec, Result, Up, packed_error
from simkit.run.engine import PlayContext, RunProgress, play_unit, sole_error
from simkit.run.served_models import Remote, RemoteModel, ServedByDriver
from simkit.run.tuning import calm_collector
from simkit.run.watchdog import Watchdog
from simkit.store.encoding import encode

LINES_AT_ONCE = 1 << 18
"""Bytes of lines after which a worker answers although nobody waits for them."""


async def serve(
    spec: PlaySpec,
    receive: Callable[[], Awaitable[Down]],
    send: Callable[[Up], Awaitable[None]],
    remote: Remote = RemoteModel,
    linger: float = 0.0,
) -> None:
    """Play what the driver orders, until it says stop or an error ends the play.

    Args:
        spec: what to play.
        receive, send: the exchanges with the driver.
        remote: makes the models that another process serves to this one.
        linger: seconds that an answer waits for more to say, if exchanges are expensive and no model was asked yet.
    """
    worker = Worker(spec, remote, linger)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.play)
        while not worker.told:
            worker.take(await receive())
            await send(await worker.answer())
        group.cancel_scope.cancel()


class Outbox:
    """The recorder of a worker: keeps encoded lines until the driver fetches them, and says when they are written."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lines: list[bytes] = []
        self._size = 0
        self._recorded = 0
        self._acked = 0
        self._written = anyio.Event()

    def record(self, event: Event) -> None:
        """Queue one event.

        Raises:
            JournalFailed: it cannot be encoded.
        """
        try:
            line = encode(event)
        except Exception as error:
            raise JournalFailed(
                f"an event of kind {type(event).__name__} cannot be written as JSON ({error}); keep only JSON values "
                "in states, results and configurations"
            ) from error
        self._lines.append(line)
        self._recorded += 1
        self._size += len(line)
        if self._size > LINES_AT_ONCE:
            self._wake()

    async def commit(self) -> None:
        """Wait until the driver has written everything recorded so far."""
        target = self._recorded
        if self._acked < target:
            self._wake()
        while self._acked < target:
            await self._written.wait()

    def acked(self, number: int) -> None:
        """The driver has written this number of lines."""
        if number > self._acked:
            self._acked = number
            written, self._written = self._written, anyio.Event()
            written.set()

    def fetch(self) -> tuple[tuple[bytes, ...], int]:
        """Take the lines that were not sent yet, and the number of all lines with these."""
        lines, self._lines, self._size = tuple(self._lines), [], 0
        return lines, self._recorded


class Worker:
    """The state of a worker during one play.

    Attributes:
        told: whether its last answer has been given.
    """

    def __init__(self, spec: PlaySpec, remote: Remote = RemoteModel, linger: float = 0.0) -> None:
        self._spec = spec
        self._linger = linger
        self._host = ServedByDriver(spec.served, remote)
        self._wakes = anyio.Event()
        self._place = f"pid {os.getpid()} on {gethostname()}"
        self._outbox = Outbox(self._wake)
        self._leases = WorkerLeases(spec.allowances, spec.workers, self._wake)
        self._progress = RunProgress(keeps_faults=spec.keeps_faults)
        self._recording = Recording(spec.run_id, elsewhere=spec.recorded, adjustments=dict(spec.adjustments))
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._ended = False
        self._stop = anyio.CancelScope()
        self._into, self._orders = anyio.create_memory_object_stream[Order](float("inf"))
        self.told = False

    def _wake(self) -> None:
        self._wakes.set()

    def take(self, down: Down) -> None:
        """Take what the driver sends."""
        self._outbox.acked(down.acked)
        self._leases.take(down.leases)
        for order in down.orders if not self._ended else ():
            self._into.send_nowait(order)
        if down.stop:
            self._stop.cancel()

    async def answer(self) -> Up:
        """The answer to an exchange, as soon as there is something to say, or after a tick."""
        if not self._ended:
            with anyio.move_on_after(TICK):
                await self._wakes.wait()
            metrics = self._progress.metrics
            calls = metrics is not None and metrics.calls > 0  # a paid answer waits for its acknowledgement
            await anyio.sleep(0 if calls else self._linger)  # others that commit at the same time share the exchange
        self._wakes = anyio.Event()
        done = self._ended
        lines, end = self._outbox.fetch()
        results, self._results = tuple(self._results), []
        self.told = done
        return Up(
            lines=lines,
            end=end,
            results=results,
            counts=self._counts(),
            wants=self._leases.wants(),
            faults=tuple(packed_error(fault) for fault in self._progress.taken_faults()),
            error=None if self._error is None or not done else packed_error(self._error),
            done=done,
        )

    async def play(self) -> None:
        """Build the cast and play until told to stop."""
        try:
            with calm_collector(), self._stop:
                async with self._opened() as context, anyio.create_task_group() as group:
                    for _ in range(self._spec.concurrency):
                        group.start_soon(self._work, context)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self._error = sole_error(error)
        finally:
            self._ended = True
            self._into.close()
            self._orders.close()
            self._wake()

    async def _work(self, context: PlayContext) -> None:
        while True:
            order = await self._orders.receive()
            calls = self._recording.put(order.past)
            try:
                episode = await play_unit(context, order.unit)
            finally:
                self._recording.drop(calls)
            missed = self._progress.missed.pop(order.unit.episode_id, None)
            self._results.append(Result(order.index, episode, missed))
            self._wake()

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[PlayContext]:
        spec = self._spec
        world = spec.cast.load_world()
        request = spec.cast.request()
        search = spec.search.load()
        recorded = RecordedCalls(self._recording, strict=spec.strict)
        models = RunModels(spec.run_id, self._outbox, spec.allowances, recorded, leases=self._leases, host=self._host)
        self._progress.metrics = models.metrics
        folders = spec.cast.folders

        def opened(name: str, config: ModelConfig) -> ChatModel:
            return models.model(folders.absolute(name), config)

        wanted = spec.cast.asked(opened, partial(choose_agent, models, lambda _note: None))
        try:
            players = build_players(world, request, wanted)
            async with open_scope(spec.ask_limits) as scope, self._watched():
                self._progress.load = scope.load
                cast: Cast = players.cast(scope, world.check_task, share=spec.workers)
                yield PlayContext(search=search, cast=cast, recorder=self._outbox, progress=self._progress)
        finally:
            await models.aclose()

    @asynccontextmanager
    async def _watched(self) -> AsyncGenerator[None]:
        """Measure the lag of this worker's event loop, and record what blocks it."""
        watchdog = Watchdog()

        def beat() -> None:
            if (block := watchdog.beat()) is not None:
                what = (block.seconds, block.place, block.stack)
                self._outbox.record(LoopBlocked(self._spec.run_id, *what, time.time()))

        async with anyio.create_task_group() as group:
            group.start_soon(self._progress.lag.watch, beat)
            with watchdog.watching():
                yield
            group.cancel_scope.cancel()

    def _counts(self) -> Counts:
        progress, metrics = self._progress, self._progress.metrics
        counts = Counts(
            running=progress.running,
            branches=progress.branches,
            turns=progress.turns,
            hits=progress.hits,
            flags=dict(progress.flags),
            lag=progress.lag.worst,
            loads=tuple(progress.load()),
            place=self._place,
        )
        return counts if metrics is None else counts.with_calls(metrics)
