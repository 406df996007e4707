"""What a process that a test starts inherits of signals."""

from __future__ import annotations

import signal
from collections.abc import Collection, Generator
from contextlib import contextmanager


@contextmanager
def heeding_signals(ignored: Collection[signal.Signals] = ()) -> Generator[None]:
    """Inside, a process that is started ignores the `ignored` ones of SIGINT, SIGTERM and SIGHUP, and no others.

    A process ignores what the one that started it ignores. Tests that were started by nohup ignore SIGHUP, and those
    of a script's background SIGINT: without this a run would not notice the signals that such a test sends to it.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for each in before:
        signal.signal(each, signal.SIG_IGN if each in ignored else signal.SIG_DFL)
    try:
        yield
    finally:
        for each, was in before.items():
            signal.signal(each, signal.SIG_DFL if was is None else was)
