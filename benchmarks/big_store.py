"""A store of a million messages: what runs and answers about one run cost in it, beside a store with one run.

    python benchmarks/big_store.py [FOLDER] [--messages 1000000] [--seed 1] [--pack]

Mixed runs are played (trees and conversations, several worlds, faults, stops, resumed attempts: `big_store_runs.py`)
and loaded at once. Each command is then run in pairs, in the store and in one that is empty, or that holds the asked
run alone. FOLDER is kept and gone on with if it is given. The disk is checked first: ten million messages
(`--messages 10000000`) take about 11 GB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
from big_store_runs import MEASURED, hand_over, plans, play

from simkit.store import Store

BYTES = 1_100
"""Disk that a message takes, in bytes: journal, database, and room for a run that is being played."""

PAIRS = 3


def main() -> None:
    """Make the store where it is not there yet, and print the table."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        _check_disk(folder, given.messages)
        store, other = folder / "store", folder / "other"
        _fill(store, folder / "playing", given.messages, given.seed)
        _load(store)
        if given.pack:
            _pack(store)
        _one_run(store, other)
        _compare(store, other, folder / "empty")
        print(f"\nload average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pack", action="store_true", help="Pack all runs before the questions.")
    return parser.parse_args()


def _check_disk(folder: Path, messages: int) -> None:
    made = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed, free = max(0, messages * BYTES - made), shutil.disk_usage(folder).free
    if free < needed:
        room = f"{needed / 1e9:.1f} GB more in {folder}, where {free / 1e9:.1f} GB are free"
        sys.exit(f"{messages:,} messages need {room}")


def _fill(store: Path, playing: Path, messages: int, seed: int) -> None:
    """Play runs until the store has so many messages; those that are there are not played again."""
    Store(store)
    playing.mkdir(exist_ok=True)
    note = store.parent / "played.jsonl"
    counts = [orjson.loads(line)["messages"] for line in note.read_bytes().splitlines()] if note.exists() else []
    began = time.process_time()
    for number, plan in enumerate(plans(seed)):
        if sum(counts) >= messages:
            break
        if number < len(counts):
            continue
        counts.append(play(plan, playing, store))
        with note.open("ab") as file:
            file.write(orjson.dumps({"messages": counts[-1], "recipe": plan.recipe}) + b"\n")
    hand_over(playing, store)
    print(f"{len(counts)} runs, {sum(counts):,} messages, played in {time.process_time() - began:.0f} CPU s")


def _load(folder: Path) -> None:
    """Load the journals into a new database, in a process of its own."""
    for path in folder.glob("simkit.duckdb*"):
        path.unlink()
    code = f"from simkit.store import Store; print(Store({str(folder)!r}).load().bytes)"
    cpu, memory, text = _run([sys.executable, "-c", code])
    count = Store(folder).query("SELECT count(*) FROM messages").rows[0][0]
    size = Store(folder).database.stat().st_size
    print(f"journals {int(text) / 1e6:,.0f} MB, database {size / 1e6:,.0f} MB")
    print(f"load: {cpu:.1f} CPU s, {count / cpu:,.0f} messages a CPU s, {memory:.0f} MB of memory")


def _pack(folder: Path) -> None:
    cpu, memory, _ = _run([sys.executable, "-m", "simkit", "store", "pack", "--store", str(folder)])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"pack: {cpu:.1f} CPU s, {memory:.0f} MB of memory; the store has {size / 1e6:,.0f} MB now")


def _one_run(folder: Path, other: Path) -> None:
    """A store with the asked run alone."""
    run = Store(folder).query(f"SELECT run_id FROM runs WHERE name = '{MEASURED}' ORDER BY number").rows[0][0]
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(folder / "journals" / run, other / "journals" / run)
    Store(other).load()


def _compare(store: Path, other: Path, empty: Path) -> None:
    out = str(store.parent / "kto.jsonl")
    asked = {
        "run josh --tasks 5": ["run", "josh", "--tasks", "5", "--quiet"],
        "ls": ["ls"],
        f"show {MEASURED}": ["show", MEASURED],
        f"export kto --run {MEASURED}": ["export", "kto", "--run", MEASURED, "--out", out],
        f"sql 'from harvest_counts' --run {MEASURED}": ["sql", "from harvest_counts", "--run", MEASURED],
    }
    print(f"\n{'':44}{'CPU s':>8}{'MB':>7}{'  beside CPU s':>14}{'MB':>7}{'CPU':>8}{'memory':>8}")
    for name, given in asked.items():
        small = empty if given[0] == "run" else other
        pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
        for _ in range(PAIRS):
            if given[0] == "run":
                shutil.rmtree(empty, ignore_errors=True)
            pairs.append((_simkit(given, store), _simkit(given, small)))
        (cpu, memory), (own, least) = (
            tuple(statistics.median(values) for values in zip(*side, strict=True)) for side in zip(*pairs, strict=True)
        )
        print(f"{name:44}{cpu:8.2f}{memory:7.0f}{own:14.2f}{least:7.0f}{cpu / own:7.2f}x{memory / least:7.2f}x")


def _simkit(given: list[str], store: Path) -> tuple[float, float]:
    cpu, memory, _ = _run([sys.executable, "-m", "simkit", *given, "--store", str(store)])
    return cpu, memory


def _run(command: list[str]) -> tuple[float, float, str]:
    """CPU seconds, megabytes of memory and output of a command."""
    wrapper = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE); " + (
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); sys.stdout.buffer.write(done.stdout); "
        "print(); print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", wrapper, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-1000:]}")
    text, _, last = done.stdout.rstrip().rpartition("\n")
    cpu, memory = map(float, last.split())
    return cpu, memory, text


if __name__ == "__main__":
    main()
