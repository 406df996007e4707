"""Accounts of the units that a run plans: each one is done, kept, or not played for a recorded reason.

The plan and the units that were not played are events, so the account can be computed from the stored rows alone (the
view `units`). A unit counts as done only when the end of its episode has been recorded.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from simkit.core.events import Episode, Event, TaskSeen, UnitsNotPlayed, UnitsPlanned
from simkit.core.recorder import LineRecorder, Recorder
from simkit.core.records import PlannedUnit, UnplayedUnit
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.search.base import WorkUnit
from simkit.store.encoding import FINISHED, decode, finished_episode

if TYPE_CHECKING:
    from simkit.run.resume import RecordedRun

T = TypeVar("T")

A_LINE = 1000
"""Maximum number of units in one event, so that a large plan takes only a few lines of the journal."""

UNRECORDED = "its search recorded no end of it"
NO_END = "the worker ended without a result"
STOPPED_AT_FAULT = "stopped at the first fault (--fail-fast)"
INTERRUPTED = "the run was interrupted"
CANCELLED = "the recipe cancelled its play()"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCounts:
    """Counts of planned units by their state; `open` ones are still to be played.

    `reasons` counts the units that were not played, by reason.
    """

    planned: int = 0
    done: int = 0
    kept: int = 0
    not_played: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def open(self) -> int:
        """Number of units that are being played or waiting to be played."""
        return self.planned - self.done - self.kept - self.not_played

    @property
    def short(self) -> str:
        """Message with the number of units that were not played."""
        return f"{self.not_played} of {self.planned} planned episodes were not played"

    @property
    def problem(self) -> str | None:
        """Message about the units that were not played and the reasons; None if everything was played."""
        if not self.not_played:
            return None
        reasons = [reason if len(self.reasons) == 1 else f"{count}: {reason}" for reason, count in self.reasons.items()]
        return f"{self.short}: {'; '.join(reasons)}"

    def to_json(self) -> dict[str, Any]:
        """The counts by name."""
        counts = {"planned": self.planned, "done": self.done, "kept": self.kept, "not_played": self.not_played}
        return {**counts, "not_played_because": dict(self.reasons)}


class UnitLedger:
    """The account of one run in progress; a recorder reports every finished episode to it (`see`)."""

    def __init__(self) -> None:
        self.run_id = ""
        self.attempt = 0
        self._planned = 0
        self._kept = 0
        self._open: dict[str, WorkUnit] = {}
        self._ended: dict[str, Episode | bytes] = {}
        self._done = 0
        self._reasons: dict[str, int] = {}

    def see(self, episode_id: str, end: Episode | bytes) -> None:
        """Register the end of an episode, as an event or as its line."""
        if self._open.pop(episode_id, None) is not None:
            self._done += 1
            self._ended[episode_id] = end

    def plan(self, units: Sequence[WorkUnit], kept: Mapping[str, Episode], recorder: Recorder) -> None:
        """Plan units; those in `kept` were finished by an earlier attempt of the run and are not played again."""
        self._planned += len(units)
        self._kept += len(kept)
        self._open |= {unit.episode_id: unit for unit in units if unit.episode_id not in kept}
        rows = [PlannedUnit(unit.task.id, unit.trial, unit.episode_id in kept) for unit in units]
        for some in _lines(rows):
            recorder.record(UnitsPlanned(self.run_id, self.attempt, some, time.time()))

    def ended(self, episode_id: str) -> Episode | None:
        """Return and remove the recorded episode of a unit; None if its end has not been recorded."""
        end = self._ended.pop(episode_id, None)
        return cast("Episode", decode(end)) if isinstance(end, bytes) else end

    def not_played(self, reasons: Mapping[str, str], recorder: Recorder) -> None:
        """Mark open units as not played in this attempt, given reasons by episode id; units not open are ignored."""
        known = {name: reason for name, reason in reasons.items() if name in self._open}
        rows: list[UnplayedUnit] = []
        for name, reason in known.items():
            unit = self._open.pop(name)
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
            rows.append(UnplayedUnit(unit.task.id, unit.trial, reason))
        for some in _lines(rows):
            recorder.record(UnitsNotPlayed(self.run_id, self.attempt, some, time.time()))

    def close(self, reason: str, recorder: Recorder) -> None:
        """Mark all open units as not played, for this reason."""
        self.not_played(dict.fromkeys(self._open, reason), recorder)

    def account(self) -> UnitCounts:
        """The counts so far."""
        return UnitCounts(
            planned=self._planned,
            done=self._done,
            kept=self._kept,
            not_played=sum(self._reasons.values()),
            reasons=dict(self._reasons),
        )


class CountingRecorder:
    """A recorder that reports finished episodes to a ledger."""

    def __init__(self, recorder: LineRecorder, ledger: UnitLedger) -> None:
        self._recorder = recorder
        self._ledger = ledger

    def record(self, event: Event) -> None:
        """Queue one event."""
        self._recorder.record(event)
        if isinstance(event, Episode):
            self._ledger.see(event.episode_id, event)

    def record_lines(self, lines: Sequence[bytes]) -> None:
        """Queue events that a worker has encoded."""
        self._recorder.record_lines(lines)
        for line in lines:
            if line.startswith(FINISHED):
                self._ledger.see(finished_episode(line), line)

    def commit(self) -> Awaitable[None]:
        """Wait until everything recorded so far has been written."""
        return self._recorder.commit()


def _lines(rows: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return (tuple(rows[start : start + A_LINE]) for start in range(0, len(rows), A_LINE))


class Units:
    """The work units of a run: the trials of each task, and those finished by an earlier attempt of the run."""

    def __init__(self, run_id: str, seed: int, earlier: RecordedRun | None = None) -> None:
        self._run_id = run_id
        self._seed = seed
        self._earlier = earlier
        self._seen: dict[str, Task] = {}
        self._played: Mapping[str, int] = {}  # number of trials so far, by task

    def see(self, tasks: Sequence[Task], recorder: Recorder) -> None:
        """Record the tasks that are played for the first time.

        Raises:
            UsageError: two tasks share an id, or a task differs from the one that an earlier attempt of the run played.
        """
        for task in tasks:
            known = self._seen.get(task.id)
            if known is None:
                seen = task_seen(self._run_id, task)
                if self._earlier is not None:
                    self._earlier.check_task(seen)
                recorder.record(seen)
                self._seen[task.id] = task
            elif known != task:
                raise UsageError(
                    f"two different tasks have the id `{task.id}` (world `{known.world}`, split `{known.split}`; world"
                    f" `{task.world}`, split `{task.split}`), and equal ids mean trials of one task; give each task"
                    " its own id, or play the tasks in separate runs"
                )

    def of(self, tasks: Sequence[Task], trials: int) -> list[WorkUnit]:
        """The next trials of some tasks."""
        units: list[WorkUnit] = []
        played = dict(self._played)
        for task in [*tasks] * trials:
            trial = played.get(task.id, 0)
            played[task.id] = trial + 1
            units.append(WorkUnit(self._run_id, self._seed, task, trial))
        self._played = played
        earlier = self._earlier
        return (
            units if earlier is None else [replace(unit, attempt=earlier.next_start(unit.episode_id)) for unit in units]
        )

    def kept(self, units: Sequence[WorkUnit], supervisor: str) -> dict[str, Episode]:
        """Episodes that an earlier attempt of the run finished, by id.

        Raises:
            UsageError: another search played them.
        """
        earlier = self._earlier
        found = {unit.episode_id: earlier.kept(unit, supervisor) for unit in units} if earlier is not None else {}
        return {name: episode for name, episode in found.items() if episode is not None}


def task_seen(run_id: str, task: Task) -> TaskSeen:
    """The event that records a task."""
    goals = tuple({"key": goal.key, "detail": dict(goal.detail), "weight": goal.weight} for goal in task.goals)
    return TaskSeen(run_id, task.id, task.world, task.split, task.instructions, goals)
