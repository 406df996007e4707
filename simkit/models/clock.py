"""Source of time and sleep. Tests replace it, so that nothing really sleeps."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True)
class Clock:
    """Time functions: `now` in seconds since the epoch, `timer` in monotonic seconds, `sleep` for some seconds."""

    now: Callable[[], float] = time.time
    timer: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
