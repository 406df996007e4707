"""W7: what a run may cost, through the command line, with 200 calls in flight."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anyio
from workload_runs import heading, on_fast_loop, serving, table

from simkit.store import Store
from simkit.testing.behaviour import Stats
from simkit.testing.server import LoadServer

LATENCY = 0.25
"""Seconds: long enough for two cores to have 200 calls in flight."""

INPUT, OUTPUT = 0.15, 0.6
"""US dollars for a million tokens."""

CALLS = 200
TURNS = 6

KEPT = """
select coalesce(sum(cost), 0), count(*) filter (response is not null),
    count(distinct (branch_id, role, step)) filter (response is not null)
from model_calls
"""


@dataclass(frozen=True, slots=True)
class Part:
    """What came of one command, by the store, the server and the screen.

    Attributes:
        row: for the table; `answered twice` counts answers of the store to one and the same call.
        stopped: what stopped it, when something did.
    """

    row: tuple[object, ...]
    stopped: str


def told(name: str, code: int, screen: str, stats: Stats, store: Store) -> Part:
    """Read the store."""
    ((cost, answers, calls),) = store.query(KEPT).rows
    ((status, error),) = store.query("select status, error from runs").rows
    billed = (stats.prompt_tokens * INPUT + stats.completion_tokens * OUTPUT) / 1e6
    row = (name, code, status, f"{cost:.4f}", f"{billed:.4f}", stats.in_flight_max, answers, answers - calls)
    said = "as on the screen" if error and error in screen else "NOT on the screen"
    return Part(row, f"{name} was stopped, by the store, {said}:\n  {error}" if error else "")


async def command(name: str, server: LoadServer, folder: Path, *arguments: str) -> Part:
    """Run a command of simkit's."""
    store = folder / "store"
    whole = [sys.executable, "-m", "simkit", *arguments, "--store", str(store), "--quiet"]
    env = {**os.environ, "OPENAI_API_KEY": "benchmark"}
    done = await anyio.run_process(whole, env=env, check=False)
    return told(name, done.returncode, done.stderr.decode(), await server.stats(), Store(store))


async def parts() -> list[Part]:
    """A run with a budget, and its resumption with twice as much."""
    async with serving("talk", LATENCY) as server:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            prices = folder / "prices.json"
            prices.write_text(json.dumps({"models": {"load": {"input": INPUT, "output": OUTPUT}}}))
            who = ("--model", "openai/load", "--user-model", "openai/load", "--split", "train")
            size = ("--tasks", str(CALLS), "--max-turns", str(TURNS), "--temperature", "1")
            reach = ("--concurrency", str(CALLS), "--api-concurrency", str(CALLS), "--base-url", server.base_url)
            given = (*who, *size, *reach, "--prices", str(prices), "--max-cost", "0.50")
            first = await command("run --max-cost 0.50", server, folder, "run", "rollout", *given)
            more = ("resume", "last", "--max-cost", "1.00")
            return [first, await command("resume --max-cost 1.00", server, folder, *more)]


def budget(_: int) -> None:
    """Once: what counts is what comes out."""
    heading(f"W7: {CALLS} conversations, {CALLS} calls of {LATENCY * 1e3:g} ms at once, and a budget of money")
    done = on_fast_loop(parts)
    names = ("", "exit code", "status", "$ by the store", "$ by the server", "in flight", "answers", "answered twice")
    table(names, [part.row for part in done])
    for part in done:
        if part.stopped:
            print(f"\n{part.stopped}")
