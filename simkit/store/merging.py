"""Copying journals of runs from other stores.

Everything is compared before anything is written. A journal is written in a folder of its own (`.incoming`) and takes
its place, complete and on the disk, by one rename; a merge that was cut off is given again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from simkit.errors import StoreBusy, UsageError
from simkit.store.archive import archive_of
from simkit.store.files import make_folder, open_private, sync_folders
from simkit.store.lines import CHUNK, JournalLines
from simkit.store.packs import locked_journals
from simkit.store.source import JournalSource, find_journals, open_journal

INCOMING, LOCK = ".incoming", ".merging"


@dataclass(frozen=True, slots=True)
class FoundJournal:
    """A journal in one of the stores: its path, and the bytes of its complete lines."""

    path: Path
    size: int


@contextmanager
def incoming(folder: Path) -> Generator[Path]:
    """An empty folder of a store for what is being merged into it; removed at the end. One merge at a time.

    Raises:
        StoreBusy: another process merges into the store.
        OSError: the folder cannot be made.
    """
    lock = open_private(folder / LOCK, os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusy(f"another process merges into {folder} right now; wait until it has ended") from error
        place = folder / INCOMING
        shutil.rmtree(place, ignore_errors=True)
        make_folder(place)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(lock)


def runs_in(folder: Path) -> dict[str, dict[str, FoundJournal]]:
    """The runs of a store that have complete lines: their journals by file name. Nothing is written to the store.

    Raises:
        UsageError: it is no store, or has no runs.
        OSError: a journal cannot be read.
    """
    found = find_journals(folder) if folder.is_dir() else None
    if found is None or not (found.runs or found.troubles):
        raise UsageError(f"{folder} holds no runs; name the folders that --store named when the runs were played")
    for _, error in found.troubles:
        raise error
    sized = {run: {path.name: found_journal(path) for path in paths} for run, paths in found.runs.items()}
    return {run: kept for run, each in sized.items() if (kept := {name: one for name, one in each.items() if one.size})}


def found_journal(path: Path) -> FoundJournal:
    """A journal as it is now, without a last line that is torn or being written.

    Raises:
        OSError: it cannot be read.
    """
    with closing(open_journal(path, synced=False)) as source:
        return FoundJournal(path, _whole(source))


def longest(journals: Sequence[FoundJournal]) -> FoundJournal:
    """The longest of several copies of one journal, of which the others are the beginning.

    Raises:
        UsageError: two of them differ.
        OSError: one cannot be read.
    """
    ordered = sorted(journals, key=lambda each: each.size)
    for short, long in pairwise(ordered):
        if not _begins(short, long):
            raise UsageError(
                f"{short.path} and {long.path} have the same name and differ, so nothing was merged; the second is "
                f"another run, or one of them was changed (`simkit doctor --verify {short.path.parent.name}`)"
            )
    return ordered[-1]


def copy_run(journals: Sequence[FoundJournal], place: Path, store: Path) -> None:
    """Copy journals of one run into a store, by way of the folder `place`; they replace shorter copies of themselves.

    Raises:
        StoreBusy: a process is writing to the run.
        OSError: a file cannot be read or written.
    """
    made: list[Path] = []
    for journal in journals:
        path = place / "journals" / journal.path.parent.name / journal.path.name
        make_folder(path.parent)
        with closing(open_journal(journal.path, synced=False)) as source, open(_created(path), "wb") as file:
            for start in range(0, journal.size, CHUNK):
                file.write(source.read(start, min(CHUNK, journal.size - start)))
        made.append(path)
    take_place(made, store)


def take_place(made: Sequence[Path], store: Path) -> None:
    """Let complete journals of one run, `.../journals/RUN/NAME`, take their place in a store.

    Raises:
        StoreBusy: a process is writing to the run.
        OSError: a file cannot be brought to the disk or renamed.
    """
    for path in made:
        _sync(path)
    sync_folders(made[0])  # a folder that takes its place must not be found empty after a power cut
    run = made[0].parent.name
    with locked_journals(store, run):
        folder = store / "journals" / run
        if folder.exists():
            for path in made:
                path.rename(folder / path.name)
                with suppress(FileNotFoundError):
                    archive_of(folder / path.name).unlink()
        else:
            make_folder(folder.parent)
            made[0].parent.rename(folder)
        sync_folders(folder / made[0].name)


def lines_of(journal: FoundJournal, lines: JournalLines | None = None) -> Iterator[tuple[bytes, bool]]:
    """The intact lines of a journal, each with whether lines before it are missing; `lines` learns of all damage.

    Raises:
        OSError: it cannot be read.
    """
    losses = 0
    for line in lines or JournalLines(journal.path):
        if line.byte < journal.size:
            yield line.data, line.losses > losses
            losses = line.losses


def _created(path: Path) -> int:
    return open_private(path, os.O_WRONLY)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _whole(source: JournalSource) -> int:
    """Bytes of a journal up to its last line break."""
    end = source.size()
    while end:
        start = max(0, end - CHUNK)
        found = source.read(start, end - start).rfind(b"\n") + 1
        if found:
            return start + found
        end = start
    return 0


def _begins(short: FoundJournal, long: FoundJournal) -> bool:
    """Whether a journal is the beginning of another one."""
    with closing(open_journal(short.path, synced=False)) as one, closing(open_journal(long.path, synced=False)) as two:
        return all(
            one.read(start, size) == two.read(start, size)
            for start in range(0, short.size, CHUNK)
            if (size := min(CHUNK, short.size - start))
        )
