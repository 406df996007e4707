"""A handler on a leash: one that goes on waiting although it was cancelled can be left behind, and its asker goes on.

Python lets a coroutine catch its cancellation and wait again, as often as it likes. Every step of a handler that waits
therefore goes through here; once it is given up, the next step closes it instead.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import Any, cast

from simkit.core.frames import own, placed


class GivenUp(Exception):
    """The handler was left behind."""


class Leash:
    """A handler's coroutine that has begun to wait in `task`.

    `struck` says that something was thrown into it (a cancellation, as a rule) that was not its own task group's way to
    wake it: until Python 3.13 such a group does not take its cancel back, which then looks like somebody else's.
    """

    __slots__ = ("_coroutine", "_task", "_woken", "given_up", "struck")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], task: object) -> None:
        self._coroutine = coroutine
        self._task = task
        self._woken = False
        self.given_up = False
        self.struck = False

    def give_up(self) -> None:
        """Leave it behind at its next step, and see to it that there is one, also inside a shielded scope."""
        self.given_up = True
        if not self._woken and (task := _of_asyncio(self._task)) is not None:
            self._woken = task.cancel()

    @types.coroutine
    def follow(self, trap: Any) -> Generator[Any, Any, Any]:
        """Go on with the handler from `trap`, its first wait, to its reply.

        Raises:
            GivenUp: it was left behind.
        """
        coroutine = self._coroutine
        try:
            while True:
                try:
                    sent = yield trap
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:
                    if self.given_up:
                        self._leave()
                        raise GivenUp from None
                    self.struck = self.struck or not self._in_task_group()
                    trap = coroutine.throw(error)
                else:
                    if self.given_up:  # trio hands its cancellations over like this
                        self._leave()
                        raise GivenUp
                    trap = coroutine.send(sent)
        except StopIteration as end:
            return end.value

    def _in_task_group(self) -> bool:
        """Whether it waits for a task group of asyncio's, which may have cancelled it to wake it up."""
        step: Any = self._coroutine
        while (inner := getattr(step, "cr_await", None)) is not None and hasattr(inner, "cr_frame"):
            step = inner
        frame = getattr(step, "cr_frame", None)
        return frame is not None and frame.f_code.co_filename.endswith("asyncio/taskgroups.py")

    def _leave(self) -> None:
        if self._woken and (task := _of_asyncio(self._task)) is not None:
            task.uncancel()
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


def _of_asyncio(task: object) -> asyncio.Task[Any] | None:
    return cast("asyncio.Task[Any]", task) if isinstance(task, asyncio.Task) else None
