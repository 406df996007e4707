"""The boundary around a component: whatever it raises becomes a fault of its kind, and is described.

Inside a component `boundary` makes a fault of whatever is raised: any BaseException, `SystemExit` included, and a
cancellation that nobody around it asked for. A cancellation that somebody did ask for always passes through, whatever
the component makes of it, and so do `KeyboardInterrupt` and `GeneratorExit`.
"""

from __future__ import annotations

from types import TracebackType
from typing import cast

from simkit.core.cancellation import cancelled_from_outside, is_cancellation, leaves
from simkit.errors import Fault, LimitHit, RunStopped, StoreError, Where


class boundary:  # noqa: N801 (a context manager, named as those of contextlib are)
    """Attribute whatever is raised inside to one kind of component.

    `where` says what was being done, e.g. "agent `scripted`, turn 3 of MUL0003 at LR"; a function that says so is
    called only when something failed. Already typed faults, store errors, limits and what stops the run pass through,
    also out of a task group of the component's own: a full disk inside a reward is not the reward's failure, nor is a
    dead endpoint the agent's. So do `KeyboardInterrupt`, `GeneratorExit`, and a cancellation by a scope around the
    component or by a `Task.cancel()` that is pending. Any other cancellation is the component's own.
    """

    __slots__ = ("_fault", "_where")

    def __init__(self, fault: type[Fault], where: Where) -> None:
        self._fault = fault
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, _PASSING):
            return
        if isinstance(error, ExceptionGroup) or not isinstance(error, Exception):
            passing = _passing(cast("BaseException", error))
            if passing is error:
                return
            if passing is not None:
                raise passing from error
        raised = cast("BaseException", error)
        unasked = " (a cancellation that nobody had asked for)" if _is_cancelled(raised) else ""
        raise self._fault(f"{told(self._where)}: {described(raised)}{unasked}") from raised


def _is_cancelled(error: BaseException) -> bool:
    return not isinstance(error, Exception) and is_cancellation(error)


def _passing(error: BaseException) -> BaseException | None:
    """What of an error, or of the errors in a group, is not the component's: the most urgent of it, or None."""
    found = tuple(leaves(error))
    own = [leaf for leaf in found if not is_cancellation(leaf)]
    if len(own) < len(found) and cancelled_from_outside():
        return next(leaf for leaf in found if is_cancellation(leaf))
    for kinds in _URGENT:
        for leaf in own:
            if isinstance(leaf, kinds):
                return leaf
    return own[0] if own and all(isinstance(leaf, Fault) for leaf in own) else None


_PASSING = (Fault, LimitHit, RunStopped, StoreError, KeyboardInterrupt, GeneratorExit)
_URGENT = ((KeyboardInterrupt, GeneratorExit), (RunStopped, StoreError), (LimitHit,))


def told(where: Where) -> str:
    """A place in words."""
    return where if isinstance(where, str) else where()


MOST_WORDS = 4000
"""Characters that are kept of what an error says."""


def described(error: BaseException) -> str:
    """An error as `Type: message`, also when its own `__str__` fails or says a great deal; of a group, the first."""
    found = tuple(leaves(error))
    first = next((leaf for leaf in found if not is_cancellation(leaf)), found[0])
    more = f" (and {len(found) - 1} more at the same time)" if len(found) > 1 else ""
    name = type(first).__name__
    words = _words(first)
    if words is None:
        return f"{name} (its message cannot be read: its `__str__` raises){more}"
    if len(words) > MOST_WORDS:
        words = f"{words[:MOST_WORDS]}... ({len(words):,} characters)"
    return f"{name}: {words}{more}" if words else f"{name}{more}"


def _words(error: BaseException) -> str | None:
    try:
        return str(error)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        return None
