"""Run by test_store_killed: forks a writer per line of input, which writes, loads and acknowledges until killed."""

from __future__ import annotations

import os
import random
import sys

import anyio

from simkit.core.events import ModelCall
from simkit.store import Store, keep_loaded


def call(name: str, size: int) -> ModelCall:
    return ModelCall(
        "r1/T/0", "r1/T/0/.0", "agent", 0, 0, "m", name, {"text": "x" * size}, None, None, 1, 1, 0.0, 0.1, 1000.0
    )


async def write(folder: str, name: str) -> None:
    store = Store(folder)
    sizes = random.Random(name)
    async with store.journal("r1", "w0") as journal, anyio.create_task_group() as group:
        group.start_soon(keep_loaded, store.loader, 0.01)

        async def branch(number: int) -> None:
            for count in range(10_000):
                event = call(f"{name}-{number}-{count}", sizes.choice((10, 1_000, 100_000)))
                journal.record(event)
                await journal.commit()
                os.write(1, f"{event.request_hash}\n".encode())

        for number in range(4):
            group.start_soon(branch, number)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            anyio.run(write, sys.argv[1], line.strip())
            os._exit(1)
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


main()
