"""What it costs that an answer is in the journal, or on the disk, before it is acted upon: CPU and wall time a call.

    python -m benchmarks.acknowledged [--calls N] [--at-once N] [--latency SECONDS] [--repeat N]

All sides record every call in a journal on the disk: one commits once at the end, one waits for the write after each
answer, one (`--durable`) also for the sync of the disk. The sides run in turn, medians count. `TMPDIR` says which disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import anyio

from simkit.core.ids import TurnKey
from simkit.core.messages import UserMessage
from simkit.models import CallKey, ChatModel, ChatRequest, ChatResponse, RecordedModel, ScriptedModel
from simkit.models.run_models import AcknowledgedModel
from simkit.run.tuning import fast_loop
from simkit.store.journal import Journal


class Waiting:
    """Answers after a while."""

    name = "waiting"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inner = ScriptedModel(lambda request, key: "Very well, that is what I shall do. " * 4)

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """A few words, late."""
        await anyio.sleep(self._seconds)
        return await self._inner.complete(request, key)


SIDES = {"end": "one commit at the end", "commit": "a commit for each answer", "durable": "the same, with --durable"}


async def measure(given: argparse.Namespace, side: str) -> tuple[float, float]:
    """CPU and wall seconds a call."""
    left = iter(range(given.calls))
    with tempfile.TemporaryDirectory() as folder:
        async with Journal(Path(folder) / "main.jsonl", durable=side == "durable") as journal:
            model: ChatModel = RecordedModel(Waiting(given.latency), journal, "run", bodies=False)
            model = model if side == "end" else AcknowledgedModel(model, journal)

            async def ask() -> None:
                for number in left:
                    key = CallKey(TurnKey(0, f"task{number}", 0, "", 1), "agent")
                    await model.complete(ChatRequest(messages=(UserMessage.of("What now?"),), seed=key.seed), key)

            began, cpu = time.perf_counter(), time.process_time()
            async with anyio.create_task_group() as group:
                for _ in range(given.at_once):
                    group.start_soon(ask)
            await journal.commit()
            return (time.process_time() - cpu) / given.calls, (time.perf_counter() - began) / given.calls


def main(given: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for _ in range(given.repeat):
        for side, samples in found.items():
            samples.append(anyio.run(measure, given, side, backend_options={"loop_factory": fast_loop()}))
    print(f"{given.calls} calls, {given.at_once} at once, {given.latency * 1e3:.0f} ms each; {os.cpu_count()} cores")
    print(f"{'':<26}{'CPU ms a call':>15}{'ratio':>8}{'wall ms a call':>16}{'ratio':>8}{'calls/s':>9}")
    first: tuple[float, float] | None = None
    for side, name in SIDES.items():
        cpu, wall = (statistics.median(each) for each in zip(*found[side], strict=True))
        first = first or (cpu, wall)
        ratios = cpu / first[0], wall / first[1]
        print(f"{name:<26}{cpu * 1e3:>15.3f}{ratios[0]:>8.2f}{wall * 1e3:>16.3f}{ratios[1]:>8.2f}{1 / wall:>9,.0f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--calls", type=int, default=3600)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
