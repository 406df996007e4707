"""Upkeep of a store: which runs are packed or deleted, run by run, so that readers and other runs come in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from simkit.errors import StoreBusy, UsageError
from simkit.store.packs import pack_run, remove_stray_packs
from simkit.store.pruning import RunFiles, mark_pruned, run_files
from simkit.store.reader import Reader
from simkit.store.source import file_of, find_journals
from simkit.store.tree_view import RunRow

if TYPE_CHECKING:
    from simkit.store.store import Store


@dataclass(frozen=True, slots=True)
class PackedRun:
    """A run that was packed: what it took on the disk before and after, in bytes."""

    run_id: str
    before: RunFiles
    after: RunFiles


def with_stages(reader: Reader, names: Sequence[str]) -> tuple[RunRow, ...]:
    """The runs of these names and their stages, each once.

    Raises:
        UsageError: there is no such run.
    """
    found: dict[str, RunRow] = {}
    for name in names:
        run = reader.resolve(name)
        found |= {each.run_id: each for each in (run, *(one for one in reader.runs() if one.part_of == run.run_id))}
    return tuple(found.values())


def to_pack(store: Store, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Ids of the runs to pack: the named ones with their stages, or (none named) all that are finished.

    Raises:
        UsageError: a named run does not exist, or has not come to its end.
        StoreError: the store cannot be read.
    """
    with store.reading() as reader:
        packed = {str(run) for (run,) in reader.query("SELECT run_id FROM packed_runs").rows}
        runs = with_stages(reader, names) if names else reader.runs()
        alive = {run.run_id for run in reader.state.running}
    for run in runs:
        if names and run.status == "running":
            why = "is still running" if run.run_id in alive else "has not come to its end"
            raise UsageError(
                f"the run {run.run_id} {why}, and only finished runs are packed; "
                f"{'wait for it' if run.run_id in alive else f'go on with `simkit resume {run.run_id}`'}"
            )
    ended = [run.run_id for run in runs if run.status != "running"]
    return tuple(run for run in ended if run not in packed or _plain(store, run))


def _plain(store: Store, run: str) -> bool:
    return any(file_of(path) == path for path in find_journals(store.path, (run,)).runs.get(run, ()))


def pack(store: Store, runs: Sequence[str]) -> Iterator[PackedRun]:
    """Pack runs by their ids, one after the other.

    Raises:
        UsageError: a run has not ended, or lacks lines or its journal.
        StoreBusy: the database was held the whole time, or a process plays the run.
        StoreError: the store cannot be written.
    """
    for run in runs:
        before = run_files(store.path, run)
        store.change(partial(_pack, run=run))
        yield PackedRun(run, before, run_files(store.path, run))
    store.loader.compact()


def _pack(store: Store, run: str) -> None:
    with store.loader.writing() as connection:
        pack_run(connection, store.path, run)
        remove_stray_packs(connection, store.path)


def to_prune(store: Store, names: Sequence[str]) -> tuple[RunFiles, ...]:
    """What pruning these runs deletes: they themselves and their stages.

    Raises:
        UsageError: a run does not exist, or is being played.
        StoreError: the store cannot be read.
    """
    with store.reading() as reader:
        runs = with_stages(reader, names)
        alive = {run.run_id for run in reader.state.running}
    for run in runs:
        if run.run_id in alive:
            raise UsageError(f"the run {run.run_id} is still running; stop it first (Ctrl-C, or SIGTERM)")
    return tuple(run_files(store.path, run.run_id) for run in runs)


def prune(store: Store, runs: Sequence[str], *, models: bool = False) -> None:
    """Delete runs by their ids, with everything of them; models that they trained only if `models` is set.

    Raises:
        StoreBusy: the database was held the whole time, or a process plays a run.
        StoreError: the store cannot be written.
    """
    store.change(partial(_prune, runs=runs, models=models))


def _prune(store: Store, runs: Sequence[str], models: bool) -> None:
    with store.loader.writing():
        for run in runs:
            mark_pruned(store.path, run, models=models)
    try:
        store.loader.load()
    except StoreBusy:  # a reader was quicker: whoever loads next deletes the rest
        return
    store.loader.compact()
