"""Scopes, which own actors: they start in a scope and end with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import NoReturn

import anyio
from anyio.abc import TaskGroup

from simkit.actors.actor import ActorRef, LoopFunctions
from simkit.actors.deadlines import AskLimits, Sweeper
from simkit.actors.handling import Job
from simkit.core.records import ComponentLoad
from simkit.errors import ActorStopped


class Scope:
    """Owner of actors, created by `open_scope`; the actors end with it."""

    def __init__(self, tasks: TaskGroup, limits: AskLimits) -> None:
        self._tasks = tasks
        self._actors: list[ActorRef] = []
        self._sweeper = Sweeper(limits, self._serving)
        self._loop = LoopFunctions.running(self._sweeper)
        self._closed = False

    @property
    def abandoned(self) -> tuple[str, ...]:
        """Actors with a handler that was abandoned because it did not end, with the place where it waited."""
        return tuple(dict.fromkeys(self._sweeper.abandoned))

    def busy(self) -> tuple[str, ...]:
        """The actors that are handling a message now."""
        return tuple(dict.fromkeys(job.actor.name for job in self._serving()))

    def load(self) -> tuple[ComponentLoad, ...]:
        """The load of the actors that declare a limit."""
        states = [actor.state for actor in self._actors]
        return tuple(state for state in states if state is not None)

    def spawn(
        self, actor: object, *, name: str | None = None, deadline: bool = True, share: int = 1, idle: bool = False
    ) -> ActorRef:
        """Start an actor and return its address.

        Args:
            actor: any object with the methods that its messages call. Its attribute `concurrency` limits the messages
                served at once, `sessions` the conversations open at once; None or absent means no limit. An async
                context manager is entered before messages are served, and exited with the scope.
            name: name in error messages; the class name by default.
            deadline: whether the scope's deadline for asks applies; False for a person at a keyboard.
            share: number of processes that hold such an actor; each gets an equal part of its limits.
            idle: only its address is needed, because other processes hold it: it is not entered and answers nothing.

        Raises:
            ActorStopped: the scope has ended.
            UsageError: `concurrency` or `sessions` is neither None nor at least 1.
        """
        name = name or type(actor).__name__
        if self._closed:
            raise ActorStopped(f"`{name}` cannot be spawned: its scope has ended; spawn inside `async with`")
        ref = ActorRef(actor, name, self._loop, deadline, len(self._actors), share)
        if idle:
            ref.stop()
            return ref
        self._actors.append(ref)
        ref.start(self._tasks)
        return ref

    def _serving(self) -> Iterator[Job]:
        return chain.from_iterable(actor.serving for actor in self._actors)

    async def sweep(self) -> None:
        """Interrupt overdue handlers until the scope is closed; `open_scope` runs this."""
        await self._sweeper.run()

    async def close(self) -> None:
        """End every actor in reverse order of creation; `open_scope` calls this on exit."""
        self._closed = True
        for actor in self._actors:
            actor.stop()
        with anyio.CancelScope(shield=True):  # handlers have been cancelled; wait for them as a task group would
            self._sweeper.ending()
            for actor in reversed(self._actors):
                await actor.end()
        self._sweeper.stop()


@asynccontextmanager
async def open_scope(limits: AskLimits | None = None) -> AsyncGenerator[Scope]:
    """A scope of actors. Leaving it cancels their handlers and ends them.

    Args:
        limits: time limits for asks, and for handlers that ignore their cancellation; by default asks have no time
            limit.

    Raises:
        ActorStopped: raised in callers that still wait for an answer.
        Exception: an actor's context manager raised it; an `ExceptionGroup` if there are several.
    """
    try:
        async with anyio.create_task_group() as tasks:
            scope = Scope(tasks, limits or AskLimits(None))
            tasks.start_soon(scope.sweep, name="deadlines of asks")
            try:
                yield scope
            finally:
                await scope.close()
    except BaseExceptionGroup as group:
        _, failures = group.split(ActorStopped)  # errors of waiting callers only follow from the failure
        errors = list((failures or group).exceptions)
        if len(errors) > 1:
            raise
        _raise_as_itself(errors[0])


def _raise_as_itself(error: BaseException) -> NoReturn:
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # raising inside `except` would chain the group that only wrapped it
        del error, context
