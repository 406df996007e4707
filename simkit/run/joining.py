"""Joining the shards of a run: one journal from theirs, with a start, a plan and an end of its own."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

import simkit
from simkit.core.events import (
    Episode,
    EpisodeStarted,
    Event,
    RunFinished,
    RunStarted,
    ShardMerged,
    UnitsNotPlayed,
    UnitsPlanned,
)
from simkit.core.ids import episode_id
from simkit.core.records import PlannedUnit, UnplayedUnit
from simkit.errors import UsageError
from simkit.run.accounting import A_LINE, UnitCounts
from simkit.run.engine import FaultPolicy, is_faulted
from simkit.run.resume import RecordedRun
from simkit.run.shard_journals import OF_THE_WHOLE, MergedSoFar, ShardJournal, plan_of, summed, units_of
from simkit.run.sharding import SHARD
from simkit.run.summary import HARVEST, summarise
from simkit.store.encoding import JournalEvents, encode, kind_of
from simkit.store.files import make_folder, open_private
from simkit.store.lines import CHUNK, journal_seed, next_number, seal, unsealed
from simkit.store.merging import FoundJournal, lines_of, take_place
from simkit.store.source import next_start, open_journal

if TYPE_CHECKING:
    from simkit.store import Store

JOURNAL = "main.jsonl"
Unit: TypeAlias = tuple[str, int]
"""A task and a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRun:
    """What became of one run.

    Attributes:
        run_id: the run.
        outcome: `copied`; `extended`: an earlier copy went on; `merged` from shards; `unchanged`: it was all there.
        shards: number of shards of the plan; 0 for a run that was not sharded.
        merged, missing: the shards that the run consists of now, and those that it lacks.
        status, problem: how it has ended, and why it is not `done`; empty for a run that was not sharded.
    """

    run_id: str
    outcome: Literal["copied", "extended", "merged", "unchanged"]
    shards: int = 0
    merged: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    status: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedShards:
    """Shards of one run to join.

    Attributes:
        run: the run.
        shards: the shards that were found, in their order; `new` of them have lines that the target lacks.
        units: all units of the plan, and the shard of each.
        known: what the target has of them; `target` is its journal, None if there is none.
    """

    run: str
    shards: tuple[ShardJournal, ...]
    new: tuple[ShardJournal, ...]
    units: Mapping[Unit, int]
    known: MergedSoFar
    target: FoundJournal | None

    @classmethod
    def of(
        cls, run: str, shards: Sequence[ShardJournal], known: MergedSoFar, target: FoundJournal | None
    ) -> JoinedShards:
        """Compare shards with each other, and with those that were merged before.

        Raises:
            UsageError: they are not shards of one plan, differ from those merged before, or the run was resumed since.
        """
        whole = _whole(run, shards, known)
        new = tuple(each for each in shards if _is_new(each, known.shards.get(each.shard.index)))
        if new and known.attempt > known.merged:
            raise UsageError(
                f"{run} was resumed after it was merged, so no more shards can be added to it; merge all of its shards "
                "into another store"
            )
        return cls(run=run, shards=tuple(shards), new=new, units=units_of(whole), known=known, target=target)

    def carry_out(self, place: Path, into: Store) -> MergedRun:
        """Write the journal of the whole run in the folder `place`, and let it take its place.

        Raises:
            StoreBusy: a process plays the run.
            OSError: a file cannot be read or written.
        """
        if not self.new:
            return self._report("unchanged", *_last_end(self.target))
        path = place / "journals" / self.run / JOURNAL
        make_folder(path.parent)
        before = self._finished(self.target)
        with open(open_private(path, os.O_RDWR), "r+b") as file:
            journal = _NewJournal(file, path, self.target)
            self._begin(journal, before, next_start(into.path))
            for shard in self.new:
                before_it = self.known.shards.get(shard.shard.index)
                journal.copy(shard, 0 if before_it is None else before_it.lines)
                journal.write(self._merged(shard))
            file.flush()
            end = self._end(journal, FoundJournal(path, file.tell()), before)
        take_place([path], into.path)
        return self._report("merged", end.status, end.error)

    @property
    def attempt(self) -> int:
        """Number of this merge among the starts of the run."""
        return self.known.attempt + 1

    @property
    def count(self) -> int:
        """Number of shards of the plan."""
        return self.shards[0].shard.count

    def _report(self, outcome: Literal["merged", "unchanged"], status: str, problem: str | None) -> MergedRun:
        merged = {*self.known.shards, *(each.shard.index for each in self.shards)}
        return MergedRun(
            run_id=self.run,
            outcome=outcome,
            shards=self.count,
            merged=tuple(sorted(merged)),
            missing=tuple(number for number in range(1, self.count + 1) if number not in merged),
            status=status,
            problem=problem,
        )

    def _begin(self, journal: _NewJournal, before: Mapping[str, Episode], number: int) -> None:
        """Record the start and the plan."""
        start = self.shards[0].start
        config = {name: value for name, value in start.config.items() if name != SHARD}
        identity = (self.run, start.name, start.recipe, start.seed, config, simkit.__version__)
        journal.write(RunStarted(*identity, time.time(), self.attempt, number))
        rows = [PlannedUnit(*unit, episode_id(self.run, *unit) in before) for unit in self.units]
        for first in range(0, len(rows), A_LINE):
            journal.write(UnitsPlanned(self.run, self.attempt, tuple(rows[first : first + A_LINE]), time.time()))

    def _merged(self, shard: ShardJournal) -> ShardMerged:
        return ShardMerged(
            run_id=self.run,
            attempt=self.attempt,
            shard=shard.shard.index,
            shards=shard.shard.count,
            lines=shard.lines,
            digest=shard.digest,
            plan=plan_of(shard),
            status=shard.status,
            error=shard.problem,
            at=time.time(),
        )

    def _end(self, journal: _NewJournal, so_far: FoundJournal, before: Mapping[str, Episode]) -> RunFinished:
        """Record what was not played, and the end."""
        played = self._finished(so_far)
        left = [unit for unit in self.units if episode_id(self.run, *unit) not in played]
        rows = [UnplayedUnit(*unit, self._reason(unit)) for unit in left]
        for first in range(0, len(rows), A_LINE):
            journal.write(UnitsNotPlayed(self.run, self.attempt, tuple(rows[first : first + A_LINE]), time.time()))
        account = UnitCounts(
            planned=len(self.units),
            done=len(played) - len(before),
            kept=len(before),
            not_played=len(rows),
            reasons=dict(Counter(row.reason for row in rows)),
        )
        problem = "; ".join(self._problems(account, list(played.values()))) or None
        summary = summarise(list(played.values()), account, **self._harvest(so_far.path.parents[2])).to_json()
        stats = summed(each.end.stats for each in self.shards if each.end is not None)
        end = RunFinished(self.run, "failed" if problem else "done", summary, time.time(), problem, stats)
        journal.write(end)
        return end

    def _reason(self, unit: Unit) -> str:
        number = self.units[unit]
        shard = next((each for each in self.shards if each.shard.index == number), None)
        name = f"shard {number}/{self.count}"
        if shard is not None and shard.end is not None:
            return f"{name}: {shard.not_played.get(unit, 'it was not played')}"
        known = self.known.shards.get(number)
        if shard is None and known is None:
            return f"{name} was not merged"
        if shard is None and known is not None and known.status != "running":
            return f"{name}: {known.error or known.status}"
        return f"{name} had not ended when it was merged"

    def _problems(self, account: UnitCounts, episodes: Sequence[Episode]) -> Iterator[str]:
        """Why the run is not done: units that were not played, too many faults, and other failures of shards."""
        if account.problem:
            yield account.problem
        config = self.shards[0].start.config
        policy = FaultPolicy(max_share=config.get("max_faults", 0.1), fail_fast=config.get("fail_fast", False))
        broken = policy.broken(sum(map(is_faulted, episodes)), len(episodes))
        if broken:
            yield broken
        for each in self.shards:
            if each.status == "failed" and not each.not_played and "--max-faults" not in (each.problem or ""):
                yield f"shard {each.shard}: {each.problem}"

    def _harvest(self, store: Path) -> Mapping[str, Any]:
        """Counts of the harvest, if the shards have reported them."""
        if not any("golden_branches" in each.end.summary for each in self.shards if each.end is not None):
            return {}
        from simkit.store import Store

        found = Store(store).query(HARVEST, [self.run], runs=[self.run], scoped=True)
        return found.dicts()[0]

    def _finished(self, journal: FoundJournal | None) -> Mapping[str, Episode]:
        """The finished episodes of a journal of the run, by id."""
        if journal is None:
            return {}
        store = journal.path.parents[2]
        return RecordedRun.read(store, self.run, (RunStarted, EpisodeStarted, Episode)).finished


