"""A soak: rollouts and trees for half an hour, with faults in every component and in the endpoint, stops and kills.

    python benchmarks/soak.py [--minutes 30] [--period SECONDS] [--seed N]

One process plays runs all the time, one after the other: some are stopped in the middle and resumed. Beside it, runs of
the command line are killed (SIGKILL) at random moments and resumed, in the same store. After each period the store is
checked and a new one is begun:

- every planned unit is done, kept or named as not played, on the stored rows, and `done` means all of them;
- an episode that no fault touched has the reward that it has in a run without faults;
- nothing in the journals is damaged, and a database rebuilt from them is equal, table by table.

In the end the memory of the first process must be flat after its first quarter (checked in soaks of 10 minutes and
more), and its descriptors must be as many as after its first run. Exit code 1 when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from subprocess import DEVNULL
from typing import Any

import anyio
import orjson
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import SecretStr

from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run
from simkit.run.tuning import fast_loop
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.testing.server import serve_process

HERE = Path(__file__).resolve().parent
PARTS = HERE / "soak_parts.py"
REPLIES = HERE / "workload_replies.py"
KEY = "soak-0123456789"
ENDPOINT_FAULTS = {
    "rate-limited": 0.02,
    "rate-limited-bare": 0.01,
    "failed": 0.02,
    "dropped": 0.02,
    "half": 0.01,
    "slow": 0.01,
    "malformed": 0.01,
    "wrong-type": 0.005,
}
RATE = 0.004
"""Share of calls of a component that meet a fault: about one rollout in ten, and every tree."""

ASK_TIMEOUT = 5.0
"""Seconds after which a component that hangs is at fault."""

TOLERANT = FaultPolicy(max_share=1.0)
"""Faults are meant here: they do not make a run a failure."""

WARM = 10.0
"""Minutes from which on the memory is checked: caches and pools fill in the first ones."""

GROWTH = 1.10
"""Memory of the last quarter over that of the second quarter, at most."""

SLACK = 24 << 20
"""Bytes by which memory may grow besides."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one run plays."""

    name: str
    seed: int
    tasks: int
    trials: int
    beam: int | None

    @property
    def search(self) -> Search:
        """Who plays it."""
        limits = Limits(turns=6)
        return Rollout(limits) if self.beam is None else Josh(BeamSearch(beam=self.beam), limits)

    def command(self, parts: Mapping[str, str], base_url: str) -> list[str]:
        """The same run by the command line."""
        search = ["rollout", "--trials", str(self.trials)] if self.beam is None else ["josh", "--beam", str(self.beam)]
        flags = [part for name, value in parts.items() for part in (f"--{name}", value)]
        counts = ["--tasks", str(self.tasks), "--seed", str(self.seed), "--split", "train", "--max-turns", "6"]
        models = ["--model", "openai/load", "--base-url", base_url, "--temperature", "1"]
        rules = ["--ask-timeout", str(ASK_TIMEOUT), "--max-faults", "1", "--quiet"]
        return ["run", *search, *flags, *counts, *models, *rules]


SHAPES = tuple(
    shape
    for seed in (1, 2)
    for shape in (Shape(f"rollout-{seed}", seed, 40, 2, None), Shape(f"josh-{seed}", seed, 6, 1, 4))
)
"""A rollout is 80 conversations, a tree has up to 4 leaves."""


def parts(salt: int, rate: float) -> dict[str, str]:
    """The components of a run, as the command line names them."""
    names = {"world": "ChaosWorld", "agent": "ChaosAgent", "user": "ChaosUser", "reward": "ChaosReward"}
    return {part: f"{PARTS}:{name},salt={salt},rate={rate}" for part, name in names.items()}


# --- the process that plays all the time ------------------------------------------------------------------------------


async def play(store: Path, shape: Shape, base_url: str, salt: int, rate: float, stop_after: int | None = None) -> Run:
    """Play a shape; with `stop_after` it is stopped after so many episodes and resumed."""
    run = await _play_once(
        Run(store=store, seed=shape.seed, name=shape.name, policy=TOLERANT, ask_timeout=ASK_TIMEOUT),
        shape,
        base_url,
        salt,
        rate,
        stop_after,
    )
    if run.status == "interrupted":
        run = await _play_once(
            Run(store=store, resume=run.id, policy=TOLERANT, ask_timeout=ASK_TIMEOUT), shape, base_url, salt, rate, None
        )
    return run


