"""Merging runs of other stores into one: whole runs are copied, and the shards of a run become one run.

The journal of a merged run is like any other: the lines of its shards, with new numbers, between a start and an end of
its own. What was not played, because a shard is missing or has not ended, is planned and not played for that reason.
More shards of the run can be added later, as a resumed run goes on.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.core.events import RunStarted
from simkit.errors import StoreBusy, StoreError, UsageError
from simkit.run.joining import JOURNAL, JoinedShards, MergedRun
from simkit.run.shard_journals import MergedSoFar, ShardJournal, read_shard
from simkit.store.encoding import JournalEvents
from simkit.store.merging import FoundJournal, copy_run, found_journal, incoming, longest, runs_in
from simkit.store.notes import NoteFile
from simkit.store.source import file_of, raise_starts

if TYPE_CHECKING:
    from simkit.store import Store


def merge(sources: Sequence[Path], into: Path) -> tuple[MergedRun, ...]:
    """Merge the runs of some stores into one, which is made if it does not exist. The sources stay as they are.

    Given again it changes nothing, or adds what the sources have got since.

    Raises:
        UsageError: a source has no runs, or is the target; runs of one id differ; or a merged run was resumed since.
            Nothing was merged.
        StoreBusy: another process merges into the store, or plays a run in it.
        StoreError: a store cannot be read or written; what is merged already stays.
    """
    from simkit.store import Store

    try:
        found = _found(sources, into)
        store = Store(into)
        if not store.writable():
            raise UsageError(f"{into} is read-only; name another store with --into")
        with incoming(into) as place:
            planned = [_plan(run, journals, into) for run, journals in sorted(found.items())]
            done = tuple(each.carry_out(place, store) for each in planned)
            _take_notes(sources, store, found)
    except OSError as error:
        raise StoreError(f"the runs cannot be merged into {into}: {error}. Check the disk and rights") from error
    with suppress(StoreBusy):  # the next command loads them
        store.load()
    return done


def _take_notes(sources: Sequence[Path], into: Store, runs: Container[str]) -> None:
    """Copy the notes about merged runs that the target lacks.

    Raises:
        StoreError: they cannot be read or written.
    """
    for source in sources:
        notes = [note for note in NoteFile(source).read() if note.run_id in runs]
        known = {note.id for note in NoteFile(into.path).read()} if notes else set[str]()
        if new := [note for note in notes if note.id not in known]:
            NoteFile(into.path).append(*new)


def _found(sources: Sequence[Path], target: Path) -> dict[str, dict[str, list[FoundJournal]]]:
    """The journals of all sources, by run and name.

    Raises:
        UsageError: a source has no runs, or is the target.
        OSError: one cannot be read.
    """
    found: dict[str, dict[str, list[FoundJournal]]] = {}
    for source in sources:
        if source.exists() and target.exists() and target.samefile(source):
            raise UsageError(f"{source} is the store that --into names; name the other stores before it")
        for run, journals in runs_in(source).items():
            for name, journal in journals.items():
                found.setdefault(run, {}).setdefault(name, []).append(journal)
    return found


def _plan(run: str, journals: Mapping[str, list[FoundJournal]], target: Path) -> _Copy | JoinedShards:
    there = {name: path for name in journals if file_of(path := target / "journals" / run / name).exists()}
    known = MergedSoFar.read(found_journal(there[JOURNAL])) if JOURNAL in there else MergedSoFar()
    shards = [read_shard(each, (one.lines for one in known.shards.values())) for each in journals.get(JOURNAL, ())]
    sharded = [each for each in shards if each is not None]
    if not sharded:
        own = {name: [found_journal(path)] for name, path in there.items()}
        kept = {name: longest([*each, *own.get(name, ())]) for name, each in journals.items()}
        return _Copy(run, tuple(each for name, each in kept.items() if each not in own.get(name, ())), bool(there))
    if len(sharded) < len(shards):
        raise UsageError(f"one of the stores has a shard of {run}, and another the whole run; merge only the shards")
    if known.shard is not None or (there and not known.shards):
        raise UsageError(
            f"{target} holds {run} itself, which is to be merged from shards; merge into a store of its own"
        )
    return JoinedShards.of(run, _one_each(sharded), known, found_journal(there[JOURNAL]) if there else None)


def _one_each(shards: Sequence[ShardJournal]) -> tuple[ShardJournal, ...]:
    """The shards in their order; of several copies of one, the longest."""
    copies: dict[int, list[ShardJournal]] = {}
    for each in shards:
        copies.setdefault(each.shard.index, []).append(each)
    kept: list[ShardJournal] = []
    for _, each in sorted(copies.items()):
        best = longest([one.journal for one in each])
        kept.append(next(one for one in each if one.journal is best))
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A run to copy: the journals that the target lacks, or of which it has the beginning."""

    run: str
    journals: tuple[FoundJournal, ...]
    known: bool

    def carry_out(self, place: Path, into: Store) -> MergedRun:
        """Copy them."""
        if not self.journals:
            return MergedRun(run_id=self.run, outcome="unchanged")
        numbers = [
            event.number or 0
            for journal in self.journals
            for event, _ in JournalEvents(journal.path, (RunStarted,))
            if isinstance(event, RunStarted)
        ]
        raise_starts(into.path, max(numbers, default=0))
        copy_run(self.journals, place, into.path)
        return MergedRun(run_id=self.run, outcome="extended" if self.known else "copied")
