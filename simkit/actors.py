"""Actors: objects that answer typed messages, one at a time, behind addresses that scopes own.

    async with open_scope() as scope:
        agent = scope.spawn(MyAgent(), name="agent")
        decision = await agent.ask(Act(...))      # typed: a Decision

An ask that finds its actor free runs the handler in the asker's own task: cancelling the asker cancels the work, an
error arrives with its traceback, and no task is switched. An ask that finds it busy waits in the mailbox, first come,
first served. A tell is handled in a task of the scope. There are no topics, no registry and no global state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from math import inf
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from simkit.channels import Letter, Mailbox, Request
from simkit.deadlocks import Job, runs_within, waiting
from simkit.errors import ActorStopped, AskTimeout, Unhandled, UsageError

__all__ = ["Actor", "ActorRef", "Request", "Scope", "open_scope"]

R = TypeVar("R")

_BREATH: Final = 32
"""Every so many messages an actor lets other tasks run, so that handlers that never wait cannot starve them."""

_job: ContextVar[Job | None] = ContextVar("simkit.actors.job", default=None)


class Actor(Protocol):
    """Any object with `handle`; one that is also an async context manager is entered and left by its scope."""

    async def handle(self, message: Any, /) -> object:
        """Answer one message; raise `Unhandled` (or return NotImplemented) for kinds it does not know."""
        ...


class ActorRef:
    """The only address of an actor; may be handed around and used from any task of the same event loop."""

    __slots__ = ("_post",)

    def __init__(self, post: _Post) -> None:
        self._post = post

    @property
    def name(self) -> str:
        """The actor's name, as errors write it."""
        return self._post.name

    async def ask(self, message: Request[R], *, timeout: float | None = None) -> R:
        """Send a message and wait for its reply, at most `timeout` seconds, waiting for the actor included.

        Cancelling the asker cancels the handler's work and spares the actor; what the handler raises is raised here.

        Raises:
            AskTimeout: the deadline passed; the work has been cancelled.
            AskCycle: the actor is waiting for this very ask, so it would never be answered.
            ActorStopped: the actor's scope has ended, before the ask or during it.
            Unhandled: the actor does not know this kind of message.
        """
        return cast("R", await self._post.ask(message, timeout))

    async def tell(self, message: Request[Any]) -> None:
        """Leave a message; returns once it is in the mailbox, waiting for room while that is full.

        Nobody waits for the outcome, so an error in the handler ends the actor's scope with that error. Messages that
        are still in the mailbox when the scope ends are dropped; `Scope.settle` waits for them.

        Raises:
            AskCycle: the mailbox is full and would never have room.
            ActorStopped: the actor's scope has ended, before there was room.
        """
        await self._post.tell(message)

    def __repr__(self) -> str:
        return f"<ActorRef {self.name!r}>"


