"""Child processes of this machine: they end with their parent, and keep their standard output for data alone.

A child runs a module of simkit (`python -m MODULE`) in a session of its own, so that Ctrl-C does not reach it: the
parent cancels and kills it. It exits when its input is closed, so that none outlives its parent.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import BinaryIO

import anyio
from anyio.abc import ByteReceiveStream, Process

from simkit.core.safe_text import visible

ERROR_LINES = 20
"""Lines of a child's standard error that are kept for the message of its failure."""

HEADER = 8
"""Bytes of the length before each frame."""


# --- the parent's side ------------------------------------------------------------------------------------------------


async def open_child(module: str, environment: Mapping[str, str]) -> Process:
    """Start `python -m MODULE`. Use the process as an `async with` block; leaving it by an error kills the process."""
    return await anyio.open_process((sys.executable, "-m", module), env=environment, start_new_session=True)


def child_environment(**variables: str) -> Mapping[str, str]:
    """This process's environment for a child that imports from the same folders, with further variables."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}


class LastLines:
    """The last lines of a child's standard error, for the message of its failure.

    Attributes:
        ended: set when the child has closed its standard error.

    Args:
        relay: whether each line is also written to this process's standard error as it arrives.
    """

    def __init__(self, *, relay: bool = False) -> None:
        self._relay = relay
        self._lines: deque[str] = deque(maxlen=ERROR_LINES)
        self.ended = anyio.Event()

    async def read(self, process: Process) -> None:
        """Read until the child closes its standard error."""
        assert process.stderr is not None
        await self.read_from(process.stderr)

    async def read_from(self, stream: ByteReceiveStream) -> None:
        """Read a stream until it is closed."""
        async for line in each_line(stream):
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            if self._relay:
                sys.stderr.write(f"{visible(text)}\n")
        self.ended.set()

    def __str__(self) -> str:
        return "\n".join(self._lines) or "(no output)"


async def each_line(stream: ByteReceiveStream) -> AsyncGenerator[bytes]:
    """The lines of a stream as they arrive, without their line breaks."""
    rest = b""
    async for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


# --- the child's side -------------------------------------------------------------------------------------------------


def own_output() -> BinaryIO:
    """The standard output, for data alone: what libraries print goes to the standard error."""
    own = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return own


# --- frames -----------------------------------------------------------------------------------------------------------


def framed(data: bytes) -> bytes:
    """Data with its length before it."""
    return len(data).to_bytes(HEADER, "big") + data


def read_frame(descriptor: int) -> bytes | None:
    """Read one frame from a file descriptor, blocking; None at its end."""
    head = _exactly(descriptor, HEADER)
    return None if head is None else _exactly(descriptor, int.from_bytes(head, "big"))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data to a file descriptor, blocking.

    Raises:
        OSError: the reader is gone.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _exactly(descriptor: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = os.read(descriptor, min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)