class _NewJournal:
    """A journal that is being written: a copy of an earlier one, if there is one, and lines behind it."""

    def __init__(self, file: IO[bytes], path: Path, earlier: FoundJournal | None) -> None:
        self._file = file
        self._seed = journal_seed(path)
        self._number = 0
        if earlier is not None:
            with closing(open_journal(earlier.path, synced=False)) as source:
                for start in range(0, earlier.size, CHUNK):
                    file.write(source.read(start, min(CHUNK, earlier.size - start)))
                self._number = next_number(source.read, self._seed)

    def write(self, event: Event) -> None:
        """Write an event."""
        self._line(encode(event))

    def copy(self, shard: ShardJournal, skipped: int) -> None:
        """Copy the lines of a shard after the first `skipped` ones. Lines that are missing there are missing here."""
        for number, (line, gap) in enumerate(lines_of(shard.journal)):
            if number < skipped:
                continue
            self._number += gap
            if kind_of(line) not in OF_THE_WHOLE:
                self._line(unsealed(line))
        self._number += shard.damaged  # damage at its end shows, too

    def _line(self, line: bytes) -> None:
        self._file.write(seal(line, self._number, self._seed))
        self._number += 1


def _last_end(journal: FoundJournal | None) -> tuple[str, str | None]:
    """Status and problem of the latest end in a journal."""
    ends = () if journal is None else [event for event, _ in JournalEvents(journal.path, (RunFinished,))]
    last = ends[-1] if ends else None
    return (last.status, last.error) if isinstance(last, RunFinished) else ("running", None)


