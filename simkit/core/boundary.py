"""The boundary around a component: any error it raises becomes a fault of its kind, with a description.

`boundary` converts every BaseException raised inside to a fault, including `SystemExit` and a cancellation that was not
requested from outside. A requested cancellation always passes through, even if the component catches it or raises
another error instead. `KeyboardInterrupt` and `GeneratorExit` pass through too.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from types import FrameType, TracebackType
from typing import cast

from simkit.core.cancellation import cancelled_from_outside, is_cancellation, leaves
from simkit.core.redaction import redacted
from simkit.errors import Fault, LimitHit, RunStopped, StoreError, Where


class boundary:  # noqa: N801 (a context manager, named as those of contextlib are)
    """Attribute any error raised inside to one kind of component.

    `where` describes the current action, e.g. "agent `scripted`, turn 3 of MUL0003 at LR"; a function is called only
    after a failure. Typed faults, store errors, limits and errors that stop the run pass through, also out of a task
    group of the component: a full disk inside a reward is not the reward's failure, nor is a dead endpoint the agent's.
    `KeyboardInterrupt`, `GeneratorExit`, and a cancellation by a surrounding scope or a pending `Task.cancel()` pass
    through too. Any other cancellation counts as the component's own error.
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
        unasked = " (a cancellation that was not requested)" if _is_cancelled(raised) else ""
        raise self._fault(f"{location_text(self._where)}: {described(raised)}{unasked}") from raised


def _is_cancelled(error: BaseException) -> bool:
    return not isinstance(error, Exception) and is_cancellation(error)


def _passing(error: BaseException) -> BaseException | None:
    """The most urgent error, of one error or a group, that is not attributed to the component; None if all are."""
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


def location_text(where: Where) -> str:
    """Text of a place."""
    return where if isinstance(where, str) else where()


MOST_WORDS = 4000
"""Maximum number of characters kept of an error message."""


def described(error: BaseException) -> str:
    """An error as `Type: message` without secrets, even if its `__str__` fails or returns a long text.

    Of a group, the first error is described.
    """
    found = tuple(leaves(error))
    first = next((leaf for leaf in found if not is_cancellation(leaf)), found[0])
    more = f" (and {len(found) - 1} more at the same time)" if len(found) > 1 else ""
    name = type(first).__name__
    words = _words(first)
    if words is None:
        return f"{name} (its message cannot be read: its `__str__` raises){more}"
    length, words = len(words), redacted(words[: 2 * MOST_WORDS])
    if length > MOST_WORDS:
        words = f"{words[:MOST_WORDS]}... ({length:,} characters)"
    return f"{name}: {words}{more}" if words else f"{name}{more}"


def _words(error: BaseException) -> str | None:
    try:
        return str(error)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        return None


def placed(frame: FrameType) -> str:
    """A frame as `file:line in function`."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def is_library(frame: FrameType) -> bool:
    """Whether a frame belongs to Python's standard library, an installed package, or simkit itself."""
    file = frame.f_code.co_filename
    if file.endswith(".pyx"):
        return True
    if file.startswith("<"):
        return not file.startswith(("<ipython-input", "<stdin>"))  # typed by the author
    return file.startswith((_HERE, _STANDARD)) or "/site-packages/" in file or "/dist-packages/" in file


def own(frames: list[FrameType]) -> FrameType | None:
    """The first frame that does not belong to a library; None if all do."""
    return next((frame for frame in frames if not is_library(frame)), None)


_STANDARD = sysconfig.get_paths()["stdlib"]
_HERE = str(Path(__file__).parents[1])
