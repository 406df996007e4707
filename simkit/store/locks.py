"""The lock by which a journal has one writer, and by which readers tell whether a process is writing it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from simkit.store.files import open_plain

PAUSES = (0.002, 0.01, 0.05)
"""Seconds between tries: a reader that looks whether there is a writer holds the lock for microseconds."""


def lock_for_writing(file: int) -> None:
    """Lock an open journal against a second writer, until it is closed.

    Raises:
        BlockingIOError: another process, or this one by another descriptor, is writing it.
    """
    for pause in PAUSES:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_written_to(journal: Path) -> bool:
    """Whether a process has the journal open for writing."""
    try:
        file = open_plain(journal, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks tells nobody
        return False
    else:
        return False
    finally:
        os.close(file)