def _whole(run: str, shards: Sequence[ShardJournal], known: MergedSoFar) -> ShardJournal:
    """The shard with the whole plan.

    Raises:
        UsageError: the plans differ, or none has been recorded.
    """
    longest = max(shards, key=lambda each: len(each.plays))
    plans = {f"{each.journal.path}": plan_of(each) for each in shards}
    plans |= {
        f"shard {each.shard}/{each.shards}, which was merged before,": each.plan for each in known.shards.values()
    }
    for where, plan in plans.items():
        if not plan_of(longest).startswith(plan):
            raise UsageError(
                f"{longest.journal.path} and {where} are shards of {run}, and the tasks that they planned differ: the "
                "data of the world, or the package that makes it, is another on one of the machines. Nothing was "
                "merged; play the shards again with equal data"
            )
    if not longest.plays:
        raise UsageError(f"no shard of {run} has planned its tasks yet; merge it later")
    return longest


def _is_new(shard: ShardJournal, before: ShardMerged | None) -> bool:
    """Whether a shard has lines that were not merged yet.

    Raises:
        UsageError: another one was merged in its place.
    """
    if before is None:
        return True
    if shard.marks.get(before.lines, before.digest) != before.digest:
        raise UsageError(
            f"{shard.journal.path} is shard {shard.shard} of {shard.start.run_id}, and another copy of it was merged "
            "before that differs, so nothing was merged; the shard was played twice, or one copy was changed"
        )
    return shard.lines > before.lines
