"""A worker as a process on pipes: `python -m simkit.run.worker_process`, started by `Processes`.

A thread reads the input, so that the process ends with its driver even while a component holds up the event loop.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal

from simkit.core.child_process import framed, own_output, read_frame, write_all
from simkit.run.contract import Down, PlaySpec, Up
from simkit.run.tuning import fast_loop
from simkit.run.worker import serve

SMALL = 1 << 15
"""Bytes that a pipe takes at once; longer answers are written in a thread."""


def main() -> int:
    """Play until the driver says stop, or closes the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends this process in order
    out = own_output()
    first = read_frame(0)
    if first is None:
        return 1
    anyio.run(_serve, pickle.loads(first), out.fileno(), backend_options={"loop_factory": fast_loop()})
    return 0


async def _serve(spec: PlaySpec, out: int) -> None:
    into, outof = anyio.create_memory_object_stream[Down](1)

    def read(portal: BlockingPortal) -> None:
        while (frame := read_frame(0)) is not None:
            portal.call(into.send, pickle.loads(frame))
        os._exit(1)

    async def send(up: Up) -> None:
        data = framed(pickle.dumps(up))
        if len(data) <= SMALL:
            write_all(out, data)
        else:
            await anyio.to_thread.run_sync(write_all, out, data)

    with into, outof:
        async with BlockingPortal() as portal:
            threading.Thread(target=read, args=(portal,), name="orders of the driver", daemon=True).start()
            await serve(spec, outof.receive, send)


if __name__ == "__main__":
    sys.exit(main())
