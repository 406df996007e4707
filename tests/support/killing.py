"""Kills a run of the command line repeatedly (SIGKILL at random moments), resumes it, and counts repeated calls.

Expected are the trees, rewards and examples of an uninterrupted run (`contents`), and no repetition of a model call
whose answer had been acknowledged (`KilledRun.repeated`).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import anyio
import anyio.to_thread
import orjson

from simkit.errors import SimkitError
from simkit.store import Store

POLL = 0.002
"""Seconds between two checks of a process or a journal."""


@dataclass(slots=True)
class CountingReplies:
    """The replies of a load server in this process: a function of the request's seed, which identifies the call."""

    counts: Counter[int] = field(default_factory=Counter[int])

    def __call__(self, body: Mapping[str, Any]) -> str:
        """The answer to a request."""
        seed = int(body["seed"])
        self.counts[seed] += 1
        return f"So be it: {blake2b(str(seed).encode(), digest_size=8).hexdigest()}."


@dataclass(slots=True)
class KilledRun:
    """Result of a killed and resumed run.

    Attributes:
        run_id: id of the run.
        kills: number of kills while the run was alive.
        acknowledged: number of model calls whose answers were in the journal at some kill.
        lost: number of answers lost by a kill before they were written, and requested again.
        repeated: seeds of acknowledged calls that were requested again; must be empty.
    """

    run_id: str = ""
    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    repeated: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Killer:
    """Kills a run `kills` times, each time a random moment after a random number of further requests to the server.

    Attributes:
        answers: maximum of that number; with 0 a kill may precede the first request.
        moment: maximum seconds between the last of these requests and the kill.
        patience: seconds that a process has to begin, and to end.
    """

    kills: int
    answers: int = 10
    moment: float = 0.03
    seed: int = 0
    patience: float = 120.0

    async def run(self, arguments: Sequence[str], store: Path, replies: CountingReplies) -> KilledRun:
        """Start `simkit ARGUMENTS`, kill and resume it, and let the last resume finish.

        Raises:
            SimkitError: it did not begin, or it failed; the message contains its output.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["simkit.cli.run", "simkit.models.run_models", "simkit.store", __name__])
        random, found, marks = Random(self.seed), KilledRun(), dict[int, int]()
        command = [*arguments, "--store", str(store), "--quiet"]
        for _ in range(self.kills):
            before = _lengths(store)
            async with _process(context, command, store) as process:
                found.run_id = await self._begun(process, store, before)
                await self._draw(process, replies, random)
                if process.is_alive():
                    process.kill()
                    found.kills += 1
                await _ended(process, self.patience)
            for seed in acknowledged(store, found.run_id):
                marks.setdefault(seed, replies.counts[seed])
            command = ["resume", found.run_id, "--store", str(store), "--quiet"]
        async with _process(context, command, store) as process:
            await _ended(process, self.patience)
            if process.exitcode != 0:
                raise SimkitError(f"the last resume ended with {process.exitcode}: {_printed(store)}")
        found.run_id = found.run_id or next(iter(_lengths(store))).parent.name
        found.acknowledged = len(marks)
        found.repeated = [seed for seed, count in marks.items() if replies.counts[seed] > count]
        found.lost = sum(replies.counts.values()) - len(replies.counts)
        return found

    async def _draw(self, process: ForkServerProcess, replies: CountingReplies, random: Random) -> None:
        """Wait for a random moment, or the end of the process."""
        target = replies.counts.total() + random.randint(0, self.answers)
        while process.is_alive() and replies.counts.total() < target:  # noqa: ASYNC110 - another thread counts
            await anyio.sleep(POLL)
        await _ended(process, random.uniform(0, self.moment))

    async def _begun(self, process: ForkServerProcess, store: Path, before: Mapping[Path, int]) -> str:
        """Wait until the run has written to its journal; returns the run's id."""
        deadline = monotonic() + self.patience
        while monotonic() < deadline:
            alive = process.is_alive()
            for journal, length in _lengths(store).items():
                if length > before.get(journal, 0):
                    return journal.parent.name
            if not alive:
                break
            await anyio.sleep(POLL)
        raise SimkitError(f"the run did not begin: {_printed(store)}")


def acknowledged(store: Path, run_id: str) -> set[int]:
    """Seeds of the model calls whose answers are in a run's journal."""
    found: set[int] = set()
    for line in (store / "journals" / run_id / "main.jsonl").read_bytes().splitlines(keepends=True):
        if line.startswith(b'{"e":"ModelCall",') and line.endswith(b"\n"):
            call = orjson.loads(line)
            if call["response"] is not None:
                found.add(int(call["request"]["digest"]["settings"]["seed"]))
    return found


CONTENTS = {
    "runs": 'select status, seed, json_merge_patch(summary, \'{"done": null, "kept": null}\') from runs '
    "where run_id = $run",
    "episodes": "select * exclude (run_id, attempt, started_at, finished_at, journal, toolset_id) from episodes "
    "where run_id = $run order by all",
    "branches": "select * exclude (finished_at) from branches order by all",
    "messages": "select * from messages order by all",
    "tool calls": "select * exclude (seconds) from tool_calls order by all",
    "rewards": "select * from rewards order by all",
    "harvests": "select * from harvests order by all",
    "model calls": "select distinct branch_id, role, step, request_hash, response from model_calls "
    "where response is not null order by all",
    "sft": "select * exclude (run_id) from sft_examples where run_id = $run order by all",
    "kto": "select * exclude (run_id) from kto_examples where run_id = $run order by all",
    "dpo": "select * exclude (run_id) from dpo_pairs where run_id = $run order by all",
}


def contents(store: Path, run_id: str) -> dict[str, list[str]]:
    """The contents of a store with one run, as text without the run's id and without times."""
    opened, found = Store(store), dict[str, list[str]]()
    for name, query in CONTENTS.items():
        rows = opened.query(query, {"run": run_id} if "$run" in query else None).rows
        found[name] = sorted(repr(row).replace(run_id, "RUN") for row in rows)
    return found


# --- processes --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _process(
    context: ForkServerContext, arguments: Sequence[str], store: Path
) -> AsyncGenerator[ForkServerProcess]:
    """A `simkit` command in a process forked from one with all imports done; killed on exit."""
    await anyio.Path(store).mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_simkit, args=(list(arguments), str(store / "printed.txt")))
    await anyio.to_thread.run_sync(process.start)
    try:
        yield process
    finally:
        process.kill()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(process.join)


def _lengths(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in (store / "journals").glob("*/main.jsonl")}


def _simkit(arguments: list[str], printed: str) -> None:
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["simkit", *arguments]
    from simkit.cli import main

    main()


async def _ended(process: ForkServerProcess, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await anyio.wait_readable(process.sentinel)


def _printed(store: Path) -> str:
    path = store / "printed.txt"
    return path.read_text()[-2000:] if path.exists() else "it printed nothing"
