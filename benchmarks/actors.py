"""What an ask costs: beside a direct call, bounded and bound to a session; and asks per second beside autogen-core's.

    python -m benchmarks.actors [--asks N] [--repeat N]

autogen-core is measured when it can be imported (`pip install autogen-core`); the two sides run in turn, medians count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from simkit.actors.actor import Request
from simkit.actors.scope import open_scope
from simkit.components.cast import Cast

ASKERS = 1000


class Echo:
    """Answers at once."""

    def __init__(self, concurrency: int | None = None, sessions: int | None = None) -> None:
        self.concurrency = concurrency
        self.sessions = sessions

    async def echo(self, number: int) -> int:
        return number


class Pausing(Echo):
    """Lets other tasks run once before it answers, as a handler does that waits for a model."""

    async def echo(self, number: int) -> int:
        await asyncio.sleep(0)
        return number


@dataclass(frozen=True, slots=True)
class Ping(Request[int]):
    """What simkit's echo is asked."""

    number: int

    def serve(self, echo: Echo, /) -> Awaitable[int]:
        return echo.echo(self.number)


@dataclass
class AutogenPing:
    """What autogen-core's echo is sent."""

    number: int


Ask = Callable[[int], Awaitable[object]]


async def in_sequence(ask: Ask, asks: int) -> None:
    for number in range(asks):
        await ask(number)


async def at_once(ask: Ask, asks: int) -> None:
    async def asker(numbers: range) -> None:
        for number in numbers:
            await ask(number)

    async with anyio.create_task_group() as tasks:
        for index in range(ASKERS):
            tasks.start_soon(asker, range(index, asks, ASKERS))


Pattern = Callable[[Ask, int], Awaitable[None]]


async def rate(pattern: Pattern, ask: Ask, asks: int) -> float:
    gc.collect()
    start = time.perf_counter()
    await pattern(ask, asks)
    return asks / (time.perf_counter() - start)


async def simkit_rate(pattern: Pattern, asks: int, pausing: bool, concurrency: int | None) -> float:
    async with open_scope() as scope:
        ref = scope.spawn(Pausing(concurrency) if pausing else Echo(concurrency))
        return await rate(pattern, lambda number: ref.ask(Ping(number)), asks)


async def autogen_rate(core: Any, pattern: Pattern, asks: int, pausing: bool) -> float:
    class EchoAgent(core.BaseAgent):
        async def on_message_impl(self, message: AutogenPing, ctx: object) -> int:
            if pausing:
                await asyncio.sleep(0)
            return message.number

    runtime = core.SingleThreadedAgentRuntime(tracer_provider=None)
    await EchoAgent.register(runtime, "echo", lambda: EchoAgent("echo"))
    runtime.start()
    target = core.AgentId("echo", "default")
    try:
        return await rate(pattern, lambda number: runtime.send_message(AutogenPing(number), recipient=target), asks)
    finally:
        await runtime.stop()


def autogen_core() -> Any | None:
    try:
        return importlib.import_module("autogen_core")
    except ImportError:
        return None


async def costs(asks: int) -> dict[str, float]:
    """Microseconds of one ask by kind, one after another: the best of 20 rounds."""
    number, ping, pure, one = 7, Ping(7), Echo(), Echo(concurrency=1, sessions=1)
    async with open_scope() as scope:
        ref, bounded = scope.spawn(pure), scope.spawn(one)
        cast = Cast(bounded, bounded, bounded, bounded)

        async def in_a_session() -> int:
            async with cast.sessions(1):
                return await bounded.ask(ping)

        kinds: dict[str, Callable[[], Awaitable[int]]] = {
            "a direct call of the method": lambda: pure.echo(number),
            "an ask, no limits": lambda: ref.ask(ping),
            "an ask, concurrency 1": lambda: bounded.ask(ping),
            "an ask, concurrency 1, in a session of its own": in_a_session,
        }
        found = dict.fromkeys(kinds, float("inf"))
        for _ in range(20):
            for name, ask in kinds.items():
                began = time.perf_counter()
                for _ in range(asks // 10):
                    await ask()
                found[name] = min(found[name], (time.perf_counter() - began) / (asks // 10) * 1e6)
        return found


CASES: tuple[tuple[str, Pattern, bool, int | None], ...] = (
    ("one after the other", in_sequence, False, None),
    ("one after the other, handler pauses", in_sequence, True, None),
    (f"{ASKERS} askers", at_once, False, None),
    (f"{ASKERS} askers, handler pauses", at_once, True, None),
    (f"{ASKERS} askers, concurrency 1, handler pauses", at_once, True, 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--asks", type=int, default=20_000, help="asks per measurement")
    parser.add_argument("--repeat", type=int, default=3, help="measurements per side")
    options = parser.parse_args()
    print("microseconds")
    for name, microseconds in asyncio.run(costs(options.asks)).items():
        print(f"{name:58} {microseconds:10.2f}")
    print()
    core = autogen_core()
    if core is None:
        print("autogen-core is not installed here: only simkit is measured (pip install autogen-core)\n")
    print(f"{'asks per second':58} {'simkit':>10} {'autogen':>10} {'ratio':>7}")
    for name, pattern, pausing, concurrency in CASES:
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(options.repeat):
            ours.append(asyncio.run(simkit_rate(pattern, options.asks, pausing, concurrency)))
            if core is not None:
                theirs.append(asyncio.run(autogen_rate(core, pattern, options.asks, pausing)))
        mine = statistics.median(ours)
        other = statistics.median(theirs) if theirs else None
        shown = f"{other:10,.0f} {mine / other:6.1f}x" if other else f"{'-':>10} {'-':>7}"
        print(f"{name:58} {mine:10,.0f} {shown}")


if __name__ == "__main__":
    main()
