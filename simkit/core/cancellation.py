"""Whose cancellation it is: one that was asked for from outside, or one that the code itself came up with.

Libraries raise `CancelledError` on timeouts of their own, and so do components by mistake. A task group takes any of
them for an orderly end of the task, so whoever runs foreign code has to tell the two apart.
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
    """Whether this is how the running event loop cancels a task; outside of one, whether it is asyncio's way."""
    return isinstance(error, _kind())


def cancelled_from_outside() -> bool:
    """Whether the current task was told to end: by a scope around it, or by a `Task.cancel()` that is still pending."""
    try:
        return anyio.current_effective_deadline() == -inf or _natively_cancelled()
    except RuntimeError:  # no event loop: nothing can be cancelled
        return False


async def prefer_cancellation() -> None:
    """Raise the cancellation that the current task was told of, if it was; else do nothing.

    For after foreign code has returned or failed: it may have swallowed a cancellation, which then goes first.
    """
    await checkpoint_if_cancelled()
    if _natively_cancelled():
        raise asyncio.CancelledError


@contextmanager
def unasked(what: str) -> Generator[None]:
    """For the task of a group: an end by a cancellation that the group did not ask for is an error, never silence.

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


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a group, at any depth; an error that is no group is its own only leaf."""
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
    """The cancels of the current task have been dealt with, so that it can go on."""
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
