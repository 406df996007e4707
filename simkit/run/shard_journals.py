"""What the journal of a shard says, and the plan that all shards of a run share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

from simkit.core.events import Event, RunFinished, RunStarted, ShardMerged, ShardPlanned, UnitsNotPlayed
from simkit.run.sharding import Shard, owner
from simkit.store.encoding import decode, kind_of
from simkit.store.lines import JournalLines
from simkit.store.merging import FoundJournal, lines_of

OF_THE_WHOLE = frozenset({"RunStarted", "RunFinished", "UnitsPlanned", "UnitsNotPlayed", "ShardPlanned"})
"""Events of a shard that the merged run has of its own."""

_TOLD = frozenset({"RunStarted", "RunFinished", "UnitsNotPlayed", "ShardPlanned"})


@dataclass(frozen=True, slots=True)
class PlayPlan:
    """One play of the whole run: its tasks in order, how often each is played, and the digest of their contents."""

    trials: int
    digest: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJournal:
    """The journal of one shard.

    Attributes:
        lines, digest: number and digest of its intact lines.
        marks: digest of the lines up to some numbers of lines.
        start: its latest start.
        plays: the plan that this start recorded.
        not_played: reasons by task and trial, of this start.
        end: the end of this start; None if it has none.
        damaged: whether lines of it are damaged or missing.
    """

    shard: Shard
    journal: FoundJournal
    lines: int
    digest: str
    marks: Mapping[int, str]
    start: RunStarted
    plays: tuple[PlayPlan, ...]
    not_played: Mapping[tuple[str, int], str]
    end: RunFinished | None
    damaged: bool

    @property
    def status(self) -> str:
        """How its latest start ended; `running` if it has not."""
        return "running" if self.end is None else self.end.status

    @property
    def problem(self) -> str | None:
        """Why it is not done, as its end says."""
        return None if self.end is None else self.end.error


@dataclass(slots=True)
class _Told:
    """What the lines of a shard have said so far."""

    start: RunStarted | None = None
    end: RunFinished | None = None
    plays: dict[int, PlayPlan] = field(default_factory=dict[int, PlayPlan])
    not_played: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])

    def hear(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.start, self.end = event, None
                self.plays.clear()
                self.not_played.clear()
            case RunFinished():
                self.end = event
            case ShardPlanned():
                known = self.plays.get(event.play)
                tasks = event.tasks if known is None else (*known.tasks, *event.tasks)
                self.plays[event.play] = PlayPlan(event.trials, event.digest, tasks)
            case UnitsNotPlayed():
                self.not_played |= {(unit.task_id, unit.trial): unit.reason for unit in event.units}
            case _:
                pass


def read_shard(journal: FoundJournal, marks: Iterable[int] = ()) -> ShardJournal | None:
    """Read the journal of a shard, with the digests of its first `marks` lines; None if it is not one.

    Raises:
        OSError: it cannot be read.
        WrongValue: an intact line is not the event that it says it is.
    """
    told, found, wanted, at, lines = _Told(), sha256(), {*marks}, dict[int, str](), 0
    of_journal = JournalLines(journal.path)
    for line, _ in lines_of(journal, of_journal):
        found.update(line)
        lines += 1
        if lines in wanted:
            at[lines] = found.hexdigest()
        if kind_of(line) in _TOLD:
            told.hear(decode(line))
            if told.start is not None and Shard.of(told.start.config) is None:
                return None
    shard = None if told.start is None else Shard.of(told.start.config)
    if told.start is None or shard is None:
        return None
    return ShardJournal(
        shard=shard,
        journal=journal,
        lines=lines,
        digest=found.hexdigest(),
        marks=at,
        start=told.start,
        plays=tuple(told.plays[play] for play in sorted(told.plays)),
        not_played=told.not_played,
        end=told.end,
        damaged=bool(of_journal.bad),
    )


@dataclass(slots=True)
class MergedSoFar:
    """What the journal of a merged run has of its shards.

    Attributes:
        shards: the last lines that were merged, by number of the shard.
        attempt: number of its latest start, -1 for none; `merged` of its latest merge.
    """

    shards: dict[int, ShardMerged] = field(default_factory=dict[int, ShardMerged])
    attempt: int = -1
    merged: int = -1
    shard: Shard | None = None

    @classmethod
    def read(cls, journal: FoundJournal) -> MergedSoFar:
        """Read the journal of a run.

        Raises:
            OSError: it cannot be read.
        """
        known = cls()
        for line, _ in lines_of(journal):
            match kind_of(line):
                case "RunStarted":
                    start = cast("RunStarted", decode(line))
                    known.attempt = known.attempt + 1 if start.attempt is None else start.attempt
                    known.shard = Shard.of(start.config)
                case "ShardMerged":
                    event = cast("ShardMerged", decode(line))
                    known.shards[event.shard], known.merged = event, event.attempt
                case _:
                    pass
        return known


def plan_of(shard: ShardJournal) -> str:
    """Trials and tasks of each play of a shard, as `ShardMerged` records them."""
    return " ".join(f"{play.trials}:{play.digest}" for play in shard.plays)


def units_of(shard: ShardJournal) -> dict[tuple[str, int], int]:
    """All units of the plan that a shard recorded, in order, by task and trial: the shard that plays each of them."""
    places, trials, units = dict[str, int](), dict[str, int](), dict[tuple[str, int], int]()
    for play in shard.plays:
        for task in (*play.tasks,) * play.trials:
            trial = trials.get(task, 0)
            trials[task], units[task, trial] = trial + 1, owner(places, task, shard.shard.count)
    return units


def summed(stats: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of several shards as those of one run: counts are added, seconds and lag are the greatest."""
    found: dict[str, Any] = {}
    for each in stats:
        for name, value in each.items():
            if isinstance(value, Mapping):
                counts, was = cast("Mapping[str, float]", value), cast("Mapping[str, float]", found.get(name, {}))
                found[name] = {key: _joined(name, was.get(key, 0), number) for key, number in counts.items()}
            elif isinstance(value, (int, float)):
                found[name] = _joined(name, found.get(name, 0), value)
    return found


def _joined(name: str, one: float, other: float) -> float:
    return max(one, other) if name in ("seconds", "lag") else one + other
