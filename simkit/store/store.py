"""The store: a folder of journals, and the database that is made from them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import orjson

from simkit.errors import StoreBusy, StoreError, UsageError
from simkit.store.database import connected, damage, schema_format, stored_format
from simkit.store.journal import DiskFile, Journal, Opener
from simkit.store.loader import Loader, LoadReport, describe
from simkit.store.trees import EpisodeTree, Line, RunRow, Transcript, build_tree

T = TypeVar("T")
Parameters = Sequence[object] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query gave: names and DuckDB types of the columns, and the rows.

    `notes` says in words what the rows may lack, e.g. journal lines that could not be loaded into a read-only store.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    notes: tuple[str, ...] = ()

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Store:
    """Results in a folder: opened without repair whatever happened to the process that wrote it.

    Args:
        path: the folder; made, with the ones above it, when it is not there.
        patience: seconds a query waits for a database that another process holds.

    Raises:
        StoreError: the folder does not exist and cannot be made, or is a file.
    """

    def __init__(self, path: Path | str, *, patience: float = 5.0) -> None:
        self.path = Path(path)
        self.database = self.path / "simkit.duckdb"
        self.loader = Loader(self.path)
        self._patience = patience
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"{self.path} cannot be used as a store: {reason}. Name another folder") from error

    def journal(self, run_id: str, worker: str = "main", *, opener: Opener = DiskFile) -> Journal:
        """The journal of one worker of a run: a recorder, to be entered with `async with`.

        Raises:
            UsageError: a name that cannot be a file name.
        """
        for name in (run_id, worker):
            if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
                raise UsageError(f"{name!r} cannot name a run or a worker: it must be usable as a file name")
        return Journal(self.path / "journals" / run_id / f"{worker}.jsonl", opener=opener)

    def forget(self, run_id: str) -> None:
        """Remove the journals of a run of which nothing was recorded; others are left alone."""
        folder = self.path / "journals" / run_id
        for journal in folder.glob("*.jsonl"):
            if journal.stat().st_size == 0:
                journal.unlink()
        with suppress(OSError):  # somebody else's file is in it
            folder.rmdir()

    def load(self, *, wait: float | None = None) -> LoadReport:
        """Load everything the journals hold, waiting so many seconds (the store's patience) for a held database.

        Raises:
            StoreBusy: it was held all the time.
            StoreUnreadable: the database is damaged, or lines of a journal are (all others have been loaded).
            StoreError: the store cannot be written.
        """
        report = self._patiently(self.loader.load, self._patience if wait is None else wait)
        report.raise_unreadable()
        return report

    def query(self, sql: str, parameters: Parameters | None = None, *, fresh: bool = True) -> QueryResult:
        """Run SQL on the database, read-only, after loading what is outstanding (unless `fresh` is off).

        Raises:
            UsageError: the SQL is wrong or tries to write; the message is DuckDB's.
            StoreBusy: the database was held all the time.
            StoreUnreadable: the database cannot be read.
        """
        notes = self._refresh() if fresh else ()
        try:
            return self.borrow(lambda connection: _run(connection, sql, parameters, notes))
        except duckdb.Error as error:
            raise UsageError(f"the query failed: {error}") from error

    def borrow(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Do something with a read-only connection that is closed afterwards: keep it short, loading waits meanwhile.

        Raises:
            StoreBusy: the database was held all the time.
            StoreUnreadable: the database cannot be read.
            StoreError: there is none and it cannot be made, or it is another version's.
        """
        return self._patiently(lambda: self._borrowed(work), self._patience)

    def runs(self) -> tuple[RunRow, ...]:
        """All runs, oldest first."""
        found = self.query(
            "SELECT run_id, name, recipe, status, episodes, average_reward, success_rate, faults, started_at, "
            "seconds, part_of FROM run_summary ORDER BY started_at, run_id"
        )
        return tuple(RunRow(*row) for row in found.rows)

    def resolve(self, name: str = "last", among: Sequence[RunRow] | None = None) -> RunRow:
        """A run by its id, its name (the newest of that name), the beginning of either, or `last`.

        `among` are the runs, for who has asked for them already; see `runs`.

        A run that failed before it played anything (a mistyped flag), or that is a part of another run, is newest only
        where there is no other.

        Raises:
            UsageError: there is none, or the beginning fits several; the message lists them.
        """
        runs = self.runs() if among is None else among
        if not runs:
            raise UsageError(f"there are no runs in {self.path}; start one with `simkit run`, or name another --store")
        if name == "last":
            return _newest(runs)
        exact = [run for run in runs if name in (run.run_id, run.name)]
        found = exact or [run for run in runs if run.run_id.startswith(name) or run.name.startswith(name)]
        if exact or len(found) == 1:
            return _newest(found)
        choice = ", ".join(f"{run.name} ({run.run_id})" if run.name else run.run_id for run in (found or runs)[-10:])
        what = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {name!r}"
        raise UsageError(f"{what} in {self.path}; take one of: {choice}")

    def tree(self, run: str, episode: str) -> EpisodeTree:
        """The tree of one episode, named by its id, by `task/trial` or, for trial 0, by its task alone.

        Raises:
            UsageError: there is no such run or episode.
        """
        run_id = self.resolve(run).run_id
        rows = self.query(_EPISODE, {"run": run_id, "episode": episode}, fresh=False).dicts()
        if not rows:
            raise UsageError(
                f"run {run_id} has no episode {episode!r}; `FROM episode_scores` lists them, a task's id is enough"
            )
        row = rows[0]
        branches = self.query(_BRANCHES, [row["episode_id"]], fresh=False).dicts()
        for name in ("goals", "achieved"):
            row[name] = tuple(row[name] or ())
        return EpisodeTree(**row, root=build_tree(branches))

    def transcript(self, branch_id: str) -> Transcript:
        """The conversation from the root to a branch.

        Raises:
            UsageError: there is no such branch.
        """
        found = self.query(_TRANSCRIPT, [branch_id])
        if not found.rows:
            raise UsageError(f"there is no branch {branch_id!r} in {self.path}; `FROM branches` lists them")
        rows = found.dicts()
        for row in rows:
            row["message"], row["flags"] = orjson.loads(row["message"]), tuple(row["flags"] or ())
        return Transcript(branch_id, tuple(Line(**row) for row in rows))

    def _refresh(self) -> tuple[str, ...]:
        """Load what is outstanding if that can be done; otherwise say what is missing."""
        try:
            missing = self.loader.outstanding()
            if not missing and self.database.exists():
                return ()
            if not self.writable():
                return (f"{self.path} is read-only: {missing:,} bytes of its journals are not loaded",)
            report = self._patiently(self.loader.load, min(1.0, self._patience))
        except StoreBusy:
            return ("the database is in use: rows written in the last seconds may be missing",)
        return (describe(report.unreadable),) if report.unreadable else ()

    def writable(self) -> bool:
        """Whether this process may write to the store."""
        return os.access(self.path, os.W_OK) and (not self.database.exists() or os.access(self.database, os.W_OK))

    def _borrowed(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        if not self.database.exists():
            raise StoreError(f"{self.path} has no database yet and cannot be written; copy the store and try there")
        with connected(self.database, read_only=True) as connection:
            try:
                self._check_format(connection)
                return work(connection)
            except duckdb.Error as error:
                if (damaged := damage(self.database, error)) is not None:
                    raise damaged from error
                raise

    def _check_format(self, connection: duckdb.DuckDBPyConnection) -> None:
        if stored_format(connection) != schema_format():
            raise StoreError(
                f"{self.database} was made by another version of simkit and cannot be rebuilt here; "
                "copy the store to a place that can be written"
            )

    def _patiently(self, work: Callable[[], T], seconds: float) -> T:
        """Do something, again and again for so long while the database is held."""
        deadline = time.monotonic() + seconds
        pause = 0.01
        while True:
            try:
                return work()
            except StoreBusy:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 0.25)


def _run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters | None, notes: tuple[str, ...]
) -> QueryResult:
    columns, types, rows = _fetched(connection.execute(sql, parameters))
    return QueryResult(columns, types, rows, notes)


