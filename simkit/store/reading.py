"""State of the data behind an answer: progress in each journal, runs still running, and missing or damaged lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from simkit.errors import StoreIncomplete
from simkit.store.damage import SHOWN, BadLine, describe_runs, known_damage
from simkit.store.files import is_written_to
from simkit.store.lines import JournalPosition, Prefix
from simkit.store.source import journal_files, journal_name, open_journal, size_of

if TYPE_CHECKING:
    import duckdb

Source: TypeAlias = Literal["database", "replica"]
Sizes: TypeAlias = Mapping[str, int]
"""Sizes of journals in bytes, by name: `run_id/worker.jsonl`."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Loading progress of a journal.

    Attributes:
        loaded, lines: bytes and lines loaded.
        number: number of the next line.
        numbered: whether numbered lines have begun.
        attempt: start of the run that the last line belongs to, -1 before the first.
        whole: whether no line is missing so far.
        ending: checksum of the last loaded bytes.
    """

    loaded: int = 0
    lines: int = 0
    number: int = 0
    numbered: bool = False
    attempt: int = -1
    whole: bool = True
    ending: int = 0

    @property
    def place(self) -> JournalPosition:
        """Position where reading continues."""
        return JournalPosition(self.loaded, self.lines, self.number)

    def at(self, place: JournalPosition, prefix: Prefix) -> LoadProgress:
        """The mark at a later position."""
        numbered = place.line > prefix.lines
        return replace(self, loaded=place.byte, lines=place.line, number=place.number, numbered=numbered)


def read_marks(connection: duckdb.DuckDBPyConnection) -> dict[str, LoadProgress]:
    """Loading progress of each journal, by name."""
    names = ", ".join(each.name for each in fields(LoadProgress))
    rows = connection.execute(f"SELECT journal, {names} FROM journals").fetchall()
    return {str(name): LoadProgress(*rest) for name, *rest in rows}


@dataclass(frozen=True, slots=True)
class JournalState:
    """Progress in reading one journal when a query was answered.

    Attributes:
        path: the file.
        read, lines: bytes and lines that the answer includes.
        end: bytes of complete lines in the file when the query was made.
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
    """State of one run in an answer.

    Attributes:
        run_id: the run.
        journals: its journals.
        status: as in the table `runs`; None if the answer does not contain the run.
        alive: a process is writing its journal. Checked only for runs with the status `running`.
        finished, started: number of episodes, for a run that is not `done`.
        planned, not_played: number of episodes that its last start planned and did not play; `planned` is None for a
            run recorded before plans existed.
        damaged: damage in its journals; the affected lines were left out.
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
        """Number of lines read from its journals."""
        return sum(journal.lines for journal in self.journals)

    @property
    def missing(self) -> tuple[JournalState, ...]:
        """Journals with complete lines that the answer lacks."""
        return tuple(journal for journal in self.journals if journal.missing)

    @property
    def stale(self) -> bool:
        """Whether a journal held complete lines that the answer lacks."""
        return bool(self.missing)

    @property
    def progress(self) -> str:
        """Reading progress in words."""
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
    """State of the store that a query was answered from.

    Attributes:
        store: its folder.
        source: the store's own database, or a private replica filled from the journals.
        reason: why the own database was not used or could not be loaded; empty if it is up to date.
        events: messages about the database, such as the rebuild of a damaged one.
        runs: the runs that the query concerned.
        named: the query named its runs; otherwise it concerned all of them.
    """

    store: Path
    source: Source = "database"
    reason: str = ""
    events: tuple[str, ...] = ()
    runs: tuple[RunState, ...] = ()
    named: bool = False

    def __repr__(self) -> str:
        notes = f", notes: {'; '.join(self.notes)}" if self.notes else ""
        return f"<ReadState of {len(self.runs)} runs in {str(self.store)!r}, read from its {self.source}{notes}>"

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
        """Runs with the status `running`, including those of killed processes."""
        return tuple(run for run in self.runs if run.status == "running")

    @property
    def complete(self) -> bool:
        """Whether the answer includes everything in the journals, without damage."""
        return not self.stale and not self.damaged

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages: why the answer is not from the store's database, and what it lacks."""
        aside = (f"{self.reason}; this was read from the journals into a private copy instead",)
        return (*self.events, *(aside if self.source == "replica" else ()), *self._missing(), *self._damage())

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings and the unfinished runs; empty if everything is complete.

        Runs whose process no longer exists are mentioned only if the query named them.
        """
        shown = [each for each in self.unfinished if each.alive or self.named]
        return (*self.warnings, *(_so_far(run) for run in shown))

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """Messages about runs that did not play everything planned; results derived from them rest on less data."""
        return tuple(
            f"run {run.run_id} is {run.status}: {run.not_played} of {run.planned} planned episodes were not played"
            for run in self.runs
            if run.not_played
        )

    def to_json(self) -> dict[str, Any]:
        """The state as JSON-able values."""
        return {"source": self.source, "reason": self.reason, "runs": [run.to_json() for run in self.runs]}

    def of(self, runs: Iterable[str]) -> ReadState:
        """The state restricted to some runs, by id; an unknown run gets an empty state."""
        known = {run.run_id: run for run in self.runs}
        return replace(
            self, runs=tuple(known.get(run, RunState(run_id=run)) for run in dict.fromkeys(runs)), named=True
        )

    def require_complete(self, purpose: str, *, allow_incomplete: bool = False, finished: bool = False) -> None:
        """Refuse to pass on incomplete data.

        Args:
            purpose: purpose of the data, e.g. `an export`; starts the message.
            allow_incomplete: accept incomplete data.
            finished: require that the runs have finished.

        Raises:
            StoreIncomplete: lines are missing or damaged, or a run has not finished (with `finished`).
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
    """Size of each journal of a store in bytes, by name, for some runs or (None) for all of them."""
    return {journal_name(path): size_of(path) for path in journal_files(folder, runs)}


