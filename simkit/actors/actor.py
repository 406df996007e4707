"""Actors: objects that answer typed messages behind addresses that a scope owns.

    async with open_scope() as scope:
        agent = scope.spawn(MyAgent())
        decision = await agent.ask(Act(...))      # typed: a Decision

An ask runs the actor's method in the caller's task: cancelling the caller cancels the work, an error arrives with its
traceback, and no task switch is needed. An actor that declares `concurrency` serves that many messages at once; the
others wait in FIFO order, and time limits apply only once they are served. There are no topics, no registry and no
global state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from types import CoroutineType
from typing import Any, Final, Generic, TypeVar, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from simkit.actors.capacity import Capacity, declared_capacity
from simkit.actors.deadlines import Sweeper
from simkit.actors.handling import Abandoned, Handler, Job
from simkit.core.cancellation import cancelled_from_outside, is_cancellation
from simkit.core.records import ComponentLoad
from simkit.errors import ActorStopped, AskTimeout

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_COROUTINE: Final[type[Any]] = CoroutineType

_job: ContextVar[Job | None] = ContextVar("simkit.actors.actor.job", default=None)


def current_job() -> Job | None:
    """The job of the message that the current task is handling; None outside of handlers."""
    return _job.get()


class Request(Generic[R_co]):
    """A frozen message whose type parameter is its reply's type: asking a `Request[Decision]` gives a `Decision`."""

    __slots__ = ()

    def serve(self, actor: Any, /) -> Awaitable[R_co] | R_co:
        """Call the actor's method that answers this message."""
        raise NotImplementedError(f"{type(self).__name__} does not say which method of an actor answers it (`serve`)")


