"""`kill -9` at random moments of a JOSH run against the load server, each followed by `simkit resume`.

    python -m benchmarks.kills [--kills N] [--answers N] [--tasks N] [--beam N] [--latency SECONDS] [--seed N]

The run is killed after a random number of further questions and a random moment more. In the end its trees, rewards and
examples are compared with those of a run that nobody killed, and the server's count tells whether any model call was
asked again whose answer had been acknowledged. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import anyio

from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.killing import CountingReplies, Killer, contents

AGENT = f"{Path(__file__).parents[1] / 'tests' / 'resume' / 'asking.py'}:AskingAgent"


async def main(given: argparse.Namespace) -> bool:
    replies = CountingReplies()
    behaviour = Behaviour(latency=given.latency, reply=replies)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        async with serve(behaviour) as server:
            models = ["--agent", AGENT, "--model", "openai/load", "--base-url", server.base_url]
            tree = ["--tasks", str(given.tasks), "--beam", str(given.beam), "--seed", str(given.seed)]
            command = ["run", "josh", *tree, *models]
            one = await Killer(kills=0).run(command, whole, CountingReplies())
            calls = replies.counts.total()
            replies.counts.clear()
            began = time.perf_counter()
            killer = Killer(kills=given.kills, answers=given.answers, seed=given.seed)
            other = await killer.run(command, killed, replies)
        expected, found = contents(whole, one.run_id), contents(killed, other.run_id)
    print(f"calls of the uninterrupted run              {calls}")
    print(f"kills while it ran                          {other.kills} of {given.kills}")
    print(f"seconds with all resumes                    {time.perf_counter() - began:.1f}")
    print(f"acknowledged calls, seen at a kill          {other.acknowledged}")
    print(f"acknowledged calls asked again              {len(other.repeated)}")
    print(f"answers lost with a kill, and asked again   {other.lost}")
    for name, rows in expected.items():
        print(f"{name:<43} {len(rows)} rows, {'equal' if rows == found[name] else 'DIFFERENT'}")
    return not other.repeated and expected == found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--answers", type=int, default=6, help="further questions before a kill, at most")
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(0 if anyio.run(main, arguments()) else 1)
