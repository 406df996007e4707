"""Process of one run: event loop, signals, and a shutdown in bounded time, regardless of components."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

import typer

from simkit.actors.deadlines import GRACE
from simkit.core.safe_text import visible
from simkit.run.run import Run
from simkit.run.tuning import fast_loop

T = TypeVar("T")

INTERRUPTED = 130

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop a run; a signal that is ignored at the start (SIGHUP under nohup) stays ignored."""

FORCED_EXIT = GRACE + 5
"""Seconds from the first signal to a forced exit, if a component prevents the run from ending."""

TASK_GRACE = 2.0
"""Seconds that abandoned tasks of components are given to end after the run."""

SHOW_CURSOR = b"\x1b[?25h\n"


def run_process(run: Run, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main`, which enters and leaves the run, in an event loop of its own.

    `sys.exit` in a task that a component started ends only that task, and its awaiter gets an error.

    Raises:
        SystemExit: `main` itself raised it.
    """
    loop = (fast_loop() or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(main())
        with _signals(_SignalHandler(run, loop)):
            while True:
                try:
                    return loop.run_until_complete(task)
                except SystemExit:
                    if task.done():
                        raise
    finally:
        try:
            _end_tasks(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def leave(run: Run, code: int) -> NoReturn:
    """Exit with a code, without waiting for threads of an abandoned component."""
    if run.abandoned:
        _exit_now(code)
    raise typer.Exit(code)


def _exit_now(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


class _SignalHandler:
    """Signal handling: the first signal stops the run; a second one, or a timeout, ends the process."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._stopping = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._stopping:
            self._leave_soon(2.0)
            return
        self._stopping = True
        self._loop.call_soon_threadsafe(self._stop)
        if not sys.stderr.isatty():  # on a terminal the display shows this, and would overwrite the line
            _say("stopping; recorded results are kept (again: stop at once)")
        last = threading.Timer(FORCED_EXIT, self._leave)
        last.daemon = True
        last.start()

    def _stop(self) -> None:
        if self._run.status == "running":
            self._run.stop()

    def _leave_soon(self, seconds: float) -> None:
        thread = threading.Thread(target=self._leave, daemon=True)
        thread.start()
        thread.join(seconds)  # a disk that does not respond must not delay the exit
        os._exit(INTERRUPTED)

    def _leave(self) -> None:
        """End the process before the run has ended; the last lines of its journal are written first."""
        if not self._run.is_open:  # the run has ended; loading finishes by itself
            return
        problem = self._run.write_off()
        if sys.stderr.isatty():
            with suppress(OSError):
                os.write(2, SHOW_CURSOR)  # the live display has hidden it
        _say(f"{self._run.id}: interrupted: {problem}")
        os._exit(INTERRUPTED)


def _say(words: str) -> None:
    """Write one line to stderr from a signal handler or another thread, bypassing buffers that may be in use."""
    with suppress(OSError):
        os.write(2, visible(words).encode(errors="replace") + b"\n")


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered to the main thread only
        return
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, was in before.items():
        if was != signal.SIG_IGN:
            signal.signal(each, handler)
    try:
        yield
    finally:
        for each, was in before.items():
            signal.signal(each, signal.SIG_DFL if was is None else was)


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel tasks that components have left running; report those that do not end in time."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        _, stuck = loop.run_until_complete(asyncio.wait(left, timeout=TASK_GRACE))
        for task in stuck:
            _say(f"a component has left a task running that does not end when cancelled: {task!r:.300}")
        loop.set_exception_handler(lambda _loop, _context: None)  # it would repeat the message
    with suppress(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), TASK_GRACE))