class Stopwatch:
    """Measures the seconds that an answer takes from the start of service; time spent in the queue does not count."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = perf_counter()

    def restart(self) -> None:
        """Restart the measurement."""
        self._began = perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return perf_counter() - self._began


class ActorRef:
    """The address of an actor; it may be passed on and used from any task of the same event loop.

    Attributes:
        name: the actor's name in error messages.
        deadline: whether the scope's deadline applies to its answers.
        serving: messages whose handlers are waiting, oldest first.
        sessions: capacity of concurrently open conversations; None for no limit.
    """

    __slots__ = (
        "_actor",
        "_capacity",
        "_closing",
        "_entered",
        "_entering",
        "_left",
        "_loop",
        "_quiet",
        "_stopped",
        "deadline",
        "name",
        "serving",
        "sessions",
    )

    def __init__(
        self, actor: object, name: str, loop: LoopFunctions, deadline: bool, rank: int, share: int = 1
    ) -> None:
        self.name = name
        self.deadline = deadline
        self.serving: dict[Job, None] = {}
        self.sessions = declared_capacity(actor, name, "sessions", rank, share)
        self._actor = actor
        self._capacity = declared_capacity(actor, name, "concurrency", rank, share)
        self._loop = loop
        self._stopped = False
        self._quiet: anyio.Event | None = None
        self._entered: anyio.Event | None = None  # of an actor that is a context manager, until it has been entered
        self._entering = anyio.CancelScope()
        self._closing = anyio.Event()
        self._left = anyio.Event()

    def ask(self, message: Request[R], stopwatch: Stopwatch | None = None) -> Coroutine[Any, Any, R]:
        """Send a message and wait for its reply.

        Cancelling the caller cancels the handler, but not the actor. Errors of the handler are raised here. A
        cancellation takes precedence, even if the handler swallowed it and replied.

        Args:
            message: the request; it selects the method that answers it.
            stopwatch: restarted when service of the message starts.

        Raises:
            AskTimeout: the scope's deadline passed; the handler was cancelled, or abandoned if it did not end.
            ActorStopped: the actor's scope has ended, before the ask or during it.
        """
        if self._capacity is None and self._entered is None:
            return self._serve(message)
        return self._queue(message, stopwatch)

    async def _queue(self, message: Request[R], stopwatch: Stopwatch | None) -> R:
        if self._entered is not None and not self._stopped:
            await self._entered.wait()
        capacity = self._capacity
        if capacity is not None and not self._stopped:
            await capacity.take()
        try:
            if stopwatch is not None:
                stopwatch.restart()
            return await self._serve(message)
        finally:
            if capacity is not None:
                capacity.give_back()

    async def _serve(self, message: Request[R]) -> R:
        if self._stopped:
            raise self._gone()
        loop = self._loop
        cancelling, task = loop.cancelling, loop.task()
        before = cancelling(task)
        job = Job(self, loop.sweeper.tick)
        token = _job.set(job)
        error: BaseException | None = None
        reply: Any = None
        try:
            reply = message.serve(self._actor)
            if type(reply) is not _COROUTINE and hasattr(reply, "__await__"):
                reply = _awaited(reply)
            if type(reply) is _COROUTINE:
                try:
                    trap = reply.send(None)
                except StopIteration as end:
                    reply = end.value
                else:
                    reply = await self._waited(job, Handler(reply, task), trap)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as raised:
            error = raised
        finally:
            _job.reset(token)
        if error is None and not job.interrupted and cancelling(task) == before:
            return reply
        return await self._decided(job, message, before, error, reply)

    async def _waited(self, job: Job, handler: Handler, trap: Any) -> object:
        job.handler = handler
        self.serving[job] = None
        try:
            return await handler.follow(trap)
        finally:
            handler.end()
            del self.serving[job]
            if self._quiet is not None and not self.serving:
                self._quiet.set()

    async def _decided(self, job: Job, message: Request[R], before: int, error: BaseException | None, reply: R) -> R:
        """Determine the result of a message whose handler raised, or during which a cancellation occurred."""
        if job.interrupted or error is None or not is_cancellation(error):
            await _prefer_cancellation(job, before)
        if job.interrupted and (error is None or is_cancellation(error) or isinstance(error, Abandoned)):
            raise self._gone() if self._stopped else self._late(job, message)
        try:
            if error is not None:
                raise error
            return reply
        finally:
            del error  # its traceback holds this frame

    def _late(self, job: Job, message: object) -> AskTimeout:
        limits, place = self._loop.sweeper.limits, ""
        if job.stopped_at:
            place = f"; it was waiting at {job.stopped_at}"
        if job.handler is not None and job.handler.abandoned:
            place += f", and continued for {limits.grace:g} s after it was cancelled: it was abandoned"
        return AskTimeout(
            f"`{self.name}` did not answer {type(message).__name__} within {limits.seconds:g} s{place} "
            "(--ask-timeout allows more)"
        )

    def _gone(self) -> ActorStopped:
        return ActorStopped(f"`{self.name}` has ended with its scope; ask it while the scope is open")

    # --- for the scope -------------

    @property
    def tick(self) -> int:
        """Current tick of the clock for the scope's deadlines."""
        return self._loop.sweeper.tick

    @property
    def state(self) -> ComponentLoad | None:
        """The actor's load; None if it declares no limit."""
        if self._capacity is None and self.sessions is None:
            return None
        turns, sessions = self._capacity or Capacity(0), self.sessions or Capacity(0)
        return ComponentLoad(
            name=self.name,
            concurrency=turns.places or None,
            serving=turns.in_use,
            waiting=turns.waiting,
            most_waiting=turns.most_waiting,
            waited=turns.waited,
            sessions=sessions.places or None,
            open=sessions.in_use,
            queued=sessions.waiting,
            most_queued=sessions.most_waiting,
            queued_seconds=sessions.waited,
        )

    def start(self, tasks: TaskGroup) -> None:
        """Enter the actor if it is a context manager; messages wait until it has been entered."""
        if hasattr(type(self._actor), "__aenter__"):
            self._entered = anyio.Event()
            tasks.start_soon(self._live, self._entered, name=f"actor {self.name}")
        else:
            self._left.set()

    async def _live(self, entered: anyio.Event) -> None:
        with self._entering:
            try:
                async with cast("AbstractAsyncContextManager[object]", self._actor):
                    self._entered = None
                    entered.set()
                    await self._stay()
            finally:
                self._left.set()

    async def _stay(self) -> None:
        try:
            await self._closing.wait()
        finally:  # also when the scope, or a task group of the actor's own, is cancelled: nothing may be in work
            self.stop()
            with anyio.CancelScope(shield=True):
                await self._end_of_work()

    def stop(self) -> None:
        """Accept no more messages, and interrupt those that are being handled or waiting."""
        self._stopped = True
        if self._entered is not None:
            self._entering.cancel()
            self._entered.set()
        for job in tuple(self.serving):
            job.stop()
        for capacity in (self._capacity, self.sessions):
            if capacity is not None:
                capacity.close()

    async def end(self) -> None:
        """Wait for interrupted handlers, then exit the actor's context."""
        await self._end_of_work()
        self._closing.set()
        await self._left.wait()

    async def _end_of_work(self) -> None:
        while self.serving:
            self._quiet = self._quiet or anyio.Event()
            await self._quiet.wait()
            self._quiet = None

    def __repr__(self) -> str:
        return f"<ActorRef {self.name!r}>"


@dataclass(frozen=True, slots=True)
class LoopFunctions:
    """Values of the running event loop that every ask needs, looked up once per scope.

    `cancelling` returns a number that grows when a task is cancelled. It is called before and after each handler, so it
    must be fast.
    """

    task: Callable[[], Any]
    cancelling: Callable[[Any], int]
    sweeper: Sweeper

    @classmethod
    def running(cls, sweeper: Sweeper) -> LoopFunctions:
        """Create it for the running event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            from trio.lowlevel import current_task

            return cls(current_task, _told_to_end, sweeper)
        return cls(asyncio.current_task, _CANCELLING, sweeper)


_CANCELLING: Final = cast("Callable[[Any], int]", asyncio.Task.cancelling)  # pyright: ignore[reportUnknownMemberType]


async def _awaited(reply: Awaitable[Any]) -> Any:
    return await reply


async def _prefer_cancellation(job: Job, before: int) -> None:
    """Raise a cancellation that occurred while a job was handled; it takes precedence over a reply or an error."""
    await checkpoint_if_cancelled()
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio, where only scopes cancel
        return
    if task is None or task.cancelling() <= before:
        return
    await checkpoint()  # delivers a pending cancellation
    if job.handler is not None and job.handler.struck:
        raise asyncio.CancelledError
    while task.cancelling() > before:
        task.uncancel()


def _told_to_end(_task: object) -> int:
    return int(cancelled_from_outside())
