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
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from itertools import chain
from math import inf
from types import CoroutineType
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from simkit.actors.abandon import GivenUp, Leash
from simkit.actors.deadlines import Patience, Sweeper
from simkit.actors.mailbox import Letter, Mailbox, Request
from simkit.actors.wait_graph import Job, runs_within, waiting
from simkit.core.cancellation import cancelled_from_outside, is_cancellation
from simkit.errors import ActorError, ActorStopped, AskTimeout, Unhandled, UsageError

__all__ = ["Actor", "ActorRef", "Patience", "Request", "Scope", "current_job", "open_scope"]

R = TypeVar("R")

_BREATH: Final = 32
"""Every so many messages an actor lets other tasks run, so that handlers that never wait cannot starve them."""

_COROUTINE: Final[type[Any]] = CoroutineType

_job: ContextVar[Job | None] = ContextVar("simkit.actors.actor.job", default=None)


def current_job() -> Job | None:
    """The message that the current task is handling, None outside of every handler."""
    return _job.get()


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
        The cancellation goes first, also where the handler swallowed it and replied. The scope's own deadline
        (`open_scope`) holds besides.

        Raises:
            AskTimeout: a deadline passed; the work has been cancelled, or left behind when it would not end.
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

    def __init__(self, tasks: TaskGroup, patience: Patience) -> None:
        self._tasks = tasks
        self._posts: list[_Post] = []
        self._sweeper = Sweeper(patience, self._serving)
        self._loop = _Loop.running(self._sweeper)
        self._closed = False

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The actors of which a handler was left behind, because it would not end, and where it was."""
        return tuple(dict.fromkeys(self._sweeper.abandoned))

    def busy(self) -> tuple[str, ...]:
        """The actors that are handling a message now."""
        return tuple(dict.fromkeys(job.post.name for job in self._serving()))

    def spawn(
        self,
        actor: Actor,
        *,
        name: str | None = None,
        mailbox: int = 64,
        concurrency: int = 1,
        deadline: bool = True,
    ) -> ActorRef:
        """Start an actor and return its address.

        Args:
            actor: any object with `handle`; an async context manager is entered first, messages wait for that.
            name: what errors call it; the name of its class by default.
            mailbox: tells that may wait before the next one is held up.
            concurrency: messages handled at the same time.
            deadline: whether the scope's deadline for asks holds for it; not for a person at a keyboard.

        Raises:
            ActorStopped: the scope has ended.
            UsageError: `mailbox` or `concurrency` is below 1.
        """
        name = name or type(actor).__name__
        if self._closed:
            raise ActorStopped(f"`{name}` cannot be spawned: its scope has ended; spawn inside `async with`")
        if concurrency < 1:
            raise UsageError(f"the concurrency of `{name}` is {concurrency}; it must be at least 1")
        post = _Post(actor, name, Mailbox(mailbox), concurrency, self._tasks, self._loop, deadline)
        self._posts.append(post)
        return ActorRef(post)

    def _serving(self) -> Iterator[Job]:
        return chain.from_iterable(post.serving for post in self._posts)

    async def sweep(self) -> None:
        """End what is overdue, until the scope is closed; `open_scope` runs this."""
        await self._sweeper.run()

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
            self._sweeper.ending()
            for post in reversed(self._posts):
                await post.end()
        self._sweeper.stop()


@asynccontextmanager
async def open_scope(patience: Patience | None = None) -> AsyncGenerator[Scope]:
    """A scope of actors. Leaving it cancels what they are handling and ends them; then nothing of them is left.

    Args:
        patience: how long an ask may take, and how long a handler that ignores its cancellation is waited for; an
            ask takes as long as it takes by default.

    Raises:
        ActorStopped: to everybody who still waits for an answer of theirs.
        Exception: what a failed tell, or entering or leaving an actor, raised; an `ExceptionGroup` if it was several.
    """
    try:
        async with anyio.create_task_group() as tasks:
            scope = Scope(tasks, patience or Patience(None))
            tasks.start_soon(scope.sweep, name="deadlines of asks")
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
        deadline: bool,
    ) -> None:
        self.name = name
        self.deadline = deadline
        self.serving: dict[Job, None] = {}
        self.stopped = False
        self._actor = actor
        self._handle: Callable[[Any], Any] = actor.handle
        self._mailbox = mailbox
        self._tasks = tasks
        self._task = loop.task
        self._cancelling = loop.cancelling
        self._sweeper = loop.sweeper
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
        self._served += 1
        if not self._served % _BREATH:
            await checkpoint()
        if self.stopped:
            raise self._gone()
        cancelling, task = self._cancelling, self._task()
        before = cancelling(task)
        deadline = inf if timeout is None else anyio.current_time() + timeout
        scope = self._cancel_scope(deadline=deadline)
        caller = None if _job.get() is None else self._caller(id(task))
        job = Job(self, caller, id(task), scope, self._sweeper.tick)
        with scope:
            self._jobs.add(job)
            try:
                if self._free:
                    self._free -= 1
                else:
                    await self._turn(job)
                reply = await self._serve(job, message, task)
                if cancelling(task) == before:
                    return reply
                await _prefer_cancellation(job, before)  # the handler has swallowed it
                return reply
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                if scope.cancel_called or not is_cancellation(error):
                    await _prefer_cancellation(job, before)
                raise
            finally:
                self._end(job)
        if self.stopped:
            raise self._gone()
        raise self._late(job, message, timeout)

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

    def _caller(self, task: int) -> Job | None:
        """The job whose handler is sending, if it cannot end before the reply: the context alone may be inherited."""
        job = _job.get()
        if job is None or job.finished:
            return None
        return job if job.task == task or runs_within(job) else None

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
            job = self._begin(self._caller(id(self._task())), scope)
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

    async def _serve(self, job: Job, message: object, task: object) -> object:
        self.serving[job] = None
        token = _job.set(job)
        try:
            answering = self._handle(message)
            if type(answering) is _COROUTINE:
                try:
                    trap = answering.send(None)
                except StopIteration as end:
                    reply = end.value
                else:
                    job.leash = leash = Leash(answering, task)
                    reply = await leash.follow(trap)
            else:
                reply = await answering
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
                    await self._serve(job, letter.message, self._task())
            except GivenUp:
                return
            except BaseException as error:
                if is_cancellation(error) and not scope.cancel_called and not cancelled_from_outside():
                    raise ActorError(f"`{self.name}` cancelled itself while it handled a message") from error
                raise
            finally:
                self._end(job)

    def _begin(self, caller: Job | None, scope: anyio.CancelScope) -> Job:
        job = Job(self, caller, id(self._task()), scope, self._sweeper.tick)
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
    def tick(self) -> int:
        """How far the clock of the scope is."""
        return self._sweeper.tick

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

    def _late(self, job: Job, message: object, timeout: float | None) -> AskTimeout:
        seconds, kind, place = self._sweeper.patience.seconds if job.overdue else timeout, type(message).__name__, ""
        if job.leash is not None and job.stood:
            place = f"; it was waiting at {job.stood}"
        if job.leash is not None and job.leash.given_up:
            place += f", and went on for {self._sweeper.patience.grace:g} s after it was cancelled: it was left behind"
        remedy = " (--ask-timeout allows more)" if job.overdue else ""
        return AskTimeout(f"`{self.name}` did not answer {kind} within {seconds:g} s{place}{remedy}")

    def _gone(self) -> ActorStopped:
        return ActorStopped(f"`{self.name}` has ended with its scope; ask it while the scope is open")


@dataclass(frozen=True, slots=True)
class _Loop:
    """What every ask needs of the running event loop, looked up once per scope.

    `cancelling` grows when a task is cancelled; it is asked before and after each handler, so it must be quick.
    """

    task: Callable[[], Any]
    cancelling: Callable[[Any], int]
    cancel_scope: type[anyio.CancelScope]
    sweeper: Sweeper

    @classmethod
    def running(cls, sweeper: Sweeper) -> _Loop:
        """The running one."""
        scope = type(anyio.CancelScope())
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            from trio.lowlevel import current_task

            return cls(current_task, _told_to_end, scope, sweeper)
        return cls(asyncio.current_task, _CANCELLING, scope, sweeper)


_CANCELLING: Final = cast("Callable[[Any], int]", asyncio.Task.cancelling)  # pyright: ignore[reportUnknownMemberType]


async def _prefer_cancellation(job: Job, before: int) -> None:
    """Raise the cancellation that came while a job was handled, if one did: it goes before a reply or an error."""
    await checkpoint_if_cancelled()
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio, where only scopes cancel
        return
    if task is None or task.cancelling() <= before:
        return
    await checkpoint()  # one that was not delivered yet is, here
    if job.leash is not None and job.leash.struck:
        raise asyncio.CancelledError
    while task.cancelling() > before:
        task.uncancel()


def _told_to_end(_task: object) -> int:
    return int(cancelled_from_outside())


def _raise_as_itself(error: BaseException) -> NoReturn:
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # raising inside `except` would chain the group that only wrapped it
        del error, context