class Scope:
    """Owns actors: made by `open_scope`, and they end with it."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._posts: list[_Post] = []
        self._loop = _Loop(_task_id_reader(), type(anyio.CancelScope()))
        self._closed = False

    def spawn(self, actor: Actor, *, name: str | None = None, mailbox: int = 64, concurrency: int = 1) -> ActorRef:
        """Start an actor and return its address.

        Args:
            actor: any object with `handle`; an async context manager is entered first, messages wait for that.
            name: what errors call it; the name of its class by default.
            mailbox: tells that may wait before the next one is held up.
            concurrency: messages handled at the same time.

        Raises:
            ActorStopped: the scope has ended.
            UsageError: `mailbox` or `concurrency` is below 1.
        """
        name = name or type(actor).__name__
        if self._closed:
            raise ActorStopped(f"`{name}` cannot be spawned: its scope has ended; spawn inside `async with`")
        if concurrency < 1:
            raise UsageError(f"the concurrency of `{name}` is {concurrency}; it must be at least 1")
        post = _Post(actor, name, Mailbox(mailbox), concurrency, self._tasks, self._loop)
        self._posts.append(post)
        return ActorRef(post)

    async def settle(self) -> None:
        """Wait until no actor of this scope has a message waiting or in work: what was told has been handled."""
        while busy := next((post for post in self._posts if post.busy), None):
            await busy.quiet()

    async def close(self) -> None:
        """End every actor, the last one first; `open_scope` calls this on leaving."""
        self._closed = True
        for post in self._posts:
            post.stop()
        with anyio.CancelScope(shield=True):  # handlers have been cancelled; wait for them as a task group would
            for post in reversed(self._posts):
                await post.end()


@asynccontextmanager
async def open_scope() -> AsyncGenerator[Scope]:
    """A scope of actors. Leaving it cancels what they are handling and ends them; then nothing of them is left.

    Raises:
        ActorStopped: to everybody who still waits for an answer of theirs.
        Exception: what a failed tell, or entering or leaving an actor, raised; an `ExceptionGroup` if it was several.
    """
    try:
        async with anyio.create_task_group() as tasks:
            scope = Scope(tasks)
            try:
                yield scope
            finally:
                await scope.close()
    except BaseExceptionGroup as group:
        _, failures = group.split(ActorStopped)  # what a failure did to those who were waiting is not a second failure
        errors = list((failures or group).exceptions)
        if len(errors) > 1:
            raise
        _raise_as_itself(errors[0])


class _Post:
    """The inside of one actor: its slots, its mailbox, and the jobs on their way through it."""

    def __init__(
        self,
        actor: Actor,
        name: str,
        mailbox: Mailbox,
        slots: int,
        tasks: TaskGroup,
        loop: _Loop,
    ) -> None:
        self.name = name
        self.serving: dict[Job, None] = {}
        self.stopped = False
        self._actor = actor
        self._mailbox = mailbox
        self._tasks = tasks
        self._task_id = loop.task_id
        self._cancel_scope = loop.cancel_scope
        self._slots = slots
        self._jobs: set[Job] = set()
        self._started = 0  # tells whose task has not begun
        self._served = 0
        self._quiet: anyio.Event | None = None
        self._leave = anyio.Event()
        self._left = anyio.Event()
        self.entered = not hasattr(type(actor), "__aenter__")
        self._free = slots if self.entered else 0
        if self.entered:
            self._left.set()
        else:
            tasks.start_soon(self._live, name=f"actor {name}")

    # --- messages

    async def ask(self, message: object, timeout: float | None) -> object:
        await self._breathe()
        deadline = inf if timeout is None else anyio.current_time() + timeout
        with self._cancel_scope(deadline=deadline) as scope:
            job = self._begin(self._caller(), scope)
            try:
                if self._free:
                    self._free -= 1
                else:
                    await self._turn(job)
                return await self._serve(job, message)
            finally:
                self._end(job)
        if self.stopped:
            raise self._gone()
        raise AskTimeout(f"`{self.name}` did not answer {type(message).__name__} within {timeout} s")

    async def tell(self, message: object) -> None:
        await self._breathe()
        letter = Letter(message, copy_context())
        if self._free:
            self._free -= 1
            self._start(letter)
        elif not self._mailbox.put(letter):
            await self._stand_at_door(letter)

    async def _breathe(self) -> None:
        self._served += 1
        if self._served % _BREATH == 0:
            await checkpoint()
        if self.stopped:
            raise self._gone()

    def _caller(self) -> Job | None:
        """The job whose handler is sending, if it cannot end before the reply: the context alone may be inherited."""
        job = _job.get()
        if job is None or job.finished:
            return None
        return job if job.task == self._task_id() or runs_within(job) else None

    async def _turn(self, job: Job) -> None:
        letter = Letter()
        self._mailbox.put(letter)
        try:
            with waiting(job.parent, self):
                await letter.called.wait()
        except BaseException:
            if letter.called.is_set():
                self._pass_on()
            else:
                self._mailbox.take_back(letter)
            raise

    async def _stand_at_door(self, letter: Letter) -> None:
        with anyio.CancelScope() as scope:
            job = self._begin(self._caller(), scope)
            try:
                with waiting(job.parent, self):
                    await letter.called.wait()
                return
            except BaseException:
                self._mailbox.take_back(letter)
                raise
            finally:
                self._end(job)
        raise self._gone()

    # --- handling

    async def _serve(self, job: Job, message: object) -> object:
        self.serving[job] = None
        token = _job.set(job)
        try:
            reply = await self._actor.handle(message)
        finally:
            _job.reset(token)
            job.finished = True
            del self.serving[job]
            self._pass_on()
        if reply is NotImplemented:
            raise Unhandled(f"`{self.name}` does not handle {type(message).__name__}")
        return reply

    def _pass_on(self) -> None:
        """Give the slot that has become free to the first in the mailbox."""
        letter = None if self.stopped else self._mailbox.take()
        if letter is None:
            self._free += 1
        else:
            self._call(letter)

    def _call(self, letter: Letter) -> None:
        if letter.context is None:
            letter.called.set()
        else:
            self._start(letter)

    def _start(self, letter: Letter) -> None:
        assert letter.context is not None
        self._started += 1
        letter.context.run(self._tasks.start_soon, self._deliver, letter)

    async def _deliver(self, letter: Letter) -> None:
        self._started -= 1
        with anyio.CancelScope() as scope:
            job = self._begin(None, scope)
            try:
                if not self.stopped:
                    await self._serve(job, letter.message)
            finally:
                self._end(job)

    def _begin(self, caller: Job | None, scope: anyio.CancelScope) -> Job:
        job = Job(self, caller, self._task_id(), scope)
        self._jobs.add(job)
        return job

    def _end(self, job: Job) -> None:
        self._jobs.discard(job)
        if self._quiet is not None and not self.busy:
            self._quiet.set()
            self._quiet = None

    # --- life

    async def _live(self) -> None:
        with anyio.CancelScope() as scope:
            entering = self._begin(None, scope)
            try:
                async with cast("AbstractAsyncContextManager[object]", self._actor):
                    self._end(entering)
                    await self._stay()
            finally:
                self._end(entering)
                self._left.set()

    def _open(self) -> None:
        self.entered = True
        self._free = self._slots
        while self._free and (letter := self._mailbox.take()) is not None:
            self._free -= 1
            self._call(letter)

    async def _stay(self) -> None:
        try:
            if not self.stopped:
                self._open()
                await self._leave.wait()
        finally:  # also when the scope, or a task group of the actor's own, is cancelled: nothing may be in work
            self.stop()
            with anyio.CancelScope(shield=True):
                await self.quiet()

    @property
    def busy(self) -> bool:
        """Whether a message is waiting or in work."""
        return bool(self._jobs) or (not self.stopped and (self._started > 0 or len(self._mailbox) > 0))

    async def quiet(self) -> None:
        """Wait until nothing is waiting or in work."""
        while self.busy:
            self._quiet = self._quiet or anyio.Event()
            await self._quiet.wait()

    def stop(self) -> None:
        """Take no more messages and cancel those that are here."""
        self.stopped = True
        for job in tuple(self._jobs):
            job.scope.cancel()

    async def end(self) -> None:
        """Wait for what was cancelled, then leave the actor."""
        await self.quiet()
        self._leave.set()
        await self._left.wait()

    def _gone(self) -> ActorStopped:
        return ActorStopped(f"`{self.name}` has ended with its scope; ask it while the scope is open")


@dataclass(frozen=True, slots=True)
class _Loop:
    """What every ask needs of the running event loop, looked up once per scope."""

    task_id: Callable[[], int]
    cancel_scope: type[anyio.CancelScope]


def _task_id_reader() -> Callable[[], int]:
    """The quickest way to tell tasks apart on this backend; ids agree with anyio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return lambda: anyio.get_current_task().id
    return lambda: id(asyncio.current_task())


def _raise_as_itself(error: BaseException) -> NoReturn:
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # raising inside `except` would chain the group that only wrapped it
        del error, context