async def _play_once(run: Run, shape: Shape, base_url: str, salt: int, rate: float, stop_after: int | None) -> Run:
    named = parts(salt, rate)
    options = ModelConfig(base_url=base_url, api_key=SecretStr(KEY), temperature=1.0)
    async with anyio.create_task_group() as group:
        if stop_after is not None:
            group.start_soon(_stop_later, run, stop_after)
        async with run:
            world = run.world(named["world"])
            players = run.cast(
                world,
                agent=named["agent"],
                user=named["user"],
                reward=named["reward"],
                model="openai/load",
                options=options,
            )
            tasks = run.tasks(world, "train", shape.tasks)
            await run.play(shape.search, players, tasks, trials=shape.trials)
        group.cancel_scope.cancel()
    return run


async def _stop_later(run: Run, episodes: int) -> None:
    while len(run.progress.episodes) < episodes:  # noqa: ASYNC110
        await anyio.sleep(0.01)
    run.stop()


async def baseline(base_url: str) -> dict[str, dict[str, float | None]]:
    """The rewards of all shapes without any fault, by `task/trial`."""
    found: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            run = await play(Path(folder), shape, base_url, 0, 0.0)
            assert run.status == "done", f"{shape.name} without faults is {run.status}: {run.problem}"
            found[shape.name] = {f"{one.task_id}/{one.trial}": one.reward for one in run.progress.episodes}
    return found


async def player() -> None:
    """Play periods as standard input asks for them, one JSON object a line; answer with what each took."""
    number = 0
    for line in sys.stdin:  # nothing else happens between two periods
        order = orjson.loads(line)
        until, taken = time.monotonic() + order["seconds"], list[dict[str, float]]()
        random = Random(order["seed"])
        while time.monotonic() < until:
            shape = SHAPES[number % len(SHAPES)]
            most = shape.tasks * shape.trials
            stop_after = random.randrange(1, most) if random.random() < 0.4 else None
            await play(
                Path(order["store"]), shape, order["base_url"], order["seed"] * 10_000 + number, RATE, stop_after
            )
            number += 1
            taken.append({"rss": resident(), "descriptors": len(os.listdir("/proc/self/fd"))})
        sys.stdout.write(orjson.dumps(taken).decode() + "\n")
        sys.stdout.flush()


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- kills ------------------------------------------------------------------------------------------------------------


async def kill_runs(store: Path, base_url: str, until: float, random: Random, counts: Counter[str]) -> None:
    """Start runs by the command line, kill and resume each a few times, and let it come to its end."""
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "SIMKIT_STORE": str(store)}
    number = 0
    while time.monotonic() < until:
        shape = random.choice(SHAPES)
        name = f"{shape.name}-killed-{number}"
        number += 1
        command = [*shape.command(parts(random.randrange(1 << 30), RATE), base_url), "--name", name]
        for _ in range(random.randint(1, 3)):
            async with _simkit(command, environment) as process:
                with anyio.move_on_after(random.uniform(0.8, 4.0)):
                    await process.wait()
                counts["kills"] += process.returncode is None
            if _begun(store, name):
                command = ["resume", name, "--quiet"]
        async with _simkit(command, environment) as process:
            assert process.stderr is not None
            said = await _all(process.stderr)
            await process.wait()
        if process.returncode not in (0, 1):
            counts["bad ends"] += 1
            print(f"{name}: {' '.join(command)} ended with {process.returncode}: {said[-1500:]}", flush=True)
        counts["killed runs"] += 1


def _begun(store: Path, name: str) -> bool:
    marks = f'"name":"{name}"'.encode()
    journals = (store / "journals").glob("*/main.jsonl")
    return any(marks in path.open("rb").readline() for path in journals)


