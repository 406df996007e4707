"""Distinguish cancellations that were requested from outside from those that code raised itself.

Libraries raise `CancelledError` on their own timeouts, and components do so by mistake. A task group treats each of
them as a normal end of the task, so code that runs foreign code has to tell the two apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from math import inf
from typing import cast

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from simkit.errors import StrayCancellation


def is_cancellation(error: BaseException) -> bool:
    """Whether an error is the running event loop's cancellation error; outside of a loop, asyncio's."""
    return isinstance(error, _kind())


def cancelled_from_outside() -> bool:
    """Whether the current task has been cancelled by a surrounding scope or by a pending `Task.cancel()`."""
    try:
        return anyio.current_effective_deadline() == -inf or _natively_cancelled()
    except RuntimeError:  # no event loop: nothing can be cancelled
        return False


async def prefer_cancellation() -> None:
    """Raise the requested cancellation of the current task, if any; otherwise do nothing.

    Call it after foreign code has returned or failed: that code may have swallowed a cancellation, which takes
    precedence.
    """
    await checkpoint_if_cancelled()
    if _natively_cancelled():
        raise asyncio.CancelledError


@contextmanager
def unasked(what: str) -> Generator[None]:
    """Context for a task of a group: a cancellation that the group did not request becomes an error.

    Raises:
        StrayCancellation: `what` was cancelled by something else.
    """
    try:
        yield
    except BaseException as error:
        if not all(map(is_cancellation, leaves(error))) or anyio.current_effective_deadline() == -inf:
            raise
        _take_back()
        raise StrayCancellation(
            f"{what} was cancelled, and not by the run: something in it cancels tasks (asyncio.Task.cancel) that are "
            "not its own, or raises CancelledError"
        ) from error


async def require_results(found: int, expected: int, what: str) -> None:
    """Check that all tasks of a group have left a result.

    A group treats a task that was cancelled before its first step as one that ended, whoever cancelled it.

    Raises:
        StrayCancellation: there are fewer than `expected` results of `what` (in the plural), and the current task has
            not been cancelled. If it has been, its cancellation is raised.
    """
    if found < expected:
        await prefer_cancellation()
        raise StrayCancellation(
            f"{expected - found} of {expected} {what} were cancelled before they began, and not by the run: something "
            "cancels tasks (asyncio.Task.cancel) that are not its own"
        )


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a group, at any depth; an error that is not a group is its own only leaf."""
    pending = [error]
    while pending:
        first = pending.pop()
        if isinstance(first, BaseExceptionGroup):
            pending += reversed(cast("BaseExceptionGroup[BaseException]", first).exceptions)
        else:
            yield first


def _natively_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio, where only scopes cancel
        return False
    return task is not None and task.cancelling() > 0


def _take_back() -> None:
    """Mark the cancellations of the current task as handled, so that it can continue."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return
    while task is not None and task.cancelling():
        task.uncancel()


def _kind() -> type[BaseException]:
    try:
        return anyio.get_cancelled_exc_class()
    except RuntimeError:
        return asyncio.CancelledError
