"""Workers as processes of this machine, on pipes."""

from __future__ import annotations

import os
import pickle
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import ceil
from typing import Literal, TypeAlias

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from simkit.core.child_process import HEADER, LastLines, child_environment, framed, open_child
from simkit.errors import UsageError, WorkerLost
from simkit.run.contract import Down, Link, PlaySpec, Up
from simkit.run.engine import sole_error
from simkit.run.served_models import OnThisMachine

Workers: TypeAlias = int | Literal["auto"]
"""A number of workers; `auto` for one per core, but at least `EACH` conversations for each."""

MODULE = "simkit.run.worker_process"

EACH = 256
"""Concurrent conversations that one worker plays with ease, for `auto`."""

PATIENCE = 600.0
"""Seconds without any answer after which a worker counts as hung. Its event loop answers ten times a second."""


def workers_of(text: str) -> Workers:
    """A number of workers from text.

    Raises:
        UsageError: it is neither a number of at least 1 nor `auto`.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--workers is `{text}`; give a number of at least 1, or `auto`")
    return int(text)


def number_of_workers(workers: Workers, concurrency: int) -> int:
    """The number of workers for a concurrency.

    Raises:
        UsageError: it is less than 1.
    """
    if workers == "auto":
        return min(len(os.sched_getaffinity(0)), max(1, ceil(concurrency / EACH)))
    if workers < 1:
        raise UsageError(f"the number of workers is {workers}; it must be at least 1")
    return workers


class Processes(OnThisMachine):
    """Starts workers as processes of this machine. They inherit its environment and its folder, and end with it.

    Args:
        size: maximum number of workers.
        patience: seconds without any answer after which a worker counts as hung.
    """

    def __init__(self, size: int, patience: float = PATIENCE) -> None:
        self.size = size
        self._patience = patience

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        """A worker, which ends with the block."""
        try:
            process = await open_child(MODULE, child_environment())
        except OSError as error:
            raise WorkerLost(f"a worker process could not be started: {error}") from error
        link = PipeLink(process, self._patience)
        try:
            async with process, anyio.create_task_group() as group:
                group.start_soon(link.errors.read, process)
                try:
                    await link.begin(spec)
                    yield link
                finally:
                    await link.close()
                    group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            cause = sole_error(errors)
            raise cause from cause.__cause__ or errors


class PipeLink:
    """The link to a worker process: one frame down, one frame up."""

    def __init__(self, process: Process, patience: float) -> None:
        assert process.stdout is not None
        self._process = process
        self._patience = patience
        self._output = BufferedByteReceiveStream(process.stdout)
        self.errors = LastLines(relay=True)

    async def begin(self, spec: PlaySpec) -> None:
        """Send what the worker plays."""
        await self._send(pickle.dumps(spec))

    async def exchange(self, down: Down) -> Up:
        """Send to the worker and return its answer.

        Raises:
            WorkerLost: it has ended, or did not answer in time.
        """
        try:
            with anyio.fail_after(self._patience):
                await self._send(pickle.dumps(down))
                size = int.from_bytes(await self._output.receive_exactly(HEADER), "big")
                return pickle.loads(await self._output.receive_exactly(size))
        except TimeoutError as error:
            raise WorkerLost(
                f"the worker process {self._process.pid} did not answer for {self._patience:g} s: a component holds up "
                "its event loop; let it await, or work in a thread"
            ) from error
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise WorkerLost(await self._how_it_ended()) from error

    async def close(self) -> None:
        """End the worker, and read what it still says."""
        if self._process.returncode is None:
            self._process.kill()
        with anyio.move_on_after(1, shield=True):
            await self.errors.ended.wait()

    async def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send(framed(data))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise WorkerLost(await self._how_it_ended()) from error

    async def _how_it_ended(self) -> str:
        with anyio.move_on_after(1):
            code = await self._process.wait()
            await self.errors.ended.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            return f"the worker process {self._process.pid} {how}; its last output:\n{self.errors}"
        return f"the worker process {self._process.pid} closed its output"
