"""CPU of the hot path in two checkouts, measured in alternating pairs: is this one slower than that one?

    python benchmarks/pairs.py BEFORE [--pairs 12] [--only w1 ...]

`BEFORE` is another checkout of simkit, whose environment is in `.venv/dev` or named by `--before-python`. Each sample
is a process of its own: w1 (200 conversations at once), w2 (JOSH at a full beam), forks (a fork and an append of a
conversation with 30 messages). A pair is one sample of each checkout, in turn and in alternating order. Shown are the
medians, the median of the paired ratios (this checkout over the other), and its 95% interval from the order statistics.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SAMPLES = ("w1", "w2", "forks")
SAMPLE = """
import sys
sys.path.insert(0, "benchmarks")
name = sys.argv[1]
if name == "forks":
    from forks import history, seconds
    from simkit.conversation import Entry
    from simkit.state import BranchState
    conversation = history(30)
    state, entry = BranchState(conversation), Entry.agent("It is booked.", 99)
    fork = getattr(state, "fork", None)
    if fork is None:
        fork = lambda: state
    print(seconds(lambda: (fork(), conversation.append(entry)), 50_000, 5) * 1e3)
else:
    from workload_runs import Load, measure, on_fast_loop
    warm = Load(conversations=4, turns=2) if name == "w1" else Load(conversations=2, turns=2, beam=2)
    load = Load(conversations=200, turns=6) if name == "w1" else Load(conversations=20, turns=15, beam=8)
    reply = "talk" if name == "w1" else "talk_in_vain"
    on_fast_loop(lambda: measure(warm, reply))
    print(on_fast_loop(lambda: measure(load, reply)).per_call)
"""


def sample(checkout: Path, python: Path, name: str) -> float:
    """CPU milliseconds a call (forks: milliseconds a fork with append) in one process."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [str(python), "-c", SAMPLE, name]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed in {checkout}:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


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
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--only", nargs="*", choices=SAMPLES, default=SAMPLES)
    given = parser.parse_args()
    before = given.before.resolve()
    other = (before, given.before_python or before / ".venv/dev/bin/python")
    this = (HERE, Path(sys.executable))
    print(f"{'':8} {'before':>10} {'now':>10} {'ratio':>8}   95% interval   pairs")
    for name in given.only:
        pairs: list[tuple[float, float]] = []
        for number in range(given.pairs):
            if number % 2:
                now = sample(*this, name)
                pairs.append((now, sample(*other, name)))
            else:
                was = sample(*other, name)
                pairs.append((sample(*this, name), was))
        ratios = [now / was for now, was in pairs]
        low, high = interval(ratios)
        was, now = statistics.median(was for _, was in pairs), statistics.median(now for now, _ in pairs)
        middle = statistics.median(ratios)
        print(f"{name:8} {was:10.4f} {now:10.4f} {middle:8.3f}   {low:.3f} to {high:.3f}   {len(pairs)}", flush=True)


if __name__ == "__main__":
    main()
