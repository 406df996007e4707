"""The link between the processes of a training and the process that started them: requests over a Unix socket.

Each request is a connection: one pickled frame there, one back. What launchers and libraries print cannot disturb it,
and any number of processes can use it. A connection that is only held open ends a process when its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketStream

from simkit.core.child_process import framed, read_frame, write_all
from simkit.errors import SimkitError
from simkit.run.contract import packed_error, unpacked_error
from simkit.run.served_models import receive_frame


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that ended a process, as `packed_error` packs it."""

    error: bytes


HELD = b"held"
"""First frame of a connection that is held open as long as both processes live."""


@dataclass(frozen=True, slots=True)
class ParentLink:
    """A training process's side of the link; `path` is the socket."""

    path: str

    def ask(self, message: object) -> Any:
        """Send a message and wait for the answer.

        Raises:
            SimkitError: the parent's error.
            OSError: the parent is gone.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            write_all(connection.fileno(), framed(pickle.dumps(message)))
            data = read_frame(connection.fileno())
        if data is None:
            raise ConnectionError("the process that started the training is gone")
        answer, failure = pickle.loads(data)
        if failure is not None:
            raise unpacked_error(failure)
        return answer

    def hold(self) -> None:
        """End this process as soon as the parent is gone, or closes the link."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        write_all(connection.fileno(), framed(HELD))

        def until_gone() -> None:
            with suppress(OSError):
                connection.recv(1)
            os._exit(1)

        threading.Thread(target=until_gone, name="link to the parent", daemon=True).start()


@asynccontextmanager
async def listening(path: Path, answer: Callable[[Any], Awaitable[Any]]) -> AsyncGenerator[None]:
    """Answer the requests of training processes at a socket, as long as the block; their connections end with it."""

    async def serve(stream: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            async with stream:
                data = await receive_frame(stream)
                if data == HELD:
                    await stream.receive(1)
                    return
                try:
                    reply = (await answer(pickle.loads(data)), None)
                except SimkitError as error:
                    reply = (None, packed_error(error))
                await stream.send(framed(pickle.dumps(reply)))

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        try:
            yield
        finally:
            group.cancel_scope.cancel()
