"""Names code that holds up the event loop: what computes, sleeps or reads files where it should wait.

Such code cannot be cancelled, and while it goes nothing else does. A thread looks at the loop's own thread, but only
once the loop has not come back for a second; until then nobody pays anything.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType

from simkit.core.frames import own, placed

BLOCKED = 1.0
"""Seconds without a sign of the event loop from which on it is blocked."""

MOST = 20
"""Blocks that are told of in one part of a run; the sum of all is in its lag."""

FRAMES = 16
"""Frames of a stack that are kept: the innermost."""

_LOOK_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class Block:
    """The event loop was held up; `place` is `file:line in function`, `stack` the frames around it, the innermost last.

    Both are empty where the code let no other thread look (native code that holds Python's lock).
    """

    seconds: float
    place: str = ""
    stack: str = ""


class Watchdog:
    """Watches the thread it is made in, while `watching`; `beat` it from that thread several times a second.

    Args:
        blocked: seconds without a beat that count as a block.
    """

    def __init__(self, blocked: float = BLOCKED) -> None:
        self._blocked = blocked
        self._loop_thread = threading.get_ident()
        self._beaten = monotonic()
        self._seen: tuple[str, str] | None = None
        self._told = 0
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Generator[None]:
        """The thread that looks exists as long as this block."""
        self._beaten = monotonic()
        thread = threading.Thread(target=self._watch, name="simkit watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    def beat(self) -> Block | None:
        """The loop is back; what it was held up by, when that was long and there have not been too many."""
        now = monotonic()
        seconds, self._beaten, seen, self._seen = now - self._beaten, now, self._seen, None
        if seconds < self._blocked or self._told >= MOST:
            return None
        self._told += 1
        place, stack = seen or ("", "")
        return Block(round(seconds, 3), place, stack)

    def holding(self) -> str:
        """The user's code that holds the loop up right now, empty when none does; may be asked from any thread."""
        if monotonic() - self._beaten <= self._blocked:
            return ""
        place = own(self._frames())
        return "" if place is None else placed(place)

    def _watch(self) -> None:
        looked = monotonic()
        while not self._over.wait(_LOOK_EVERY):
            now = monotonic()
            if now - looked > self._blocked and self._seen is None:
                self._beaten += now - looked  # this thread stood still too: the whole process did
            looked = now
            if now - self._beaten > self._blocked:
                self._seen = self._look()

    def _look(self) -> tuple[str, str]:
        frames = self._frames()
        place = own(frames) or (frames[0] if frames else None)
        return "" if place is None else placed(place), "\n".join(map(placed, reversed(frames[:FRAMES])))

    def _frames(self) -> list[FrameType]:
        """Those of the loop's thread, the innermost first."""
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage]
        frames: list[FrameType] = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        return frames
