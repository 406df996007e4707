"""Tokens a second and CPU a conversation of a local model: many conversations at once against one after the other.

    python -m benchmarks.local_batching [--turns N] [--tokens N] [--repeat N] [--few N] [--only WORD]

A Llama of 0.42 million random weights plays conversations with tools; each turn re-reads the whole conversation, as
agents do. Beside `LocalModel`, through the event loop with rendering and parsing, stand `generate` of transformers and
`transformers serve`, on one core each; they get fewer conversations (`--few`), because they are slow. The sides run in
turn, medians count. `pip install '.[local]' 'transformers[serving]'` first.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread

from simkit.core.ids import TurnKey
from simkit.core.messages import Message, SystemMessage, ToolSpec, UserMessage
from simkit.local.engine import LocalEngine
from simkit.local.weights import EngineOptions
from simkit.models import CallKey, ChatModel, ChatRequest, ChatResponse, Sampling, Usage
from simkit.models.config import ModelConfig, RetryPolicy
from simkit.models.factory import open_model
from simkit.plugins.extras import require

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.tiny_llama import tiny_model, tiny_tokenizer

SERVE = Path(sys.executable).with_name("transformers")
TOOLS = (ToolSpec.of("find_hotel", "Finds a hotel.", {"area": {"type": "string"}}, ("area",)),)
FIRST = SystemMessage.of("You help people with hotels.")

Played: TypeAlias = tuple[Usage, float, float]
"""Tokens read and written, CPU seconds of everybody who worked on it, wall seconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is played: turns of a conversation, tokens of a reply."""

    turns: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Side:
    """One line of the table: who generates, for how many at once, and how many conversations there are."""

    name: str
    at_once: int
    conversations: int
    play: Callable[[Side, Path, Load], Awaitable[Played]]


async def converse(model: ChatModel, number: int, load: Load) -> Usage:
    """One conversation; returns the tokens that the model read and wrote."""
    messages: tuple[Message, ...] = (FIRST,)
    used = Usage()
    sampling = Sampling(temperature=1.0, max_tokens=load.tokens)
    for turn in range(load.turns):
        messages = (*messages, UserMessage.of(f"I need a cheap hotel for {number} people on day {turn * number}"))
        key = CallKey(TurnKey(1, f"task{number}", 0, "", turn), "agent")
        request = ChatRequest(messages=messages, tools=TOOLS, sampling=sampling, seed=key.seed & 0x7FFFFFFF)
        response: ChatResponse = await model.complete(request, key)
        used = used.plus(response.usage)
        messages = (*messages, response.message)
    return used


async def all_of(model: ChatModel, side: Side, load: Load, cpu: Callable[[], float]) -> Played:
    """All conversations of a side, so many at once."""
    used: list[Usage] = []
    places = anyio.CapacityLimiter(side.at_once)

    async def play(number: int) -> None:
        async with places:
            used.append(await converse(model, number, load))

    began, before = time.perf_counter(), cpu()
    async with anyio.create_task_group() as group:
        for number in range(side.conversations):
            group.start_soon(play, number)
    seconds = time.perf_counter() - began
    return reduce(Usage.plus, used), cpu() - before, seconds


async def in_process(side: Side, folder: Path, load: Load) -> Played:
    async with open_model(f"local/{folder},threads=1,device=cpu") as model:
        return await all_of(model, side, load, time.process_time)


class Generate:
    """`generate` of transformers, one conversation after the other, as its documentation shows it."""

    name = "transformers"

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._lock = anyio.Lock()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """An answer, when those before it have theirs."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self._complete, request)

    def _complete(self, request: ChatRequest) -> ChatResponse:
        torch, chat = require("torch", "local"), self._engine.chat
        torch.manual_seed(request.seed or 0)
        prompt = chat.prompt(request.messages, request.tools)
        out = self._engine.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones((1, len(prompt)), dtype=torch.long),
            do_sample=True,
            top_k=0,
            max_new_tokens=request.sampling.max_tokens,
        )
        ids = out[0, len(prompt) :].tolist()
        response = ChatResponse.of(chat.parse(ids, request.tools))
        return ChatResponse(message=response.message, usage=Usage(len(prompt), len(ids)))