@asynccontextmanager
async def _simkit(arguments: list[str], environment: Mapping[str, str]) -> AsyncGenerator[Process]:
    command = [sys.executable, "-m", "simkit", *arguments]
    async with await anyio.open_process(command, stdin=DEVNULL, stdout=DEVNULL, env=environment) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()


async def _all(stream: ByteReceiveStream) -> str:
    return b"".join([chunk async for chunk in stream]).decode("utf-8", "replace")


# --- checks -----------------------------------------------------------------------------------------------------------

UNITS = """
    with counted as (
        select r.run_id, r.name, r.status, u.attempt, count(*) as planned,
            count(*) filter (u.fate = 'done') as done, count(*) filter (u.fate = 'kept') as kept,
            count(*) filter (u.fate = 'not_played') as not_played,
            count(*) filter (u.fate = 'not_played' and u.reason is null) as unexplained
        from runs r join units u using (run_id) group by all
    )
    select *, attempt = max(attempt) over (partition by run_id) as last from counted
"""
EPISODES = """
    select r.run_id, r.name, e.task_id, e.trial, e.reward, e.outcome, e.faults, e.finished_at is not null as finished
    from episodes e join runs r using (run_id)
"""


@dataclass(slots=True)
class Findings:
    """What was wrong, and what was looked at."""

    wrong: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])

    def check(self, holds: bool, message: str) -> None:
        """Take note of what does not hold."""
        if not holds:
            self.wrong.append(message)
            print(f"WRONG: {message}", flush=True)


def check_store(folder: Path, expected: Mapping[str, Mapping[str, float | None]], findings: Findings) -> None:
    """Check one period's store."""
    store = Store(folder)
    store.load()
    findings.check(not store.damage(), f"damaged lines: {store.damage()[:3]}")
    _check_units(store, findings)
    _check_rewards(store, expected, findings)
    _check_rebuilt(store, findings)


def _check_units(store: Store, findings: Findings) -> None:
    rows = store.query(UNITS).dicts()
    runs = {row["run_id"] for row in rows}
    findings.counts["runs"] += len(runs)
    everyone = {row[0] for row in store.query("select run_id from runs").rows}
    findings.check(runs == everyone, f"runs without a plan: {everyone - runs}")
    for row in rows:
        sums = row["done"] + row["kept"] + row["not_played"]
        where = f"{row['name']} ({row['run_id']}), attempt {row['attempt']}"
        if row["last"]:  # an attempt that was killed leaves its units open; the next one accounts for them
            findings.check(sums == row["planned"], f"{where}: {row['planned']} planned, {sums} accounted for: {row}")
            all_played = row["not_played"] == 0
            findings.check((row["status"] == "done") == all_played, f"{where}: `{row['status']}` with {row}")
        else:
            findings.counts["units open when killed"] += row["planned"] - sums
        findings.check(row["unexplained"] == 0, f"{where}: {row['unexplained']} not played without a reason")
        for name in ("planned", "done", "kept", "not_played"):
            findings.counts[f"units {name}"] += row[name]


def _check_rewards(store: Store, expected: Mapping[str, Mapping[str, float | None]], findings: Findings) -> None:
    for row in store.query(EPISODES).dicts():
        shape = row["name"].partition("-killed-")[0]
        unit = f"{row['task_id']}/{row['trial']}"
        findings.counts["episodes"] += 1
        if not row["finished"]:
            findings.counts["episodes unfinished"] += 1
        elif row["faults"]:
            findings.counts["episodes touched by a fault"] += 1
        else:
            base = expected[shape][unit]
            same = row["reward"] == base
            findings.check(same, f"{row['run_id']} {unit}: reward {row['reward']} instead of {base} without a fault")
            findings.counts["episodes equal to the run without faults"] += same


def _check_rebuilt(store: Store, findings: Findings) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch) / "store"
        other.mkdir()
        shutil.copytree(store.path / "journals", other / "journals")
        rebuilt = Store(other)
        rebuilt.load()
        for table in _tables(store):
            query = f"from {table} order by all"
            one, two = store.query(query).rows, rebuilt.query(query).rows
            findings.check(
                one == two, f"table {table} rebuilt from the journals differs: {len(one)} and {len(two)} rows"
            )
            findings.counts["rows compared with a rebuilt store"] += len(one)


