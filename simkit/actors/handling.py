"""Handling of one message: interrupting its handler, and abandoning a handler that ignores its cancellation.

A Python coroutine can catch its cancellation and wait again, any number of times. Every step of a waiting handler
therefore goes through `Handler.follow`; after the handler is abandoned, the next step closes it instead.

No cancel scope is opened around a handler: that would cost more than the rest of an ask. A handler is interrupted where
it waits, by a single cancellation that also reaches into shielded scopes, and may then clean up until its grace period
is over.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import anyio

from simkit.core.boundary import own, placed
from simkit.core.cancellation import is_cancellation

if TYPE_CHECKING:
    from simkit.actors.actor import ActorRef


class Abandoned(Exception):
    """The handler was abandoned."""


class Job:
    """One message being handled by `actor`.

    Attributes:
        began: tick of the deadlines' clock at which its time started; advanced while the job is `held`.
        held: number of current waits that have their own time limits.
        overdue: whether its deadline has passed; `stopped_at` is the place where it waited then.
        interrupted: whether the runtime has cancelled it.
        handler: its handler once it waits; None before.
    """

    __slots__ = ("actor", "began", "handler", "held", "interrupted", "overdue", "stopped_at")

    def __init__(self, actor: ActorRef, began: int) -> None:
        self.actor = actor
        self.began = began
        self.held = 0
        self.overdue = False
        self.interrupted = False
        self.stopped_at = ""
        self.handler: Handler | None = None

    def restart(self) -> None:
        """Restart its time."""
        self.began = self.actor.tick

    def stop(self) -> None:
        """Interrupt it because its actor ends, unless it is already being cancelled and cleaning up."""
        if self.handler is not None and not self.interrupted:
            self.interrupted = True
            if not self.handler.cancelled:
                self.handler.interrupt()

    def expire(self) -> None:
        """Interrupt it because its deadline has passed."""
        self.overdue = self.interrupted = True
        if self.handler is not None:
            self.stopped_at = self.handler.place()
            self.handler.interrupt()

    def abandon(self) -> str | None:
        """Abandon its handler; returns the place where it waits, or None if it was already abandoned."""
        if self.handler is None or self.handler.abandoned:
            return None
        self.interrupted = True
        self.handler.abandoned = True
        self.handler.interrupt()
        return self.handler.place()


class Handler:
    """A coroutine that handles a message and is waiting in `task`.

    `abandoned`: it is closed at its next step. `struck`: an exception (usually a cancellation) was thrown into it other
    than the one with which its own task group wakes it. Before Python 3.13 such a group does not take its cancel back,
    which then looks like an external one.
    """

    __slots__ = ("_cancels", "_coroutine", "_pause", "_task", "abandoned", "struck")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], task: object) -> None:
        self._coroutine = coroutine
        self._task = cast("asyncio.Task[Any]", task) if isinstance(task, asyncio.Task) else None  # trio: no cancel
        self._pause: anyio.CancelScope | None = None
        self._cancels = 0
        self.abandoned = False
        self.struck = False

    def interrupt(self) -> None:
        """Cancel it once at its current wait, even inside a shielded scope."""
        self._cancels += 1
        if self._task is not None:
            self._task.cancel()
        elif self._pause is not None:
            self._pause.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it is being cancelled."""
        return self.struck if self._task is None else self._task.cancelling() > 0

    def end(self) -> None:
        """Take back the cancels of its task after it has ended."""
        while self._task is not None and self._cancels:
            self._cancels -= 1
            self._task.uncancel()

    @types.coroutine
    def follow(self, trap: Any) -> Generator[Any, Any, Any]:
        """Run the handler from `trap`, its first wait, to its reply.

        Raises:
            Abandoned: it was abandoned.
        """
        coroutine = self._coroutine
        try:
            while True:
                try:
                    sent = (yield trap) if self._task is not None else (yield from self._paused(trap))
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:
                    if self.abandoned:
                        self._leave()
                        raise Abandoned from None
                    self.struck = self.struck or not self._in_task_group()
                    trap = coroutine.throw(error)
                else:
                    if self.abandoned:
                        self._leave()
                        raise Abandoned
                    trap = coroutine.send(sent)
        except StopIteration as end:
            return end.value

    def _paused(self, trap: Any) -> Generator[Any, Any, Any]:
        """Wait on trio, where only scopes cancel, in a scope that is open while the handler is suspended."""
        sent: Any = None
        with anyio.CancelScope() as self._pause:
            if self._cancels:
                self._pause.cancel()
            sent = yield trap
        self._pause = None
        error: Any = getattr(sent, "error", None)  # trio passes errors in this form
        if self._cancels and is_cancellation(error):
            self._cancels = 0
            self.struck = True
        return sent

    def _in_task_group(self) -> bool:
        """Whether it waits for an asyncio task group, which may have cancelled it to wake it up."""
        step: Any = self._coroutine
        while (inner := getattr(step, "cr_await", None)) is not None and hasattr(inner, "cr_frame"):
            step = inner
        frame = getattr(step, "cr_frame", None)
        return frame is not None and frame.f_code.co_filename.endswith("asyncio/taskgroups.py")

    def _leave(self) -> None:
        self.end()
        try:
            self._coroutine.close()
        except KeyboardInterrupt:
            raise
        except BaseException:  # it cannot be closed either: it is abandoned anyway
            return

    def place(self) -> str:
        """Place where it waits, as `file:line in function`: the innermost frame of its own code; empty if unknown."""
        step: Any = self._coroutine
        frames: list[FrameType] = []
        while step is not None:
            frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
            if frame is not None:
                frames.insert(0, frame)
            step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
        place = own(frames) or (frames[0] if frames else None)
        return "" if place is None else placed(place)
