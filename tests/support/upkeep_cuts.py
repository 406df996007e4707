"""Power cuts while runs of a store are packed or deleted, on the disk of `support.disk`.

`watched_store` follows a store while such a command works; `after_pack` and `after_prune` open what a power cut left.
The store must open, say nothing of damage, and hold every row once: all of them, or none of a run that was being
deleted. The same command must then finish, and a database built anew must say the same.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from simkit.errors import StoreError
from simkit.store import Store
from simkit.store.tables import OWNERS
from support.disk import Disk, watched

Answers: TypeAlias = dict[str, list[tuple[Any, ...]]]

TABLES = ("runs", "episodes", "branches", "messages", "tool_calls")
"""What is compared: tables that are packed, and others."""


@contextmanager
def watched_store(store: Store) -> Generator[Disk]:
    """Follow the disk under a store."""
    with watched(store.path, ("simkit.duckdb", ".simkit.duckdb")) as disk:
        yield disk


def answers(store: Store) -> dict[str, Answers]:
    """What a store says about each of its runs."""
    found: dict[str, Answers] = {}
    with store.reading() as reader:
        for name in TABLES:
            key = OWNERS.get(name, "run_id")
            query = f"SELECT split_part({key}, '/', 1), * FROM {name} ORDER BY ALL"
            for run, *row in reader.query(query).rows:
                found.setdefault(str(run), {}).setdefault(name, []).append(tuple(row))
    return found


def after_pack(folder: Path, before: dict[str, Answers], run: str, *, finish: bool = True) -> list[str]:
    """Problems of a store that lost its power while `run` was packed; `finish` packs it at last."""
    store, wrong = Store(folder), list[str]()
    with _opening(wrong):
        _compare(store, before, "after the cut", wrong)
        if finish:
            store.pack([run])
            _compare(store, before, "packed at last", wrong)
            if others := [name for name in os.listdir(folder / "journals" / run) if not name.endswith(".jsonl.zst")]:
                wrong.append(f"left beside the compressed journals: {others}")
            packed = sorted(str(name) for (name,) in store.query("SELECT run_id FROM packed_runs").rows)
            if sorted(os.listdir(folder / "packed")) != packed or run not in packed:
                wrong.append(f"the packs {os.listdir(folder / 'packed')}, of which {packed} are read")
            _anew(store, before, wrong)
    return wrong


def after_prune(folder: Path, before: dict[str, Answers], run: str, *, finish: bool = True) -> list[str]:
    """Problems of a store that lost its power while `run` was deleted; `finish` deletes it at last."""
    store, wrong = Store(folder), list[str]()
    gone = not (folder / "journals" / run).exists()
    others = {name: rows for name, rows in before.items() if name != run}
    with _opening(wrong):
        _compare(store, others if gone else before, "after the cut", wrong)
        if not gone and not (folder / run).is_dir():
            wrong.append("its results are gone, and it is not")
        if finish and not gone:
            store.prune([run], models=True)
            _compare(store, others, "deleted at last", wrong)
        if finish or gone:
            places = [folder / name / run for name in (".pruned", "packed", "journals", "models", ".")]
            left = [str(place.relative_to(folder)) for place in places if place.exists()]
            wrong += [f"left of the deleted run: {', '.join(left)}"] if left else []
        if finish:
            _anew(store, others, wrong)
    return wrong


@contextmanager
def _opening(wrong: list[str]) -> Generator[None]:
    try:
        yield
    except StoreError as error:
        wrong.append(f"it does not open: {error}")


def _anew(store: Store, expected: dict[str, Answers], wrong: list[str]) -> None:
    store.database.unlink()
    _compare(store, expected, "in a new database", wrong)


def _compare(store: Store, expected: dict[str, Answers], when: str, wrong: list[str]) -> None:
    with store.reading() as reader:
        wrong += [f"{when}: {event}" for event in reader.state.events]
    found = answers(store)
    for run in sorted({*found, *expected}):
        for table in TABLES:
            here, due = found.get(run, {}).get(table, []), expected.get(run, {}).get(table, [])
            if here != due:
                wrong.append(f"{when}: {len(here)} rows of {run} in {table} instead of {len(due)}, or others")
    for bad in store.load().damaged:
        wrong.append(f"{when}: damage {bad.kind} of {bad.journal.name}: {bad.reason}")
