"""Power cuts at random points: what of a store survives when the machine dies.

    python -m benchmarks.powercut [--points N] [--seed N]             while runs are recorded and loaded
    python -m benchmarks.powercut --upkeep [--points N] [--seed N]    while runs are packed and deleted

Runs are recorded through a file layer that knows what was synced, by default and with --durable, loaded in small
transactions, and copied at random moments, within the loader's rounds too. At each point the database of such a moment
is joined with a journal of the same or a later one, cut anywhere from its last sync on (`tests/support/powercut.py`).
Every combination must open, hold what was synced (with --durable: what was acknowledged), and be gone on with.

With --upkeep, stores are packed and pruned on a disk that loses any change of a directory and any bytes that were not
synced (`tests/support/disk.py`). Every outcome must open with each row once, and the command must finish then.

Exit code 1 when one does not.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import anyio

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from simkit.core.events import Event
from simkit.store import Store
from support.powercut import Moment, Recorded, examine
from support.upkeep_cuts import after_pack, after_prune, answers, watched_store

events_of: Any = importlib.import_module("store.store_events")
"""Events of made-up runs, which the tests of the store have."""


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


def filled(folder: Path, random: Random, plain: str) -> Store:
    """A store with a few runs, of which some are packed, but not `plain`; one has results and a model."""
    store = Store(folder, patience=0.0)
    for run in "abc"[: random.randint(1, 3)]:
        events: list[Event] = [events_of.run_started(run)]
        for task in range(random.randint(1, 3)):
            events += events_of.josh_episode(run, f"MUL{task}").events
        events.append(events_of.run_finished(run))
        events_of.write_lines(store.path, events_of.numbered(events, run=run), run)
        if run != plain and random.random() < 0.5:
            store.pack([run])
    for place in (store.path / "a", store.path / "models" / "a"):
        place.mkdir(parents=True)
        (place / "file").write_text("text")
    store.load()
    return store


MOMENTS = 12
"""Power cuts of one store, at random steps."""


def upkeep(given: argparse.Namespace) -> bool:
    random = Random(given.seed)
    began, points, wrong = time.perf_counter(), Counter[str](), 0
    while points.total() < given.points:
        with tempfile.TemporaryDirectory() as scratch:
            pruned = random.random() < 0.5
            store = filled(Path(scratch) / "store", random, plain="" if pruned else "a")
            before = answers(store)
            with watched_store(store) as disk:
                if pruned:
                    store.prune(["a"], models=True)
                else:
                    store.pack(["a"])
            some = min(MOMENTS, len(disk.moments), given.points - points.total())
            for place, moment in random.sample([*enumerate(disk.moments)], some):
                cut = Path(scratch) / "cut"
                moment.cut(cut, random)
                for problem in (after_prune if pruned else after_pack)(cut, before, "a"):
                    wrong += 1
                    print(f"{'prune' if pruned else 'pack'}, step {place} ({moment.step}): {problem}")
                shutil.rmtree(cut)
                points["prune" if pruned else "pack"] += 1
    print(f"points                     {points['pack']} in pack, {points['prune']} in prune")
    print(f"wrong                      {wrong}")
    print(f"seconds                    {time.perf_counter() - began:.0f}")
    return not wrong


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--upkeep", action="store_true", help="cut while runs are packed and deleted")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(0 if (upkeep if chosen.upkeep else main)(chosen) else 1)
