"""CPU and wall time of model calls against the load server, beside other clients: W1, 200 conversations at once.

    python -m benchmarks.models [--conversations N] [--turns N] [--latency SECONDS] [--repeat N] [--only WORD]

Every conversation makes three calls a turn with a system prompt, tools and its growing history, and waits for each. The
server runs in a process of its own. The sides run in turn, medians count. `aiohttp`, `uvloop` and `openai` are measured
when they can be imported (`pip install aiohttp uvloop openai`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import orjson
from pydantic import SecretStr

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolSpec, UserMessage
from simkit.core.recorder import Recorder
from simkit.models import CallKey, ChatModel, ChatRequest, Sampling
from simkit.models.config import ModelConfig
from simkit.models.factory import ModelContext, open_model
from simkit.models.providers.openai import Endpoint, OpenAIModel
from simkit.run.tuning import fast_loop
from simkit.store.journal import Journal
from simkit.testing.server import serve_process

CALLS = 3
SYSTEM = "You are a clerk of a town's information desk. " * 30
TOOLS = tuple(
    ToolSpec.of(
        f"search_{name}",
        f"Finds a {name} by what it must be like.",
        {each: {"type": "string", "description": f"the {each} wanted"} for each in ("area", "price", "name", "day")},
    )
    for name in ("hotel", "restaurant", "train", "attraction", "taxi", "museum")
)
KEY = SecretStr("benchmark")

Ask: TypeAlias = Callable[[int, int, tuple[Any, ...]], Awaitable[str]]
"""Conversation, number of the call in it, messages so far (in the side's own form); gives the text of the answer."""

Done: TypeAlias = Callable[[], Awaitable[None]]
"""What a conversation does at the end of a turn."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked."""

    conversations: int
    turns: int
    latency: float

    @property
    def calls(self) -> int:
        """Calls altogether."""
        return self.conversations * self.turns * CALLS

    @property
    def ideal(self) -> float:
        """Seconds if nothing but the server took time."""
        return self.turns * CALLS * self.latency


@asynccontextmanager
async def nothing() -> AsyncGenerator[Done]:
    async def done() -> None:
        return None

    yield done


# --- the sides --------------------------------------------------------------------------------------------------------


def body_of(conversation: int, call: int, messages: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The request as other clients are given it."""
    return {
        "model": "m",
        "messages": messages,
        "tools": PLAIN_TOOLS,
        "temperature": 0.7,
        "seed": conversation * 1000 + call,
    }


PLAIN_TOOLS = [tool.to_openai() for tool in TOOLS]


@asynccontextmanager
async def bare_aiohttp(base_url: str) -> AsyncGenerator[tuple[Ask, Done]]:
    aiohttp: Any = importlib.import_module("aiohttp")
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {KEY.get_secret_value()}", "content-type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session, nothing() as done:

        async def ask(conversation: int, call: int, messages: tuple[dict[str, Any], ...]) -> str:
            data = orjson.dumps(body_of(conversation, call, messages))
            async with session.post(f"{base_url}/chat/completions", data=data) as response:
                return orjson.loads(await response.read())["choices"][0]["message"]["content"]

        yield ask, done


@asynccontextmanager
async def bare_client(base_url: str) -> AsyncGenerator[tuple[Ask, Done]]:
    transport = Endpoint(base_url=base_url, api_key=KEY, transport="direct").open()

    async def ask(conversation: int, call: int, messages: tuple[dict[str, Any], ...]) -> str:
        reply = await transport.post(orjson.dumps(body_of(conversation, call, messages)))
        return orjson.loads(reply.body)["choices"][0]["message"]["content"]

    async with nothing() as done:
        yield ask, done
    await transport.aclose()


def asking(model: ChatModel) -> Ask:
    """Ask a chat model as an agent does: messages and tools as values."""
    sampling = Sampling(temperature=0.7)

    async def ask(conversation: int, call: int, messages: tuple[Message, ...]) -> str:
        key = CallKey(TurnKey(0, f"task{conversation}", 0, "", call // CALLS + 1), "agent", call % CALLS)
        request = ChatRequest(messages=messages, tools=TOOLS, sampling=sampling, seed=key.seed)
        return str((await model.complete(request, key)).message.content)

    return ask


@asynccontextmanager
async def provider(base_url: str) -> AsyncGenerator[tuple[Ask, Done]]:
    endpoint = Endpoint(base_url=base_url, api_key=KEY, transport="direct")
    transport = endpoint.open()
    async with nothing() as done:
        yield asking(OpenAIModel("m", endpoint, transport)), done
    await transport.aclose()


@asynccontextmanager
async def stack(base_url: str) -> AsyncGenerator[tuple[Ask, Done]]:
    options = ModelConfig(base_url=base_url, api_key=KEY)
    with tempfile.TemporaryDirectory() as folder:
        async with Journal(Path(folder) / "main.jsonl") as journal:
            recorder: Recorder = journal
            async with open_model("openai/m", options, ModelContext(recorder=recorder, run_id="run")) as model:
                yield asking(model), journal.commit


@asynccontextmanager
async def bare_httpx2(base_url: str) -> AsyncGenerator[tuple[Ask, Done]]:
    import httpx2

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"authorization": f"Bearer {KEY.get_secret_value()}", "content-type": "application/json"}
    async with httpx2.AsyncClient(limits=limits, headers=headers, timeout=60) as client, nothing() as done:

        async def ask(conversation: int, call: int, messages: tuple[dict[str, Any], ...]) -> str:
            data = orjson.dumps(body_of(conversation, call, messages))
            response = await client.post(f"{base_url}/chat/completions", content=data)
            return orjson.loads(response.content)["choices"][0]["message"]["content"]

        yield ask, done


@asynccontextmanager
async def openai_sdk(base_url: str) -> AsyncGenerator[tuple[Ask, Done]]:
    openai: Any = importlib.import_module("openai")
    client = openai.AsyncOpenAI(base_url=base_url, api_key=KEY.get_secret_value(), max_retries=0)
    async with client, nothing() as done:

        async def ask(conversation: int, call: int, messages: tuple[dict[str, Any], ...]) -> str:
            answer = await client.chat.completions.create(**body_of(conversation, call, messages))
            return str(answer.choices[0].message.content)

        yield ask, done


Form: TypeAlias = Callable[[str, str], Any]
"""From role and text to a message as a side keeps it."""


def plain(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def value(role: str, text: str) -> Message:
    match role:
        case "system":
            return SystemMessage.of(text)
        case "user":
            return UserMessage.of(text)
        case _:
            return AssistantMessage.of(text)


@dataclass(frozen=True, slots=True)
class Side:
    """One line of the table."""

    name: str
    needs: str
    open: Callable[[str], Any]
    form: Form
    uvloop: bool = True


SIDES = (
    Side("aiohttp, bare", "aiohttp", bare_aiohttp, plain),
    Side("simkit, its HTTP client bare", "simkit", bare_client, plain),
    Side("simkit, provider", "simkit", provider, value),
    Side("simkit, everything and a journal", "simkit", stack, value),
    Side("simkit, everything, without uvloop", "simkit", stack, value, uvloop=False),
    Side("httpx2, bare", "httpx2", bare_httpx2, plain),
    Side("openai SDK, create", "openai", openai_sdk, plain),
)

# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU milliseconds a call in this process, and wall seconds of the whole load."""

    cpu: float
    wall: float


async def converse(side: Side, ask: Ask, done: Done, conversation: int, load: Load) -> None:
    """One conversation: a user call and two agent calls a turn, the history growing by each."""
    messages: tuple[Any, ...] = (side.form("system", SYSTEM),)
    for call in range(load.turns * CALLS):
        messages = (*messages, side.form("user", f"What about place {call} in the {conversation}th street?"))
        text = await ask(conversation, call, messages)
        messages = (*messages, side.form("assistant", text))
        if call % CALLS == CALLS - 1:
            await done()


async def measure(side: Side, base_url: str, load: Load) -> Figures:
    async with side.open(base_url) as (ask, done):
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for conversation in range(load.conversations):
                tasks.start_soon(converse, side, ask, done, conversation, load)
        return Figures((time.process_time() - cpu) / load.calls * 1000, time.perf_counter() - wall)


async def one(side: Side, load: Load) -> Figures:
    async with serve_process("--port", "0", "--latency", str(load.latency)) as server:
        return await measure(side, server.base_url, load)


def run(side: Side, load: Load) -> Figures:
    with asyncio.Runner(loop_factory=fast_loop() if side.uvloop else None) as runner:
        return runner.run(one(side, load))


def there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--conversations", type=int, default=200, help="at once")
    parser.add_argument("--turns", type=int, default=6, help="of each")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds the server takes")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side")
    parser.add_argument("--only", default="", help="only sides whose name holds this word")
    options = parser.parse_args()
    load = Load(options.conversations, options.turns, options.latency)
    sides = [side for side in SIDES if options.only in side.name and there(side.needs)]
    figures: dict[str, list[Figures]] = {side.name: [] for side in sides}
    for _ in range(options.repeat):
        for side in sides:
            figures[side.name].append(run(side, load))
    report(load, figures)


def report(load: Load, figures: dict[str, list[Figures]]) -> None:
    cores, busy = os.cpu_count(), os.getloadavg()[0]
    print(f"{load.calls} calls, {load.conversations} at once, {load.latency * 1000:g} ms; ideal {load.ideal:.2f} s;")
    print(f"{cores} cores, load average {busy:.1f}, uvloop {'on' if fast_loop() else 'not installed'}\n")
    print(f"{'':36} {'CPU ms/call':>12} {'ratio':>6} {'wall s':>8} {'of ideal':>9}")
    first = 0.0
    for name, found in figures.items():
        cpu = statistics.median(each.cpu for each in found)
        wall = statistics.median(each.wall for each in found)
        first = first or cpu
        print(f"{name:36} {cpu:12.3f} {cpu / first:5.1f}x {wall:8.2f} {wall / load.ideal:8.2f}x")


if __name__ == "__main__":
    main()
