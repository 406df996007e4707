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


class Terminal:
    """A command on a terminal: what it prints is awaited, and answers are typed."""

    def __init__(self, columns: int, *args: str | Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        options = ProcessOptions(environment={**PLAIN, "TERM": "xterm"})
        self.process = start_forked(list(map(str, args)), [theirs] * 3, options)
        os.close(theirs)
        self.output = b""
        self._seen = 0

    def until(self, text: str) -> str:
        """What is printed up to and including a text, since the end of the previous one."""
        while (place := self.output.find(text.encode(), self._seen)) < 0:
            piece = _read(self._ours)
            assert piece, f"{text!r} was not printed: {self.output.decode()}"
            self.output += piece
        start, self._seen = self._seen, place + len(text)
        return self.output[start : self._seen].decode()

    def type(self, text: str) -> None:
        """Type a text; `\\x04` is Ctrl-D."""
        os.write(self._ours, text.encode())

    def end(self) -> tuple[int | None, str]:
        """The exit code and everything that was printed."""
        while piece := _read(self._ours):
            self.output += piece
        os.close(self._ours)
        self.process.join(60)
        return self.process.exitcode, self.output.decode()


def at_terminal(columns: int, *args: str | Path) -> str:
    """The raw output of a command on a terminal, both streams."""
    code, output = Terminal(columns, *args).end()
    assert code == 0, output
    return output


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other side has been closed
        return b""
