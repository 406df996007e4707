"""Tokens a second of a real model behind each server, at several numbers of concurrent conversations.

    python benchmarks/served_models.py MODEL.gguf [--llama-server PATH] [--rows 1,8,32] [--tokens 32] [--repeat 3]

The sides: `local/` in this process (float32, float16), `simkit serve`, `transformers serve` (float32), and
llama-server, which computes with the quantised weights of the file. Each gets the same requests by `open_model`, as a
run sends them: conversations of the built-in world without their last reply. The first words of each request differ,
so that no prefix of an earlier measurement helps. The sides take turns, medians count. CPU seconds are those of both
processes; they say more than seconds on a machine that others use.

llama-server is built from the source package of llama-cpp-python:

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xzf llama_cpp_python-*.tar.gz
    cd llama_cpp_python-*/vendor/llama.cpp && cmake -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF
    cmake --build build --target llama-server
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
from local_batching import cpu_of, transformers_serve
from local_models import played

from simkit.core.ids import TurnKey
from simkit.core.messages import Message, UserMessage
from simkit.local.gguf import model_folder
from simkit.models import CallKey, ChatModel, ChatRequest, Sampling
from simkit.models.config import ModelConfig, RetryPolicy
from simkit.models.factory import open_model

Prompts: TypeAlias = list[tuple[Message, ...]]


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens of all replies: number, seconds, CPU seconds."""

    tokens: int
    seconds: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Opened:
    """One line of the table: a model that answers, and the CPU seconds that were used for it."""

    name: str
    model: ChatModel
    cpu: Callable[[], float]


@asynccontextmanager
async def in_process(path: str, dtype: str) -> AsyncGenerator[Opened]:
    async with open_model(f"local/{path},dtype={dtype},threads={THREADS},device=cpu") as model:
        yield Opened(f"simkit, local/, {dtype}", model, time.process_time)


@asynccontextmanager
async def served(name: str, command: Sequence[str | Path], port: int, model: str) -> AsyncGenerator[Opened]:
    """A server on a port of loopback, once it answers."""
    told = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    process = await anyio.open_process(
        [str(each) for each in command], env=told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        options = ModelConfig(base_url=f"http://127.0.0.1:{port}/v1", retry=RetryPolicy(down_at_start=180))
        async with open_model(f"openai/{model}", options) as opened:
            await answer(opened, (UserMessage.of("Hi"),), 1)
            yield Opened(name, opened, lambda: time.process_time() + cpu_of(process.pid))
    finally:
        if process.returncode is not None:
            print(f"{name} has ended with {process.returncode}: {' '.join(map(str, command))}", file=sys.stderr)
        else:
            process.kill()
            await process.wait()


@asynccontextmanager
async def by_transformers(folder: str) -> AsyncGenerator[Opened]:
    with transformers_serve(Path(folder), THREADS) as (url, process):
        async with open_model(f"openai/{folder}", ModelConfig(base_url=url)) as model:
            await answer(model, (UserMessage.of("Hi"),), 1)  # it loads the model at its first request
            yield Opened("transformers serve", model, lambda: time.process_time() + cpu_of(process))


async def answer(model: ChatModel, prompt: tuple[Message, ...], tokens: int) -> int:
    """The number of tokens of one reply."""
    key = CallKey(TurnKey(1, "task", 0, "", 0), "agent")
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    response = await model.complete(ChatRequest(messages=prompt, sampling=sampling), key)
    return response.usage.completion_tokens


async def measure(side: Opened, prompts: Prompts, tokens: int) -> Speed:
    """All prompts at once."""
    counts: list[int] = []

    async def one(prompt: tuple[Message, ...]) -> None:
        counts.append(await answer(side.model, prompt, tokens))

    began, before = time.perf_counter(), side.cpu()
    async with anyio.create_task_group() as group:
        for prompt in prompts:
            group.start_soon(one, prompt)
    return Speed(sum(counts), time.perf_counter() - began, side.cpu() - before)


def prompts_of(count: int, attempt: int) -> Prompts:
    """Conversations up to their last reply, in which the measurement is named first."""
    found: Prompts = []
    for number, (messages, _) in enumerate(played(count)[:count]):
        heard = [message for message in messages if message.role in ("user", "assistant") and message.content]
        while heard and heard[-1].role != "user":
            heard.pop()
        first = UserMessage.of(f"{attempt}.{number}: {heard[0].content}")
        found.append((first, *heard[1:-1], heard[-1]) if len(heard) > 1 else (first,))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def sides(path: str, llama: Path | None, stack: AsyncExitStack) -> list[Opened]:
    folder, port = model_folder(path), free_port()
    weights = ("--dtype", "float16", "--device", "cpu", "--threads", str(THREADS))
    ours = [sys.executable, "-m", "simkit", "serve", folder, "--port", str(port), *weights]
    opening = [in_process(folder, "float32"), in_process(folder, "float16"), by_transformers(folder)]
    opening.append(served("simkit serve, float16", ours, port, folder))
    if llama is not None:
        port = free_port()
        threads = ("-t", str(THREADS), "-tb", str(THREADS))
        command = [llama, "-m", path, "--port", str(port), "--parallel", "32", "--jinja", "-c", "65536", *threads]
        opening.append(served("llama-server, as in the file", command, port, "model"))
    return [await stack.enter_async_context(each) for each in opening]


async def run(options: argparse.Namespace) -> None:
    rows = [int(each) for each in options.rows.split(",")]
    attempts = [prompts_of(max(rows), attempt) for attempt in range(options.repeat)]
    async with AsyncExitStack() as stack:
        opened = await sides(options.model, options.llama_server, stack)
        found: dict[tuple[str, int], list[Speed]] = {}
        for place, prompts in enumerate(attempts):
            for count in rows:
                batch = [(UserMessage.of(f"{place}.{count}."), *prompt) for prompt in prompts[:count]]
                for side in opened:
                    found.setdefault((side.name, count), []).append(await measure(side, batch, options.tokens))
    print(f"\n{options.model}: {THREADS} threads, replies of at most {options.tokens} tokens")
    print("tokens a second | a CPU second")
    print(f"{'':30}" + "".join(f"{f'{count} at once':>18}" for count in rows))
    for side in opened:
        cells = (median(found[side.name, count]) for count in rows)
        print(f"{side.name:30}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


def median(speeds: Sequence[Speed]) -> str:
    wall = statistics.median(each.tokens / each.seconds for each in speeds)
    cpu = statistics.median(each.tokens / max(each.cpu, 0.01) for each in speeds)
    return f"{wall:.1f} | {cpu:.1f}"


THREADS = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", metavar="MODEL.gguf")
    parser.add_argument("--llama-server", type=Path, help="the program; its side is left out without it")
    parser.add_argument("--rows", default="1,8,32", help="conversations at once")
    parser.add_argument("--tokens", type=int, default=32, help="of a reply, at most")
    parser.add_argument("--repeat", type=int, default=3)
    anyio.run(partial(run, parser.parse_args()))


if __name__ == "__main__":
    main()