def outstanding(folder: Path, sizes: Sizes, marks: Mapping[str, LoadProgress]) -> dict[str, int]:
    """End of the complete lines in each journal that has some beyond its mark: byte offsets by journal name.

    `sizes` were taken when the query was made; data written since is ignored.
    """
    found: dict[str, int] = {}
    for name, size in sizes.items():
        loaded = marks.get(name, LoadProgress()).loaded
        if size > loaded and (end := _last_line_end(folder / "journals" / name, loaded, size)) > loaded:
            found[name] = end
    return found


def read_state(
    connection: duckdb.DuckDBPyConnection, state: ReadState, sizes: Sizes, marks: Mapping[str, LoadProgress]
) -> ReadState:
    """The state with its runs, as recorded in an open database."""
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
    folder: Path, sizes: Sizes, marks: Mapping[str, LoadProgress], unreadable: Collection[Path]
) -> dict[str, list[JournalState]]:
    """Reading progress of each journal by run; zero for a journal that is now shorter than what was read.

    A journal that cannot be read counts as fully read: it is reported as damage, and loading it again would not help.
    """
    ends = outstanding(folder, sizes, marks)
    found: dict[str, list[JournalState]] = {}
    for name, size in sizes.items():
        mark, path = marks.get(name, LoadProgress()), folder / "journals" / name
        if size < mark.loaded:
            state = JournalState(path, 0, 0, max(1, size))
        else:
            end = mark.loaded if path in unreadable else ends.get(name, mark.loaded)
            state = JournalState(path, mark.loaded, mark.lines, end)
        found.setdefault(path.parent.name, []).append(state)
    return found


def _counts(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """Counts of planned and played episodes of the runs that are not `done`."""
    names = ("started", "finished", "planned", "not_played")
    return {str(run): dict(zip(names, row, strict=True)) for run, *row in connection.execute(_COUNTS).fetchall()}


def _goes_on(journal: Path, sizes: Sizes) -> bool:
    """Whether a process is writing the journal, or has written to it since the query was made."""
    return is_written_to(journal) or size_of(journal) > sizes[f"{journal.parent.name}/{journal.name}"]


def _last_line_end(path: Path, start: int, size: int, block: int = 1 << 16) -> int:
    """Offset of the end of the last complete line within the first `size` bytes; `start` if there is none after it."""
    try:
        with closing(open_journal(path, synced=False)) as source:
            end = size
            while end > start:
                begin = max(start, end - block)
                place = source.read(begin, end - begin).rfind(b"\n")
                if place >= 0:
                    return begin + place + 1
                end = begin
    except FileNotFoundError:
        return start  # deleted with a run that recorded nothing
    except OSError:
        return size  # it cannot be read, so lines may be missing
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
