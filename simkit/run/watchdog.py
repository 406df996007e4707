"""Detection of code that blocks the event loop by computing, sleeping or reading files instead of awaiting.

Such code cannot be cancelled, and nothing else runs meanwhile. A separate thread inspects the loop's thread, but only
after the loop has been unresponsive for a second; until then there is no cost.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType

from simkit.core.boundary import own, placed

BLOCKED = 1.0
"""Seconds without a beat after which the event loop counts as blocked."""

MOST = 20
"""Maximum number of blocks reported per attempt of a run; the run's lag includes all of them."""

FRAMES = 16
"""Number of innermost stack frames that are kept."""

_LOOK_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class BlockedLoop:
    """A blocked event loop; `place` is `file:line in function`, `stack` the frames around it, the innermost last.

    Both are empty if no other thread could run meanwhile (native code that holds Python's lock).
    """

    seconds: float
    place: str = ""
    stack: str = ""


class Watchdog:
    """Watches the thread that creates it while `watching`; call `beat` from that thread several times a second.

    Args:
        blocked: seconds without a beat that count as a block.
    """

    def __init__(self, blocked: float = BLOCKED) -> None:
        self._blocked = blocked
        self._loop_thread = threading.get_ident()
        self._beaten = monotonic()
        self._seen: tuple[str, str] | None = None
        self._reported = 0
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Run the inspecting thread for the duration of the block."""
        self._beaten = monotonic()
        thread = threading.Thread(target=self._watch, name="simkit watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    def beat(self) -> BlockedLoop | None:
        """Register a beat of the loop; returns the block that just ended, if it was long enough and below the limit."""
        now = monotonic()
        seconds, self._beaten, seen, self._seen = now - self._beaten, now, self._seen, None
        if seconds < self._blocked or self._reported >= MOST:
            return None
        self._reported += 1
        place, stack = seen or ("", "")
        return BlockedLoop(round(seconds, 3), place, stack)

    def holding(self) -> str:
        """Location of user code that blocks the loop now, empty if there is none; may be called from any thread."""
        if monotonic() - self._beaten <= self._blocked:
            return ""
        place = own(self._frames())
        return "" if place is None else placed(place)

    def _watch(self) -> None:
        looked = monotonic()
        while not self._over.wait(_LOOK_EVERY):
            now = monotonic()
            if now - looked > self._blocked and self._seen is None:
                self._beaten += now - looked  # this thread was suspended too, like the whole process
            looked = now
            if now - self._beaten > self._blocked:
                self._seen = self._look()

    def _look(self) -> tuple[str, str]:
        frames = self._frames()
        place = own(frames) or (frames[0] if frames else None)
        return "" if place is None else placed(place), "\n".join(map(placed, reversed(frames[:FRAMES])))

    def _frames(self) -> list[FrameType]:
        """Stack frames of the loop's thread, the innermost first."""
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage]
        frames: list[FrameType] = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        return frames
