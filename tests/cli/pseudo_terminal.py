"""Commands on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from pathlib import Path

from support.forked_commands import ProcessOptions, start_forked

PLAIN = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}


def at_terminal(columns: int, *args: str | Path) -> str:
    """The raw output of a command on a terminal, both streams."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = start_forked(list(map(str, args)), [theirs] * 3, ProcessOptions(environment={**PLAIN, "TERM": "xterm"}))
    os.close(theirs)
    output = b""
    while piece := _read(ours):
        output += piece
    os.close(ours)
    process.join(60)
    assert process.exitcode == 0, output.decode()
    return output.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other side has been closed
        return b""