def _fetched(
    found: duckdb.DuckDBPyConnection,
) -> tuple[tuple[str, ...], tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns, types and rows of what was executed; a statement without a result gives nothing."""
    described = found.description or []
    columns = tuple(str(column[0]) for column in described)
    types = tuple(str(column[1]) for column in described)
    return columns, types, found.fetchall() if described else []


_EPISODE = """
SELECT
    e.episode_id, e.run_id, e.task_id, e.trial, e.reward, e.outcome, e.goals, e.achieved, e.final_branch_id, e.error,
    t.instructions
FROM episodes e
LEFT JOIN tasks t ON t.run_id = e.run_id AND t.task_id = e.task_id
WHERE e.run_id = $run AND (
    e.episode_id = $episode
    OR concat(e.task_id, '/', e.trial) = $episode
    OR e.task_id = $episode AND e.trial = 0
)
ORDER BY e.episode_id = $episode DESC, e.trial
LIMIT 1
"""

_BRANCHES = """
SELECT
    b.branch_id, b.parent_id, b.path, b.turn, b.outcome, b.error, b.successful, b.golden, b.winner,
    m.said, c.calls, r.goals, r.credited
FROM branches b
LEFT JOIN (
    SELECT branch_id, arg_max(heard, seq) AS said FROM messages
    WHERE author IN ('agent', 'runtime') AND heard IS NOT NULL GROUP BY ALL
) m USING (branch_id)
LEFT JOIN (
    SELECT branch_id, list(concat(name, ' ', arguments) ORDER BY seq, step) AS calls FROM tool_calls GROUP BY ALL
) c USING (branch_id)
LEFT JOIN (
    SELECT branch_id, list(goal ORDER BY step, goal) AS goals,
        list(goal ORDER BY step, goal) FILTER (credited) AS credited
    FROM rewards GROUP BY ALL
) r USING (branch_id)
WHERE b.episode_id = ?
"""

_TRANSCRIPT = "SELECT branch_id, seq, turn, step, author, heard, message, flags FROM conversation(?)"


def _newest(runs: Sequence[RunRow]) -> RunRow:
    whole = [run for run in runs if run.part_of is None] or runs
    return next((run for run in reversed(whole) if run.status != "failed" or run.episodes), whole[-1])
