"""Tracebacks of faults, for the author of a component: bounded, own frames first, without secrets.

Python prints the frames of the event loop, of simkit and of libraries between those of the author. Here each exception
lists the frames of the author's own files first; those of libraries and of simkit follow. No values of variables are
included.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import cast

from simkit.core.boundary import described, is_library
from simkit.core.cancellation import is_cancellation, leaves
from simkit.core.redaction import redacted
from simkit.core.safe_text import visible, visible_line
from simkit.errors import Fault, ModelFault, SimkitError, UsageError

MOST = 6000
"""Maximum number of characters of a traceback."""

MOST_ERRORS = 10
"""Maximum number of exceptions of a chain or group."""

OUTERMOST, INNERMOST = 3, 9
"""Number of own frames that are kept of a deep stack, at either end."""

MOST_LIBRARY = 6
"""Number of library frames that are kept of one exception: the innermost."""

_MESSAGE, _LINE = 1000, 200


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame: its code, its current line, and whether it belongs to a library or to simkit."""

    frame: FrameType
    line: int
    library: bool

    def __str__(self) -> str:
        code: CodeType = self.frame.f_code
        linecache.checkcache(code.co_filename)
        source = linecache.getline(code.co_filename, self.line, self.frame.f_globals).strip()
        place = visible_line(f'  File "{code.co_filename}", line {self.line}, in {code.co_name}')
        return f"{place}\n    {visible_line(source[:_LINE])}" if source else place


def traceback_of(error: BaseException) -> str:
    """Origin of an error: each exception of its chain or group with its frames, the innermost frame last.

    Empty if no code of a component is involved: an endpoint that does not answer, a reply of the wrong kind.
    """
    chain = list(_chain(error))
    stacks = [_frames(each) for each, _ in chain]
    own = any(
        not frame.library
        for (each, _), stack in zip(chain, stacks, strict=True)
        if isinstance(error, Fault) or not isinstance(each, SimkitError)
        for frame in stack
    )
    if not own and not _raised_by_component(error):
        return ""
    sections = [
        f"{why}{_message(each)}\n{_listed(stack)}".rstrip()
        for (each, why), stack in zip(chain, stacks, strict=True)
        if stack or not isinstance(each, SimkitError)
    ]
    text = redacted("\n".join(sections))
    return text if len(text) <= MOST else f"{text[:MOST].rstrip()}\n... ({len(text):,} characters)"


def own_place(error: BaseException) -> str:
    """The innermost frame of the author's own code, as `file:line`; empty if there is none."""
    for each, _ in _chain(error):
        own = [frame for frame in _frames(each) if not frame.library]
        if own:
            return f"{own[-1].frame.f_code.co_filename}:{own[-1].line}"
    return ""


def _raised_by_component(error: BaseException) -> bool:
    """Whether foreign code raised it; typed model faults come from simkit's own client."""
    if not isinstance(error, Fault):
        return not isinstance(error, SimkitError)
    cause = error.__cause__
    typed = isinstance(error, ModelFault) and type(error) is not ModelFault
    return cause is not None and not isinstance(cause, SimkitError) and not typed


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exceptions of a chain, the raised one first, each with the words that introduce it.

    An error of simkit that only wraps another one is skipped, and so is a `UsageError` about the author's code.
    """
    pending: list[tuple[BaseException | None, str]] = [(error, "")]
    seen: set[int] = set()
    while pending and len(seen) < MOST_ERRORS:
        raised, why = pending.pop(0)
        if raised is None or id(raised) in seen:
            continue
        seen.add(id(raised))  # a chain may lead back to an error that was skipped
        cause = raised.__cause__
        own = isinstance(raised, SimkitError) and cause is not None
        if own and (all(frame.library for frame in _frames(raised)) or _explains(raised, cause)):
            pending.insert(0, (cause, why))
            continue
        if isinstance(raised, BaseExceptionGroup):
            group: BaseException = cast("BaseException", raised)
            found = [each for each in leaves(group) if not is_cancellation(each)]
            if _frames(group):
                yield group, why
            pending[:0] = [(each, "one of the group: ") for each in found]
            continue
        yield raised, why
        if raised.__cause__ is not None:
            pending.insert(0, (raised.__cause__, "caused by: "))
        elif raised.__context__ is not None and not raised.__suppress_context__:
            pending.insert(0, (raised.__context__, "raised while handling: "))


def _explains(error: BaseException, cause: BaseException | None) -> bool:
    """Whether an error is simkit's account of a failure whose own frames are enough to find it."""
    return isinstance(error, UsageError) and cause is not None and any(not frame.library for frame in _frames(cause))


def _frames(error: BaseException) -> list[_Frame]:
    found: list[_Frame] = []
    trace = error.__traceback__
    while trace is not None:
        found.append(_Frame(trace.tb_frame, trace.tb_lineno, is_library(trace.tb_frame)))
        trace = trace.tb_next
    return found


def _message(error: BaseException) -> str:
    words = described(error)
    words = words if len(words) <= _MESSAGE else f"{words[:_MESSAGE]}... ({len(words):,} characters)"
    return visible(words).replace("\n", "\n    ")


def _listed(stack: Sequence[_Frame]) -> str:
    own = [frame for frame in stack if not frame.library]
    first = next((place for place, frame in enumerate(stack) if not frame.library), 0)
    rest = [frame for frame in stack[first:] if frame.library]  # those before it only lead to the component
    lines = [str(frame) for frame in own]
    if len(own) > OUTERMOST + INNERMOST:
        left_out = len(own) - OUTERMOST - INNERMOST
        lines[OUTERMOST:-INNERMOST] = [f"  ... {left_out:,} more frames"]
    if rest and own:
        lines.append("  in libraries:")
    return "\n".join([*lines, *(str(frame) for frame in rest[-MOST_LIBRARY:])])
