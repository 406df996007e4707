"""One message being handled: how it is interrupted, and how a handler is abandoned that ignores its cancellation.

Python lets a coroutine catch its cancellation and wait again, as often as it likes. Every step of a handler that waits
therefore goes through `Handler.follow`; once the handler is abandoned, the next step closes it instead.

No cancel scope is opened around a handler: that would cost more than everything else about an ask. A handler is
interrupted where it waits, by one cancellation that also reaches into shielded scopes, and may then clean up in peace
until its grace is over.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import anyio

from simkit.core.cancellation import is_cancellation
from simkit.core.frames import own, placed

if TYPE_CHECKING:
    from simkit.actors.actor import ActorRef


class Abandoned(Exception):
    """The handler was left behind."""


class Job:
    """One message being handled by `actor`.

    Attributes:
        began: the tick of the deadlines' clock at which its time began; moved on while the job is `held`.
        held: how many waits it is in that have time limits of their own.
        overdue: whether its deadline has passed; `stopped_at` is the place where it waited then.
        interrupted: whether the runtime has cancelled it.
        handler: the handler once it waits, None before.
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
        """Count its time from now on."""
        self.began = self.actor.tick

    def stop(self) -> None:
        """Interrupt it because its actor ends; a handler that is being cancelled already is left to clean up."""
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
        """Leave its handler behind; the place where that waits, None when it has been left behind already."""
        if self.handler is None or self.handler.abandoned:
            return None
        self.interrupted = True
        self.handler.abandoned = True
        self.handler.interrupt()
        return self.handler.place()


class Handler:
    """A coroutine that handles a message and has begun to wait in `task`.

    `abandoned` says that it is left behind at its next step. `struck` says that something was thrown into it (a
    cancellation, as a rule) that was not its own task group's way to wake it: until Python 3.13 such a group does not
    take its cancel back, which then looks like somebody else's.
    """

    __slots__ = ("_cancels", "_coroutine", "_pause", "_task", "abandoned", "struck")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], task: object) -> None:
        self._coroutine = coroutine
        self._task = cast("asyncio.Task[Any]", task) if isinstance(task, asyncio.Task) else None  # trio's has no cancel
        self._pause: anyio.CancelScope | None = None
        self._cancels = 0
        self.abandoned = False
        self.struck = False

    def interrupt(self) -> None:
        """Cancel it once, where it waits now, also inside a shielded scope."""
        self._cancels += 1
        if self._task is not None:
            self._task.cancel()
        elif self._pause is not None:
            self._pause.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether a cancellation of it is under way."""
        return self.struck if self._task is None else self._task.cancelling() > 0

    def end(self) -> None:
        """Take back the cancels of its task: it has ended."""
        while self._task is not None and self._cancels:
            self._cancels -= 1
            self._task.uncancel()

    @types.coroutine
    def follow(self, trap: Any) -> Generator[Any, Any, Any]:
        """Go on with the handler from `trap`, its first wait, to its reply.

        Raises:
            Abandoned: it was left behind.
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
        """Wait on trio, where only scopes cancel: in one that is open while the handler is not running."""
        sent: Any = None
        with anyio.CancelScope() as self._pause:
            if self._cancels:
                self._pause.cancel()
            sent = yield trap
        self._pause = None
        error: Any = getattr(sent, "error", None)  # trio hands its errors over like this
        if self._cancels and is_cancellation(error):
            self._cancels = 0
            self.struck = True
        return sent

    def _in_task_group(self) -> bool:
        """Whether it waits for a task group of asyncio's, which may have cancelled it to wake it up."""
        step: Any = self._coroutine
        while (inner := getattr(step, "cr_await", None)) is not None and hasattr(inner, "cr_frame"):
            step = inner
        frame = getattr(step, "cr_frame", None)
        return frame is not None and frame.f_code.co_filename.endswith("asyncio/taskgroups.py")

    def _leave(self) -> None:
        self.end()
        try:
            self._coroutine.close()
        except BaseException:  # it does not let itself be closed either, or fails at it: it is left behind all the same
            return

    def place(self) -> str:
        """Where it waits, as `file:line in function`: the innermost frame of its own code, empty when none is seen."""
        step: Any = self._coroutine
        frames: list[FrameType] = []
        while step is not None:
            frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
            if frame is not None:
                frames.insert(0, frame)
            step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
        place = own(frames) or (frames[0] if frames else None)
        return "" if place is None else placed(place)
