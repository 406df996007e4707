"""The built-in world: CPU of a call and of a task, and what a branch with a booking of its own holds.

python benchmarks/builtin.py
"""

from __future__ import annotations

import time
import tracemalloc
from collections import defaultdict

import anyio

from simkit.components.tools import CallTool
from simkit.core.messages import ToolCall
from simkit.core.tasks import Goal, Task
from simkit.tools.builtin import BuiltinWorld, TravelServer, TravelState

REPEATS = 50
BRANCHES = 10_000


def request(task: Task, goal: Goal) -> CallTool:
    return CallTool(task, ToolCall.of("call", goal.key, goal.detail["parameters"]), TravelState())


async def time_calls(server: TravelServer, tasks: list[Task]) -> dict[str, float]:
    spent: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        for goal in task.goals:
            wanted, start = request(task, goal), time.process_time()
            for _ in range(REPEATS):
                await server.call(wanted)
            spent[goal.key].append((time.process_time() - start) / REPEATS)
    return {name: sum(times) / len(times) for name, times in sorted(spent.items())}


async def bytes_per_branch(server: TravelServer, tasks: list[Task]) -> float:
    booking = next(request(task, goal) for task in tasks for goal in task.goals if goal.key.startswith("book_"))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    branches = [(await server.call(booking)).state for _ in range(BRANCHES)]
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / len(branches)


async def main() -> None:
    world, start = BuiltinWorld(), time.process_time()
    server = TravelServer(world.town)
    print(f"{'town, built once':34}{(time.process_time() - start) * 1e3:9.1f} ms")
    start = time.process_time()
    tasks = list(world.tasks("test")[:200])
    print(f"{'one task':34}{(time.process_time() - start) / len(tasks) * 1e6:9.1f} us")
    calls = await time_calls(server, tasks)
    for name, seconds in calls.items():
        print(f"{name:34}{seconds * 1e6:9.1f} us{1 / seconds:12,.0f} calls/s")
    held = await bytes_per_branch(server, tasks)
    print(f"{f'a branch with one booking, of {BRANCHES:,}':34}{held:9,.0f} bytes")


if __name__ == "__main__":
    anyio.run(main)
