"""Workers in this process and event loop: the same exchanges as over pipes, pickled, without starting a process."""

from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from simkit.errors import WorkerLost
from simkit.run.contract import Down, Link, PlaySpec, Up
from simkit.run.engine import sole_error
from simkit.run.served_models import OnThisMachine
from simkit.run.worker import serve


@dataclass
class InMemory(OnThisMachine):
    """An engine of workers in this event loop.

    Attributes:
        size: maximum number of workers.
        loses: called with each answer before it is delivered; True loses the worker, and the answer with it.
        refuses: called with each order before it is delivered; True loses the worker.
        started: number of workers started so far.
    """

    size: int
    loses: Callable[[int, Up], bool] = lambda _worker, _up: False
    refuses: Callable[[Down], bool] = lambda _down: False
    started: int = 0
    ups: list[Up] = field(default_factory=list[Up])

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        self.started += 1
        into, orders = anyio.create_memory_object_stream[bytes](1)
        answers, outof = anyio.create_memory_object_stream[bytes](1)

        async def receive() -> Down:
            return pickle.loads(await orders.receive())

        async def send(up: Up) -> None:
            await answers.send(pickle.dumps(up))

        async def work() -> None:
            await serve(pickle.loads(pickle.dumps(spec)), receive, send)

        with into, orders, answers, outof:
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(work)
                    yield _MemoryLink(self, self.started, into, outof)
                    group.cancel_scope.cancel()
            except BaseExceptionGroup as errors:
                cause = sole_error(errors)
                raise cause from cause.__cause__ or errors


class _MemoryLink:
    def __init__(
        self,
        engine: InMemory,
        number: int,
        into: anyio.abc.ObjectSendStream[bytes],
        outof: anyio.abc.ObjectReceiveStream[bytes],
    ) -> None:
        self._engine = engine
        self._number = number
        self._into = into
        self._outof = outof

    async def exchange(self, down: Down) -> Up:
        if self._engine.refuses(down):
            raise WorkerLost("the test has lost it")
        await self._into.send(pickle.dumps(down))
        up: Up = pickle.loads(await self._outof.receive())
        if self._engine.loses(self._number, up):
            raise WorkerLost("the test has lost it")
        self._engine.ups.append(up)
        return up
