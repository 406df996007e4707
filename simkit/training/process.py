"""Functions in processes of their own: they keep the event loop free, can be cancelled, and release memory at the end.

A launcher, such as `torchrun --nproc_per_node 8`, may start several processes for one function. The function and its
job are a file in a private folder, `python -m simkit.training.process FOLDER`. The processes ask this one over a Unix
socket there: each request is a connection, with one pickled frame there and one back, so what launchers and libraries
print cannot disturb it. A connection that is only held open ends a process when its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio.abc import SocketStream

from simkit.core import child_process
from simkit.core.child_process import LastLines, framed, read_frame, write_all
from simkit.errors import SimkitError, UsageError
from simkit.run.contract import packed_error, unpacked_error
from simkit.run.served_models import receive_frame

J = TypeVar("J")
Ask: TypeAlias = Callable[[Any], Any]
"""Sends a message to the parent and returns its answer; raises the parent's error."""
Answer: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Answers a message of a process."""

MODULE = "simkit.training.process"
JOB, SOCKET = "job", "link"
ASKS, ENDS, FAILS, HOLDS = "asks", "ends", "fails", "holds"
"""Kinds of frames: a request, a result, an error, and that the connection is held open."""


# --- the parent's side ------------------------------------------------------------------------------------------------


async def run_in_processes(
    function: Callable[[J, Ask], object],
    job: J,
    answer: Answer,
    *,
    environment: Mapping[str, str],
    launcher: Sequence[str] = (),
) -> Any:
    """Call `function(job, ask)` in processes of its own, and return the first result. Cancelling kills them.

    Args:
        function: a function of a module.
        job: its argument; it must be picklable, as all messages and results.
        answer: called in this process with every message that the function sends by `ask`.
        environment: the environment variables, see `child_environment`.
        launcher: command that starts the processes; empty for a single one.

    Raises:
        SimkitError: the function's own error.
        UsageError: a process ended without a result; the message ends with the last output.
    """
    folder, lines = Path(tempfile.mkdtemp(prefix="simkit-")), LastLines()  # private to this user
    results, errors = list[Any](), list[bytes]()

    async def take(kind: str, message: Any) -> Any:
        if kind == ASKS:
            return await answer(message)
        (results if kind == ENDS else errors).append(message)
        return None

    try:
        (folder / JOB).write_bytes(pickle.dumps((function, job)))
        command = [*(launcher or (sys.executable,)), "-m", MODULE, str(folder)]
        async with (
            _listening(folder / SOCKET, take),
            await anyio.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            ) as process,
        ):
            assert process.stdout is not None
            await lines.read_from(process.stdout)
            code = await process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if errors:
        raise unpacked_error(errors[0])
    if not results:
        raise UsageError(f"the process ended with code {code} before it had a result; its last output:\n{lines}")
    return results[0]


def child_environment(**variables: str) -> Mapping[str, str]:
    """This process's environment for a child, with telemetry, notes and progress bars of the libraries off."""
    quiet = {
        "DATASETS_VERBOSITY": "error",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    return child_process.child_environment(**quiet, **variables)


@asynccontextmanager
async def _listening(path: Path, take: Callable[[str, Any], Awaitable[Any]]) -> AsyncGenerator[None]:
    """Answer the requests of processes at a socket, as long as the block; their connections end with it."""

    async def serve(stream: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            async with stream:
                kind, message = pickle.loads(await receive_frame(stream))
                if kind == HOLDS:
                    await stream.receive(1)
                    return
                try:
                    reply = (await take(kind, message), None)
                except SimkitError as error:
                    reply = (None, packed_error(error))
                await stream.send(framed(pickle.dumps(reply)))

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


# --- the child's side -------------------------------------------------------------------------------------------------


def main(folder: Path) -> int:
    """Call the function and tell the parent how it ended; the exit code is 1 after an error."""
    function, job = pickle.loads((folder / JOB).read_bytes())
    tell = partial(_request, str(folder / SOCKET))
    threading.Thread(target=_exit_with_parent, args=(str(folder / SOCKET),), daemon=True).start()
    try:
        result = function(job, partial(tell, ASKS))
    except SimkitError as error:
        tell(FAILS, packed_error(error))
        return 1
    tell(ENDS, result)
    return 0


def _request(path: str, kind: str, message: object) -> Any:
    with _connected(path, kind, message) as connection:
        data = read_frame(connection.fileno())
    if data is None:
        raise ConnectionError("the process that started this one is gone")
    answer, failure = pickle.loads(data)
    if failure is not None:
        raise unpacked_error(failure)
    return answer


def _exit_with_parent(path: str) -> None:
    with suppress(OSError), _connected(path, HOLDS, None) as connection:
        connection.recv(1)
    os._exit(1)


def _connected(path: str, kind: str, message: object) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    write_all(connection.fileno(), framed(pickle.dumps((kind, message))))
    return connection


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
