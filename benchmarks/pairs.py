"""CPU of the hot path in two checkouts, measured in alternating pairs: is this one slower than that one?

    python benchmarks/pairs.py BEFORE [--pairs 60] [--only w1 ...] [--together]

`BEFORE` is another checkout of simkit, whose environment is in `.venv/dev` or named by `--before-python`. Three loads
are played: w1 (200 conversations at once), w2 (JOSH at a full beam), forks (a fork and an append of a conversation with
30 messages). Each checkout plays in a process of its own, on the same core, and the two take turns: a pair is one play
of each, in alternating order. With `--together` both play at the same time on two cores, which they swap after each
pair: what slows the machine slows both, and a pair takes half the time. Every twelve pairs both processes are replaced,
so that the chance layout of one process does not decide. Shown are the medians, the median of the paired ratios (this
checkout over the other), and its 95% interval from the order statistics.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
LOADS = ("w1", "w2", "forks")
GENERATION = 12
"""Pairs that one pair of processes plays."""

PLAYER = """
import os, sys, tempfile
from pathlib import Path
sys.path.insert(0, "benchmarks")
name = sys.argv[1]

def rounds():
    while sys.stdin.readline():
        yield

if name == "forks":
    from forks import BranchState, Entry, history, seconds  # where these are defined differs between checkouts
    conversation = history(30)
    state, entry = BranchState(conversation), Entry.agent("It is booked.", 99)
    fork = getattr(state, "fork", None) or (lambda: state)
    for _ in rounds():
        print(seconds(lambda: (fork(), conversation.append(entry)), 50_000, 5) * 1e3, flush=True)
else:
    from workload_runs import Load, new_run, on_fast_loop, play, serving
    load = Load(conversations=200, turns=6) if name == "w1" else Load(conversations=20, turns=15, beam=8)
    async def main():
        async with serving("talk" if name == "w1" else "talk_in_vain") as server:
            for _ in rounds():
                with tempfile.TemporaryDirectory() as folder:
                    print((await play(new_run(load, Path(folder)), load, server)).per_call, flush=True)
    on_fast_loop(main)
"""


class Player:
    """A process of one checkout that plays a load whenever it is asked."""

    def __init__(self, checkout: Path, python: Path, load: str, core: int) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        command = ["taskset", "--cpu-list", str(core), str(python), "-c", PLAYER, load]
        pipe = subprocess.PIPE
        self._place = f"{load} in {checkout}"
        self._process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def play(self) -> float:
        """CPU milliseconds of a model call, of a fork with an append for `forks`."""
        self.begin()
        return self.end()

    def begin(self) -> None:
        """Start to play."""
        assert self._process.stdin
        print(file=self._process.stdin, flush=True)

    def end(self) -> float:
        """What `play` returns, once it has been played."""
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._place} failed:\n{self._process.stderr.read()[-2000:]}")
        return float(line)

    def move(self, core: int) -> None:
        """Go on with all threads on another core, and the server with it."""
        for process in _family(self._process.pid):
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})

    def close(self) -> None:
        """End the process and its server."""
        self._process.communicate()


def _family(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in _family(int(child)))]


def together(players: tuple[Player, Player], count: int) -> Iterator[tuple[float, float]]:
    """Play at the same time on two cores in turn, after a warm-up; what the first and the second took."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    for number in range(count + 1):
        for player, core in zip(players, cores[:: 1 if number % 2 else -1], strict=True):
            player.move(core)
        for player in players:
            player.begin()
        first, second = (player.end() for player in players)
        if number:
            yield first, second


def pairs(players: tuple[Player, Player], count: int) -> Iterator[tuple[float, float]]:
    """Play in turn, after a warm-up; what the first and the second took."""
    first, second = players
    for player in players:
        player.play()
    for number in range(count):
        if number % 2:
            now = second.play()
            yield first.play(), now
        else:
            was = first.play()
            yield was, second.play()


def measure(
    load: str, before: tuple[Path, Path], this: tuple[Path, Path], count: int, in_turn: bool
) -> list[tuple[float, float]]:
    """That many pairs of the two checkouts, (before, this)."""
    core, way = min(os.sched_getaffinity(0)), pairs if in_turn else together
    found: list[tuple[float, float]] = []
    while len(found) < count:
        with contextlib.ExitStack() as stack:
            players = Player(*before, load, core), Player(*this, load, core)
            for player in players:
                stack.callback(player.close)
            found += way(players, min(GENERATION, count - len(found)))
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """A 95% interval of the median from the order statistics (sign test), the extremes where the pairs are too few."""
    ordered, count = sorted(ratios), len(ratios)
    below, tail = -1, 0.0
    while (tail := tail + math.comb(count, below + 1) / 2**count) <= 0.025:
        below += 1
    place = max(below, 0)
    return ordered[place], ordered[count - 1 - place]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--before-python", type=Path, help="its interpreter; BEFORE/.venv/dev/bin/python otherwise")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--only", nargs="*", choices=LOADS, default=LOADS)
    parser.add_argument("--together", action="store_true", help="play both at the same time, on two cores")
    given = parser.parse_args()
    before = given.before.resolve()
    other = (before, given.before_python or before / ".venv/dev/bin/python")
    this = (HERE, Path(sys.executable))
    print(f"{'':8} {'before':>10} {'now':>10} {'ratio':>8}   95% interval   pairs")
    for load in given.only:
        found = measure(load, other, this, given.pairs, not given.together)
        ratios = [now / was for was, now in found]
        low, high = interval(ratios)
        was, now = statistics.median(was for was, _ in found), statistics.median(now for _, now in found)
        middle = statistics.median(ratios)
        print(f"{load:8} {was:10.4f} {now:10.4f} {middle:8.3f}   {low:.3f} to {high:.3f}   {len(found)}", flush=True)


if __name__ == "__main__":
    main()
