"""Power cuts at random points: what of a store survives when the machine dies, by default and with --durable.

    python -m benchmarks.powercut [--points N] [--seed N]

Runs are recorded through a file layer that knows what was synced, loaded in small transactions, and copied at random
moments, within the loader's rounds too. At each point the database of such a moment is joined with a journal of the
same or a later one, cut anywhere from its last sync on (`tests/support/powercut.py`). Every combination must open,
hold what was synced (with --durable: what was acknowledged), and be gone on with. Exit code 1 when one does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from random import Random

import anyio

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.powercut import Moment, Recorded, examine


def joined(database: Moment, journal: Moment) -> Moment:
    """A database as it was, perhaps, before its last commits, with the journal of a later moment."""
    return Moment(database.database, journal.journal, journal.synced, journal.acknowledged)


def main(given: argparse.Namespace) -> bool:
    random = Random(given.seed)
    began, points, wrong = time.perf_counter(), 0, 0
    shortest: dict[bool, int] = {False: 0, True: 0}
    number = 0
    for number in count():
        durable = number % 2 == 1
        with tempfile.TemporaryDirectory() as scratch:
            run = Recorded(Path(scratch), random, durable)
            anyio.run(run.play)
            for place, later in enumerate(run.moments):
                earlier = run.moments[random.randint(max(0, place - 3), place)]
                moment = joined(earlier, later)
                cut = next(run.cuts(moment))
                shortest[durable] += len(moment.journal) - len(cut)
                for problem in examine(moment, cut, Path(scratch) / f"cut-{place}", durable=durable):
                    wrong += 1
                    print(f"run {number}, moment {place}, cut at {len(cut)} of {len(moment.journal)}: {problem}")
                points += 1
                if points == given.points:
                    break
        if points == given.points:
            break
    print(f"points                     {points}, in {number + 1} runs, half of them with --durable")
    print(f"wrong                      {wrong}")
    for durable, lost in shortest.items():
        print(f"bytes cut off, {'durable' if durable else 'default'}     {lost}")
    print(f"seconds                    {time.perf_counter() - began:.0f}")
    return not wrong


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(0 if main(arguments()) else 1)
