"""What an answer was read from: how far each journal had been read, which runs were still running, what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from simkit.errors import StoreIncomplete
from simkit.store.damage import SHOWN, BadLine, describe_runs, known_damage
from simkit.store.files import is_written_to
from simkit.store.rounds import Mark
from simkit.store.source import journal_files, journal_name, size_of

if TYPE_CHECKING:
    import duckdb

Source: TypeAlias = Literal["database", "replica"]
Sizes: TypeAlias = Mapping[str, int]
"""Bytes of journals by their names, `run_id/worker.jsonl`."""


@dataclass(frozen=True, slots=True)
class JournalState:
    """How far one journal had been read when a question was answered.

    Attributes:
        path: the file.
        read, lines: bytes and lines of it that the answer knows.
        end: bytes of complete lines that it held when the question was asked.
    """

    path: Path
    read: int
    lines: int
    end: int

    @property
    def missing(self) -> int:
        """Bytes of complete lines that the answer lacks."""
        return max(0, self.end - self.read)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What an answer knows of one run.

    Attributes:
        status: as in `runs`; None when the answer knows no such run.
        alive: a process is writing its journal. Asked of runs with the status `running` only.
        finished, started: episodes of a run that is not `done`.
        planned, not_played: what its last start meant to play, and what it did not play; None for a run recorded before
            there were plans.
        damaged: lines of its journals that could not be read and were left out.
    """

    run_id: str
    journals: tuple[JournalState, ...] = ()
    status: str | None = None
    alive: bool = False
    finished: int = 0
    started: int = 0
    planned: int | None = None
    not_played: int = 0
    damaged: tuple[BadLine, ...] = ()

    @property
    def lines(self) -> int:
        """Lines of its journals that were read."""
        return sum(journal.lines for journal in self.journals)

    @property
    def missing(self) -> tuple[JournalState, ...]:
        """Its journals with complete lines that the answer lacks."""
        return tuple(journal for journal in self.journals if journal.missing)

    @property
    def stale(self) -> bool:
        """Whether a journal held complete lines that the answer lacks."""
        return bool(self.missing)

    @property
    def progress(self) -> str:
        """How far it was read, in words."""
        episodes = self.started if self.planned is None else self.planned
        return f"read up to line {self.lines}, {self.finished} of {episodes} episodes finished"

    def to_json(self) -> dict[str, Any]:
        """The state as JSON-able values."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "alive": self.alive,
            "bytes": sum(journal.read for journal in self.journals),
            "lines": self.lines,
            "missing_bytes": sum(journal.missing for journal in self.journals),
            "damaged_lines": sum(line.lines for line in self.damaged),
            "planned": self.planned,
            "not_played": self.not_played,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadState:
    """The state of a store from which a question was answered.

    Attributes:
        store: its folder.
        source: the store's own database, or a private replica filled from the journals.
        reason: why the own database did not answer, or could not be loaded; empty when it is up to date.
        runs: the runs that the question was about.
        named: the question named its runs; otherwise it was about all of them.
        events: what happened to the database on the way, in words: it was damaged and made again.
    """

    store: Path
    source: Source = "database"
    reason: str = ""
    events: tuple[str, ...] = ()
    runs: tuple[RunState, ...] = ()
    named: bool = False

    @property
    def stale(self) -> tuple[RunState, ...]:
        """Runs whose journals held complete lines that the answer lacks."""
        return tuple(run for run in self.runs if run.stale)

    @property
    def damaged(self) -> tuple[RunState, ...]:
        """Runs with lines that could not be read."""
        return tuple(run for run in self.runs if run.damaged)

    @property
    def running(self) -> tuple[RunState, ...]:
        """Runs that a process is playing."""
        return tuple(run for run in self.runs if run.alive)

    @property
    def unfinished(self) -> tuple[RunState, ...]:
        """Runs with the status `running`, those of a killed process included."""
        return tuple(run for run in self.runs if run.status == "running")

    @property
    def complete(self) -> bool:
        """Whether the answer knows all that the journals held, and could read all of it."""
        return not self.stale and not self.damaged

    @property
    def warnings(self) -> tuple[str, ...]:
        """In words why the answer is not from the store's database, and what it lacks."""
        aside = (f"{self.reason}; this was read from the journals into a private copy instead",)
        return (*self.events, *(aside if self.source == "replica" else ()), *self._missing(), *self._damage())

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings, and which runs had not come to their end; nothing when all is as it should be.

        Runs of processes that are gone are told of when the question named them.
        """
        told = [each for each in self.unfinished if each.alive or self.named]
        return (*self.warnings, *(_so_far(run) for run in told))

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """In words which of the runs did not play all that they had planned: what is made of them rests on less."""
        return tuple(
            f"run {run.run_id} is {run.status}: {run.not_played} of {run.planned} planned episodes were not played"
            for run in self.runs
            if run.not_played
        )

    def to_json(self) -> dict[str, Any]:
        """The state as JSON-able values."""
        return {"source": self.source, "reason": self.reason, "runs": [run.to_json() for run in self.runs]}

    def of(self, runs: Iterable[str]) -> ReadState:
        """The state of some of the runs, by id; one that is not known has read nothing."""
        known = {run.run_id: run for run in self.runs}
        return replace(
            self, runs=tuple(known.get(run, RunState(run_id=run)) for run in dict.fromkeys(runs)), named=True
        )

    def require_complete(self, purpose: str, *, allow_incomplete: bool = False, finished: bool = False) -> None:
        """Refuse to pass incomplete data on.

        Args:
            purpose: what the data are for, e.g. `an export`; begins the message.
            allow_incomplete: pass it on all the same.
            finished: the runs must have come to their end.

        Raises:
            StoreIncomplete: an answer lacks lines, lines of a run could not be read, or a run has not come to its end
                (with `finished`).
        """
        problems = [*self._missing(), *self._damage(), *(map(_so_far, self.unfinished) if finished else ())]
        if problems and not allow_incomplete:
            raise StoreIncomplete(
                f"{purpose} needs all that was recorded, but {'; '.join(problems)}. To go on with what there is, give "
                "--allow-incomplete (in Python allow_incomplete=True)"
            )

    def _missing(self) -> Iterator[str]:
        for run in self.stale[:SHOWN]:
            for journal in run.missing:
                yield (
                    f"the answer about run {run.run_id} is stale: {journal.path} holds {journal.missing:,} bytes from "
                    f"line {journal.lines + 1} (byte {journal.read}) on that were not read"
                    + (f" ({self.reason})" if self.reason else "")
                )
        if len(self.stale) > SHOWN:
            yield f"{len(self.stale) - SHOWN} more runs are stale as well"

    def _damage(self) -> Iterator[str]:
        yield from describe_runs([line for run in self.damaged for line in run.damaged])


def _so_far(run: RunState) -> str:
    if run.alive:
        return f"run {run.run_id} is still running: {run.progress}"
    return (
        f"run {run.run_id} has not come to its end and no process plays it: {run.progress}; go on with "
        f"`simkit resume {run.run_id}`"
    )


def journal_sizes(folder: Path, runs: Sequence[str] | None = None) -> dict[str, int]:
    """Bytes of each journal of a store, by its name, for some runs or (None) for all of them."""
    return {journal_name(path): size_of(path) for path in journal_files(folder, runs)}


def outstanding(folder: Path, sizes: Sizes, marks: Mapping[str, Mark]) -> dict[str, int]:
    """Where the complete lines end of each journal that holds some beyond its mark, by its name.

    `sizes` were taken when the question was asked: what has been written since is not looked at.
    """
    found: dict[str, int] = {}
    for name, size in sizes.items():
        loaded = marks.get(name, Mark()).loaded
        if size > loaded and (end := _last_line_end(folder / "journals" / name, loaded, size)) > loaded:
            found[name] = end
    return found


def read_state(
    connection: duckdb.DuckDBPyConnection, state: ReadState, sizes: Sizes, marks: Mapping[str, Mark]
) -> ReadState:
    """The state with its runs, as a database that is open tells of them."""
    damaged: dict[str, list[BadLine]] = {}
    for bad in known_damage(connection, state.store):
        damaged.setdefault(bad.run_id, []).append(bad)
    unreadable = {bad.journal for bads in damaged.values() for bad in bads if bad.kind == "file"}
    journals = _journals(state.store, sizes, marks, unreadable)
    known = {str(run): str(status) for run, status in connection.execute(_STATUSES).fetchall()}
    counts = _counts(connection) if {*known.values()} - {"done"} else {}
    runs: list[RunState] = []
    for run in dict.fromkeys([*journals, *known, *damaged]):
        files = tuple(journals.get(run, ()))
        runs.append(
            RunState(
                run_id=run,
                journals=files,
                status=known.get(run),
                alive=known.get(run) == "running" and any(_goes_on(journal.path, sizes) for journal in files),
                damaged=tuple(damaged.get(run, ())),
                **counts.get(run, {}),
            )
        )
    return replace(state, runs=tuple(runs))


def _journals(
    folder: Path, sizes: Sizes, marks: Mapping[str, Mark], unreadable: Collection[Path]
) -> dict[str, list[JournalState]]:
    """How far each journal was read: not at all when it is shorter now than what was read of it.

    Of a journal that cannot be read all that can be known is known: it is damage, and loading it again is no use.
    """
    ends = outstanding(folder, sizes, marks)
    found: dict[str, list[JournalState]] = {}
    for name, size in sizes.items():
        mark, path = marks.get(name, Mark()), folder / "journals" / name
        if size < mark.loaded:
            state = JournalState(path, 0, 0, max(1, size))
        else:
            end = mark.loaded if path in unreadable else ends.get(name, mark.loaded)
            state = JournalState(path, mark.loaded, mark.lines, end)
        found.setdefault(path.parent.name, []).append(state)
    return found


def _counts(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """What the runs that are not `done` planned and played."""
    names = ("started", "finished", "planned", "not_played")
    return {str(run): dict(zip(names, row, strict=True)) for run, *row in connection.execute(_COUNTS).fetchall()}


def _goes_on(journal: Path, sizes: Sizes) -> bool:
    """Whether a process writes the journal, or did after the question was asked: its last line may be unread then."""
    return is_written_to(journal) or size_of(journal) > sizes[f"{journal.parent.name}/{journal.name}"]


def _last_line_end(path: Path, start: int, size: int, block: int = 1 << 16) -> int:
    """Where the last complete line within the first `size` bytes ends; `start` when there is none after that byte."""
    try:
        with path.open("rb") as file:
            end = size
            while end > start:
                begin = max(start, end - block)
                file.seek(begin)
                place = file.read(end - begin).rfind(b"\n")
                if place >= 0:
                    return begin + place + 1
                end = begin
    except FileNotFoundError:
        return start  # gone again, with a run that recorded nothing
    except OSError:
        return size  # it cannot be read, so nobody can say that nothing is missing
    return start


_STATUSES = "SELECT run_id, status FROM runs"

_COUNTS = """
WITH asked AS (SELECT run_id FROM runs WHERE status <> 'done'),
played AS (
    SELECT run_id, count(*) AS started, count(finished_at) AS finished
    FROM episodes SEMI JOIN asked USING (run_id) GROUP BY run_id
),
accounts AS (
    SELECT run_id, count(*) AS planned, count(*) FILTER (fate = 'not_played') AS not_played
    FROM (FROM units SEMI JOIN asked USING (run_id) QUALIFY attempt = max(attempt) OVER (PARTITION BY run_id))
    GROUP BY run_id
)
SELECT run_id, coalesce(started, 0), coalesce(finished, 0), planned, coalesce(not_played, 0)
FROM asked LEFT JOIN played USING (run_id) LEFT JOIN accounts USING (run_id)
"""