async def library(side: Side, folder: Path, load: Load) -> Played:
    engine = LocalEngine.open(folder, EngineOptions(device="cpu"))
    return await all_of(Generate(engine), side, load, time.process_time)


@contextmanager
def transformers_serve(folder: Path, threads: int = 1) -> Generator[tuple[str, int]]:
    """The server's base URL and process id."""
    told = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    command = [SERVE, "serve", folder, "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **told}, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"running on (http://\S+)", line):
                    break
            else:
                raise RuntimeError("transformers serve has ended; is transformers[serving] installed?")
            drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            yield f"{found[1]}/v1", process.pid
        finally:
            process.kill()
    drain.wait()


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[tuple[ChatModel, Callable[[], float]]]:
    with transformers_serve(folder) as (url, process):
        options = ModelConfig(base_url=url, retry=RetryPolicy(max_retries=0))
        async with open_model(f"openai/{folder}", options) as model:
            yield model, lambda: time.process_time() + cpu_of(process)


async def server(side: Side, folder: Path, load: Load) -> Played:
    async with served(folder) as (model, cpu):
        await converse(model, 0, Load(1, 1))  # it loads the model at its first request
        return await all_of(model, side, load, cpu)


def cpu_of(process: int) -> float:
    """CPU seconds of another process (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sides(few: int) -> list[Side]:
    batched = [Side("simkit, local/", at_once, max(at_once, few), in_process) for at_once in (1, 8, 32, 128)]
    return [
        Side("transformers, generate", 1, few, library),
        Side("transformers serve", 1, few, server),
        Side("transformers serve", 8, few, server),
        *batched,
    ]


def write_model(folder: Path) -> Path:
    """A model of the size that is trained from scratch here, and random, so that its replies are long."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(
        tokenizer,
        hidden_size=128,
        intermediate_size=352,
        num_key_value_heads=4,
        initializer_range=0.02,
        max_position_embeddings=2048,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=6, help="of a conversation")
    parser.add_argument("--tokens", type=int, default=20, help="of a reply, at most")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side")
    parser.add_argument(
        "--few", type=int, default=8, help="conversations of the slow sides, and at least of the others"
    )
    parser.add_argument("--only", default="", help="only sides whose name holds this word")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    load = Load(options.turns, options.tokens)
    chosen = [side for side in sides(options.few) if options.only in side.name]
    found: dict[Side, list[Played]] = {side: [] for side in chosen}
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_model(Path(temporary) / "model")
        for _ in range(options.repeat):
            for side in chosen:
                found[side].append(anyio.run(partial(side.play, side, folder, load)))
    report(load, found)


def report(load: Load, found: dict[Side, list[Played]]) -> None:
    busy = os.getloadavg()[0]
    usage = reduce(Usage.plus, [usage for played in found.values() for usage, _, _ in played])
    calls = load.turns * sum(side.conversations * len(played) for side, played in found.items())
    print(f"{load.turns} turns, prompts of {usage.prompt_tokens / calls:.0f} tokens, replies of at most {load.tokens};")
    print(f"{os.cpu_count()} cores, load average {busy:.1f}\n")
    print(f"{'':24} {'at once':>7} {'tokens/s':>9} {'tokens/CPU s':>13} {'CPU ms/conversation':>20} {'ratio':>7}")
    first = 0.0
    for side, played in found.items():
        wall = statistics.median(usage.completion_tokens / seconds for usage, _, seconds in played)
        rate = statistics.median(usage.completion_tokens / cpu for usage, cpu, _ in played)
        each = statistics.median(cpu / side.conversations * 1000 for _, cpu, _ in played)
        first = first or each
        print(f"{side.name:24} {side.at_once:7} {wall:9.0f} {rate:13.0f} {each:20.1f} {first / each:6.1f}x")


if __name__ == "__main__":
    main()
