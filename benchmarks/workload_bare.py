"""W1: 200 conversations at once, beside a bare aiohttp loop that makes the same calls."""

from __future__ import annotations

import gc
import importlib
import os
import time
from typing import Any

import anyio
import orjson
from workload_runs import KEY, Load, Measured, heading, measure, middle, on_fast_loop, serving, table

from simkit.components.tools import StartTools
from simkit.core.tasks import Task
from simkit.plugins.prompts import shipped_prompt
from simkit.testing.server import LoadServer
from simkit.tools.builtin import BuiltinWorld
from simkit.users.reply_formats import END_TOOL

LATENCY = 0.05


class BareLoop:
    """The conversations of W1 as plain dicts, with nothing but an HTTP client: no store, no limits, no retries."""

    def __init__(self, load: Load) -> None:
        world = BuiltinWorld()
        server = world.tools()
        self._load = load
        self._tasks = world.tasks("train")[: load.conversations]
        self._tools = [spec.to_openai() for spec in server.start(StartTools(self._tasks[0])).specs]
        self._user_tools = [END_TOOL.to_openai()]
        self._system = shipped_prompt("simkit.agents", "function-calling-1.txt").fill(policy="")
        self._user_prompt = shipped_prompt("simkit.users", "goal-1.txt")

    async def play(self, server: LoadServer) -> Measured:
        """All conversations at once."""
        aiohttp: Any = importlib.import_module("aiohttp")
        headers = {"authorization": f"Bearer {KEY.get_secret_value()}", "content-type": "application/json"}
        gc.collect()
        start = time.perf_counter(), time.process_time()
        connector, url = aiohttp.TCPConnector(limit=0), f"{server.base_url}/chat/completions"
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
            anyio.create_task_group() as group,
        ):
            for number, task in enumerate(self._tasks):
                group.start_soon(self._converse, session, url, task, number)
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        return Measured(wall=wall, cpu=cpu, whole=wall, whole_cpu=cpu, calls=self._load.calls, busy=os.getloadavg()[0])

    async def _converse(self, session: Any, url: str, task: Task, number: int) -> None:
        system = self._user_prompt.fill(goals=task.instructions, ending="")
        user = [{"role": "system", "content": system}, {"role": "user", "content": "(Begin.)"}]
        agent: list[dict[str, Any]] = [{"role": "system", "content": self._system}]

        async def ask(messages: list[dict[str, Any]], tools: list[Any], seed: int) -> dict[str, Any]:
            body = {"model": "load", "messages": messages, "tools": tools, "temperature": 1.0, "seed": seed}
            async with session.post(url, data=orjson.dumps(body)) as response:
                return orjson.loads(await response.read())["choices"][0]["message"]

        for turn in range(self._load.turns + 1):
            wish = await ask(user, self._user_tools, number)
            user.append(wish)
            if turn == self._load.turns:
                return
            agent.append({"role": "user", "content": wish["content"]})
            call = await ask(agent, self._tools, number)
            agent += (call, {"role": "tool", "tool_call_id": "call_0", "content": '[{"name": "the copper walnut"}]'})
            said = await ask(agent, self._tools, number)
            agent.append(said)
            user.append({"role": "user", "content": said["content"]})


async def _bare(load: Load) -> Measured:
    async with serving("talk", LATENCY) as server:
        return await BareLoop(load).play(server)


async def _ours(load: Load) -> Measured:
    measured = await measure(load, "talk", LATENCY)
    assert measured.calls == load.calls, f"{measured.calls} calls instead of {load.calls}"
    return measured


def w1(repeat: int) -> None:
    """Both sides in turn."""
    load = Load(conversations=200, turns=6)
    ideal = load.path * LATENCY
    heading(f"W1: {load.conversations} conversations at once, {load.turns} turns, {load.calls} calls of 50 ms")
    on_fast_loop(lambda: _ours(Load(conversations=4, turns=2)))  # imports, caches, prompts
    sides = {
        "bare aiohttp": lambda: _bare(load),
        "simkit": lambda: _ours(load),
        "simkit, adaptive limit": lambda: _ours(Load(conversations=200, turns=6, limit="adaptive")),
    }
    found: dict[str, list[Measured]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            found[name].append(on_fast_loop(side))
    base = middle(one.per_call for one in found["bare aiohttp"])
    rows: list[tuple[object, ...]] = []
    for name, ones in found.items():
        cpu, whole = middle(one.per_call for one in ones), middle(one.whole_per_call for one in ones)
        wall, busy = middle(one.wall for one in ones), middle(one.busy for one in ones)
        cells = (f"{cpu:.3f}", f"{cpu / base:.1f}x", f"{whole:.3f}", f"{wall:.2f}", f"{wall / ideal:.2f}x")
        rows.append((name, *cells, f"{busy:.1f}"))
    rows.append(("target", "", "3.0x", "", f"{2 * ideal:.2f}", "2.00x", ""))
    rows.append(("stretch", "", "2.0x", "", f"{1.5 * ideal:.2f}", "1.50x", ""))
    table(("", "CPU ms/call", "ratio", "with opening and loading", "wall s", "of ideal", "load"), rows)
