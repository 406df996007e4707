"""`kill -9` of workers and of the driver at random moments of a JOSH run against the load server, and `simkit resume`.

    python -m benchmarks.worker_kills [--workers N] [--worker-kills N] [--driver-kills N] [--tasks N] [--seed N]

After random numbers of further questions either a worker is killed, whose place another one takes, or the driver with
all of its workers, after which the run is resumed. In the end its trees, rewards and examples are compared with those
of a run of one process that nobody killed, and the server's count tells whether any model call was asked again whose
answer had been acknowledged. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from subprocess import DEVNULL

import anyio
from anyio.abc import Process

from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.killing import CountingReplies, acknowledged, contents

AGENT = f"{Path(__file__).parents[1] / 'tests' / 'resume' / 'asking.py'}:AskingAgent"
POLL = 0.005


@dataclass
class Kills:
    """A run that is killed: how often, and what was acknowledged at each kill.

    Attributes:
        plan: the kills, `worker` or `driver`, in their order.
        marks: how often each acknowledged call had been asked at the first kill after its answer.
    """

    command: Sequence[str]
    store: Path
    replies: CountingReplies
    plan: list[str]
    random: Random
    answers: int
    run_id: str = ""
    killed: dict[str, int] = field(default_factory=lambda: {"worker": 0, "driver": 0})
    marks: dict[int, int] = field(default_factory=dict[int, int])

    async def carry_out(self) -> None:
        """Play, kill and resume until all kills are done, and let the run end."""
        command = [*self.command]
        while True:
            process = await anyio.open_process([sys.executable, "-m", "simkit", *command], stdout=DEVNULL, stderr=None)
            async with process:
                driver_killed = await self._kill(process)
                code = await process.wait()
            if not driver_killed:
                if code:
                    sys.exit(f"the run ended with {code}")
                return
            command = ["resume", self.run_id, "--store", str(self.store), "--quiet"]

    async def _kill(self, process: Process) -> bool:
        """Kill workers, then the driver if the plan says so. Returns whether the driver was killed."""
        while self.plan:
            if not await self._further(process):
                return False
            what = self.plan[0]
            if what == "driver":
                with suppress(ProcessLookupError):
                    process.kill()
                    self._done(what)
                await process.wait()
                self.mark()
                return True
            workers = _workers(process.pid)
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(self.random.choice(workers), signal.SIGKILL)
                    self._done(what)
                self.mark()
        return False

    async def _further(self, process: Process) -> bool:
        """Wait for a random number of further questions and a moment more; False if the run ends before."""
        target = self.replies.counts.total() + self.random.randint(1, self.answers)
        while self.replies.counts.total() < target:
            if process.returncode is not None or not _alive(process.pid):
                return False
            await anyio.sleep(POLL)
        await anyio.sleep(self.random.uniform(0, 0.03))
        return True

    def _done(self, what: str) -> None:
        self.killed[what] += 1
        self.plan.pop(0)

    def mark(self) -> None:
        """Note how often each acknowledged call has been asked so far."""
        journals = list((self.store / "journals").glob("*/main.jsonl"))
        if journals:
            self.run_id = journals[0].parent.name
            for call in acknowledged(self.store, self.run_id):
                self.marks.setdefault(call, self.replies.counts[call])


def _workers(driver: int) -> list[int]:
    """The worker processes of a driver."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{driver}/task").iterdir():
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return [pid for pid in found if "worker_process" in _command_line(pid)]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def main(given: argparse.Namespace) -> bool:
    replies, random = CountingReplies(), Random(given.seed)
    behaviour = Behaviour(latency=given.latency, reply=replies)
    plan = ["worker"] * given.worker_kills + ["driver"] * given.driver_kills
    random.shuffle(plan)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        async with serve(behaviour) as server:
            models = ["--agent", AGENT, "--model", "openai/load", "--base-url", server.base_url, "--quiet"]
            command = ["run", "josh", "--tasks", str(given.tasks), "--beam", "8", "--seed", str(given.seed), *models]
            one = Kills([*command, "--store", str(whole)], whole, replies, [], random, 1)
            await one.carry_out()
            one.mark()
            calls = replies.counts.total()
            replies.counts.clear()
            began = time.perf_counter()
            workers = ["--workers", str(given.workers), "--concurrency", str(given.concurrency)]
            run = Kills([*command, *workers, "--store", str(killed)], killed, replies, plan, random, given.answers)
            await run.carry_out()
        expected, found = contents(whole, one.run_id), contents(killed, run.run_id)
        repeated = [call for call, count in run.marks.items() if replies.counts[call] > count]
        lost = sum(replies.counts.values()) - len(replies.counts)
    print(f"calls of the uninterrupted run              {calls}")
    print(f"kills of workers, of the driver             {run.killed['worker']}, {run.killed['driver']}")
    print(f"seconds with all resumes                    {time.perf_counter() - began:.1f}")
    print(f"acknowledged calls, seen at a kill          {len(run.marks)}")
    print(f"acknowledged calls asked again              {len(repeated)}")
    print(f"answers lost with a kill, and asked again   {lost}")
    for name, rows in expected.items():
        print(f"{name:<43} {len(rows)} rows, {'equal' if rows == found[name] else 'DIFFERENT'}")
    return not repeated and not run.plan and expected == found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker-kills", type=int, default=50)
    parser.add_argument("--driver-kills", type=int, default=20)
    parser.add_argument("--answers", type=int, default=40, help="further questions before a kill, at most")
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(0 if anyio.run(main, arguments()) else 1)
