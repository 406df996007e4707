"""Where times come from, and how waiting is done: replaced in tests, so that nothing sleeps."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` in seconds since the epoch, `timer` in seconds from anywhere, never backwards, `sleep` for seconds."""

    now: Callable[[], float] = time.time
    timer: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