def _tables(store: Store) -> Iterable[str]:
    query = "select table_name from duckdb_tables() where not temporary order by table_name"
    return [row[0] for row in store.query(query).rows]


def check_process(taken: list[dict[str, float]], minutes: float, findings: Findings) -> None:
    """Memory flat after the first quarter, descriptors as after the first run."""
    quarter = max(1, len(taken) // 4)
    early = median(one["rss"] for one in taken[quarter : 2 * quarter] or taken)
    late = median(one["rss"] for one in taken[-quarter:])
    print(f"memory: {early / 2**20:.0f} MB in the second quarter, {late / 2**20:.0f} MB in the last, {len(taken)} runs")
    flat = minutes < WARM or late <= GROWTH * early + SLACK
    findings.check(flat, f"memory grew from {early / 2**20:.0f} to {late / 2**20:.0f} MB")
    first, last = taken[0]["descriptors"], taken[-1]["descriptors"]
    print(f"descriptors: {first:.0f} after the first run, {last:.0f} after the last")
    findings.check(last <= first + 1, f"descriptors grew from {first:.0f} to {last:.0f}")


# --- the whole --------------------------------------------------------------------------------------------------------


async def soak(minutes: float, period: float, seed: int) -> Findings:
    """Soak for so many minutes, in periods of so many seconds."""
    findings, taken, end = Findings(), list[dict[str, float]](), time.monotonic() + 60 * minutes
    flags = [part for name, share in ENDPOINT_FAULTS.items() for part in (f"--{name}", str(share))]
    async with AsyncExitStack() as stack:
        served = ("--port", "0", "--latency", "0.01", "--reply", f"{REPLIES}:talk")
        clean = await stack.enter_async_context(serve_process(*served))
        faulty = await stack.enter_async_context(serve_process(*served, *flags))
        expected = await baseline(clean.base_url)
        process = await stack.enter_async_context(
            await anyio.open_process([sys.executable, __file__, "--player"], stderr=None)
        )
        assert process.stdout is not None
        answers = BufferedByteReceiveStream(process.stdout)
        number = 0
        while number == 0 or time.monotonic() + period / 2 < end:
            with tempfile.TemporaryDirectory() as folder:
                seconds = min(period, max(5.0, end - time.monotonic()))
                order = {"store": folder, "seconds": seconds, "base_url": faulty.base_url, "seed": seed + number}
                taken += await _period(process, answers, order, findings)
                check_store(Path(folder), expected, findings)
            number += 1
            told = ", ".join(f"{value} {name}" for name, value in findings.counts.items())
            print(f"{max(0.0, end - time.monotonic()):.0f} s left: {told}", flush=True)
        process.terminate()
    check_process(taken, minutes, findings)
    return findings


async def _period(
    process: Process, answers: BufferedByteReceiveStream, order: Mapping[str, Any], findings: Findings
) -> list[dict[str, float]]:
    assert process.stdin is not None
    until, random, answer = time.monotonic() + order["seconds"], Random(order["seed"]), b"[]"
    async with anyio.create_task_group() as group:
        group.start_soon(kill_runs, Path(order["store"]), order["base_url"], until, random, findings.counts)
        await process.stdin.send(orjson.dumps(order) + b"\n")
        answer = await answers.receive_until(b"\n", 1 << 24)
    return orjson.loads(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--period", type=float, default=60.0, help="seconds after which the store is checked")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is drawn")
    parser.add_argument("--player", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    backend = {"loop_factory": fast_loop()}
    if given.player:
        anyio.run(player, backend_options=backend)
        return
    print(f"seed {given.seed}", flush=True)
    findings = anyio.run(soak, given.minutes, given.period, given.seed, backend_options=backend)
    findings.check(not findings.counts["bad ends"], f"{findings.counts['bad ends']} commands ended badly")
    print("\n".join(f"{name:45} {value:,}" for name, value in findings.counts.items()))
    print(f"{len(findings.wrong)} findings" if findings.wrong else "everything is as it should be")
    sys.exit(1 if findings.wrong else 0)


if __name__ == "__main__":
    main()
