"""Deleting runs: journals, rows, packs, known damage and files of results; trained models on request.

A run is deleted by one step that cannot be half done: its folder of journals is moved to `.pruned/`. What else there is
of it goes then; after a power cut the next loader of the store does the rest (`finish_pruning`).
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from simkit.store.damage import DamageFile
from simkit.store.files import PRUNED, make_folder, sync_folders
from simkit.store.notes import NoteFile
from simkit.store.packs import FOLDER as PACKS
from simkit.store.packs import locked_journals
from simkit.store.tables import OWNERS, rows_of
from simkit.store.transactions import transaction

MODELS = ".models"
"""Name of the file in a pruned folder that says that the run's models go, too."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run takes on the disk, in bytes.

    Attributes:
        run_id: the run.
        journals, pack, results, models: its journals, its pack, files of its results, and models that it trained.
    """

    run_id: str
    journals: int
    pack: int
    results: int
    models: int


def run_files(folder: Path, run: str) -> RunFiles:
    """What a run takes on the disk; its rows in the database are not counted."""
    places = (folder / "journals" / run, folder / PACKS / run, folder / run, folder / "models" / run)
    return RunFiles(run, *map(_size, places))


def _size(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir()) if place.is_dir() else 0


def mark_pruned(folder: Path, run: str, *, models: bool) -> None:
    """Delete a run by moving its journals away; `finish_pruning` does the rest.

    Raises:
        StoreBusy: a process is playing the run.
        OSError: the journals cannot be moved.
    """
    with locked_journals(folder, run):
        here, there = folder / "journals" / run, folder / PRUNED / run
        shutil.rmtree(there, ignore_errors=True)
        make_folder(there.parent)
        if not here.exists():  # its rows are in the database alone
            make_folder(here)
        if models:
            (here / MODELS).touch()
        sync_folders(here / MODELS)
        here.rename(there)
        sync_folders(there / MODELS)
        sync_folders(here / MODELS)


def finish_pruning(connection: duckdb.DuckDBPyConnection, folder: Path, damage: DamageFile, *, files: bool) -> None:
    """Delete what is left of pruned runs; does nothing if none is left.

    Args:
        connection: the database whose rows are deleted.
        folder: the store.
        damage: the store's file of known damage.
        files: delete the files, too; False for a private copy of the database.

    Raises:
        OSError: a file cannot be deleted.
    """
    try:
        runs = sorted(os.listdir(folder / PRUNED))
    except FileNotFoundError:
        return
    for run in runs:
        with transaction(connection):
            for table in OWNERS:
                connection.execute(f"DELETE FROM {table} WHERE {rows_of(table, (run,))}")
            connection.execute(_UNUSED)
        if files:  # the rows are gone for good: a commit is on the disk
            _delete_files(folder, run, damage)
    if files:
        with suppress(OSError):
            (folder / PRUNED).rmdir()


def _delete_files(folder: Path, run: str, damage: DamageFile) -> None:
    tomb = folder / PRUNED / run
    damage.forget(run)
    NoteFile(folder).forget(run)
    for place in (folder / PACKS / run, folder / run):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
    if (tomb / MODELS).exists() and (folder / "models" / run).is_dir():
        shutil.rmtree(folder / "models" / run)
    for parent in (PACKS, "models"):
        sync_folders(folder / parent / run)
    shutil.rmtree(tomb)


_UNUSED = """
DELETE FROM toolsets
WHERE NOT EXISTS (FROM runs WHERE status = 'running')
    AND toolset_id NOT IN (SELECT toolset_id FROM episodes WHERE toolset_id IS NOT NULL)
"""
"""Tools that no episode names; while a run is playing, its first episode may be yet to come."""
