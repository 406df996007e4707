"""A consistent view of a store: all queries of a reader see the same rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import duckdb
import orjson

from simkit.core.safe_text import visible_line
from simkit.errors import StoreIncomplete, UsageError
from simkit.store.database import damage
from simkit.store.frames import unique_names
from simkit.store.notes import notes_outstanding
from simkit.store.reading import ReadState
from simkit.store.scope import scoped
from simkit.store.tree_view import EpisodeTree, RunRow, Transcript, TranscriptLine, build_tree

if TYPE_CHECKING:
    from simkit.rule_based.goals import GoalReport

T = TypeVar("T")
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Result of a query: names and DuckDB types of the columns, the rows, and the state of the store they come from.

    `state` and `notes` describe what the rows may lack, e.g. the rest of a run that is still running.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    state: ReadState

    def __repr__(self) -> str:
        notes = f", notes: {'; '.join(self.notes)}" if self.notes else ""
        return f"<QueryResult of {len(self.rows)} rows, columns {', '.join(self.columns)}{notes}>"

    def _repr_html_(self) -> str:
        from simkit.store.notebook import result_html

        return str(result_html(self))

    @property
    def notes(self) -> tuple[str, ...]:
        """The state in words; empty if the rows are complete."""
        return self.state.notes

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column name; a name that is repeated gets a number (`name`, `name_1`)."""
        names = unique_names(self.columns)
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def df(self) -> Any:
        """The rows as a `pandas.DataFrame`, with nullable types for whole numbers and booleans.

        Raises:
            UsageError: pandas is not installed; the message names the extra `frames`.
        """
        from simkit.store.frames import pandas_frame

        return pandas_frame(self)

    def pl(self) -> Any:
        """The rows as a `polars.DataFrame`.

        Raises:
            UsageError: polars is not installed; the message names the extra `frames`.
        """
        from simkit.store.frames import polars_frame

        return polars_frame(self)

    def arrow(self) -> Any:
        """The rows as a `pyarrow.Table`.

        Raises:
            UsageError: pyarrow is not installed; the message names the extra `frames`.
        """
        from simkit.store.frames import arrow_table

        return arrow_table(self)


class Reader:
    """A store as it was when `Store.reading` opened the reader: several queries, one state.

    Attributes:
        path: the folder of the store.
        state: how completely each run has been read.
        allow_incomplete: incomplete data may be passed on.
        kept: values that were computed from this state.
    """

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        database: Path,
        state: ReadState,
        *,
        allow_incomplete: bool = False,
        kept: dict[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.state = state
        self.allow_incomplete = allow_incomplete
        self.kept = dict[str, Any]() if kept is None else kept
        self._connection = connection
        self._database = database

    def __repr__(self) -> str:
        return f"<Reader of {str(self.path)!r}, {len(self.state.runs)} runs>"

    @contextmanager
    def reading(
        self,
        runs: Sequence[str] | None = None,
        *,
        allow_incomplete: bool = False,
    ) -> Generator[Reader]:
        """This reader: code that accepts a store also accepts a reader, and then queries the same state."""
        if self.allow_incomplete or not allow_incomplete:
            yield self
        else:
            yield Reader(self.path, self._connection, self._database, self.state, allow_incomplete=True, kept=self.kept)

    def require_complete(self, runs: Sequence[str], purpose: str, *, finished: bool = False) -> ReadState:
        """State of runs whose data are passed on, e.g. to a trainer; see `ReadState.require_complete`.

        Raises:
            StoreIncomplete: the data are incomplete and the reader was opened without `allow_incomplete`.
        """
        state = self.state.of(runs)
        state.require_complete(purpose, allow_incomplete=self.allow_incomplete, finished=finished)
        return state

    def query(
        self, sql: str, parameters: Parameters | None = None, *, runs: Sequence[str] | None = None
    ) -> QueryResult:
        """Run SQL; `runs` are the ids of the runs that the query concerns, by default all of the reader's.

        Raises:
            UsageError: the SQL is wrong or tries to write; the message is DuckDB's.
            StoreUnreadable: the database is damaged.
        """
        try:
            if _COPY.search(sql):
                _refuse_writing(self._connection, sql)
            found = cast("duckdb.DuckDBPyConnection | None", self._connection.execute(sql, parameters))
            if found is None:  # DuckDB returns None if there is no statement
                raise UsageError("the query is empty; give one, such as `from run_summary`")
            columns, types, rows = _fetched(found)
        except UnicodeDecodeError as error:  # DuckDB can truncate a message within a character
            raise UsageError(
                "the query failed, and DuckDB's reason is not valid UTF-8; a value that it reads has another type than "
                "the query asks for"
            ) from error
        except RuntimeError as error:  # DuckDB's word for a Ctrl-C in the midst of a query
            if str(error) != "Query interrupted":
                raise
            raise KeyboardInterrupt from error
        except duckdb.Error as error:
            if (damaged := damage(self._database, error)) is not None:
                raise damaged from error
            raise _failed(error) from error
        return QueryResult(columns, types, rows, self.state if runs is None else self.state.of(runs))

    @contextmanager
    def scoped(self, runs: Sequence[str], *, copy: bool = True) -> Generator[Reader]:
        """A reader of the same state whose tables and views hold the rows of these runs alone.

        Its answers cost what these runs cost, however many others the store holds. It is valid as long as this reader.

        Args:
            runs: their ids.
            copy: copy the rows into memory, which views of the harvest need; False for queries that read each table
                once.
        """
        if {*runs} >= {run.run_id for run in self.state.runs if run.status is not None} and not self.state.named:
            yield self
            return
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(scoped(self._connection, self.path, runs, copy=copy))
            except duckdb.Error as error:
                raise damage(self._database, error) or _failed(error) from error
            yield Reader(
                self.path, connection, self._database, self.state.of(runs), allow_incomplete=self.allow_incomplete
            )

    def has_notes(self) -> bool:
        """Whether the notes of the store, as they are now, are in the database."""
        return not notes_outstanding(self._connection, self.path)

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """Rows of a query by column name; raises the same errors as `query`."""
        return self.query(sql, parameters).dicts()

    def runs(self) -> tuple[RunRow, ...]:
        """All runs, oldest first."""
        return self.keep("runs", lambda: tuple(RunRow(*row) for row in self.query(_RUNS).rows))

    def keep(self, name: str, compute: Callable[[], T]) -> T:
        """A value that is computed once for all readers of this state; `name` says which."""
        if name not in self.kept:
            self.kept[name] = compute()
        return cast("T", self.kept[name])

    def resolve(self, name: str = "last") -> RunRow:
        """Find a run by its id, its name (the newest run of that name), a prefix of either, or `last`.

        Runs that failed before playing anything (such as a mistyped flag), or that are stages of another run, count as
        newest only if there is no other.

        Raises:
            UsageError: no run matches, or the prefix matches several; the message lists them.
            StoreIncomplete: no run matches, but the store could not be read completely.
        """
        runs = self.runs()
        if not runs:
            raise self._absent(
                f"there are no runs in {self.path}; start one with `simkit run`, or name another --store"
            )
        if name == "last":
            return _newest(runs)
        exact = [run for run in runs if name in (run.run_id, run.name)]
        found = exact or [run for run in runs if run.run_id.startswith(name) or run.name.startswith(name)]
        if exact or len(found) == 1:
            return _newest(found)
        offered = (found or runs)[-10:]
        choice = ", ".join(f"{visible_line(run.name)} ({run.run_id})" if run.name else run.run_id for run in offered)
        what = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {name!r}"
        raise self._absent(f"{what} in {self.path}; take one of: {choice}")

    def tree(self, run: str, episode: str) -> EpisodeTree:
        """The tree of one episode, identified by its id, by `task/trial` or, for trial 0, by its task alone.

        Raises:
            UsageError: there is no such run or episode.
        """
        found = self.episode(self.resolve(run).run_id, episode)
        return replace(found, root=build_tree(self.branches(found.episode_id)))

    def episode(self, run_id: str, episode: str) -> EpisodeTree:
        """One episode of a run, named as in `tree`, without its branches.

        Raises:
            UsageError: there is no such episode.
        """
        rows = self.query(_EPISODE, {"run": run_id, "episode": episode}).dicts()
        if not rows:
            similar = self._similar(run_id, episode)
            raise self._absent(
                f"run {run_id} has no episode {episode!r}{similar}; `simkit show {run_id}` lists them, a task's id is "
                "enough"
            )
        row = rows[0]
        for name in ("goals", "achieved"):
            row[name] = tuple(row[name] or ())
        return EpisodeTree(**row, root=None)

    def branches(self, episode_id: str) -> list[dict[str, Any]]:
        """The branches of an episode, each with what it said and called and the goals it reached, in any order."""
        return self.query(_BRANCHES, {"episode": episode_id}).dicts()

    def goals(self, episode: EpisodeTree) -> tuple[GoalReport, ...]:
        """The goals of an episode: reached or missed, what was wanted, and the call that came nearest.

        The calls of all its branches count. A reward's own explanations take the place of simkit's.
        """
        from simkit.store.goal_accounts import accounts  # imports pydantic, which listing runs does not need

        return accounts(self.rows, episode)

    def transcript(self, branch_id: str) -> Transcript:
        """The conversation from the root to a branch.

        Raises:
            UsageError: there is no such branch.
        """
        found = self.query(_TRANSCRIPT, [branch_id])
        if not found.rows:
            run, _, rest = branch_id.partition("/")
            shown = f"`simkit show {run} {rest.rpartition('/')[0]}`" if rest.count("/") > 1 else "`FROM branches`"
            raise self._absent(
                f"there is no branch {branch_id!r} in {self.path}; {shown} lists them, by path and turn (`.3`, `LR.2`)"
            )
        rows = found.dicts()
        for row in rows:
            row["message"], row["flags"] = orjson.loads(row["message"]), tuple(row["flags"] or ())
        end = self.query(_END, [branch_id]).dicts()[0]
        return Transcript(branch_id, tuple(TranscriptLine(**row) for row in rows), **end)

    def _similar(self, run_id: str, episode: str) -> str:
        """The task of a run that is most like a name, for a message."""
        from simkit.plugins.loading import nearest

        tasks = self.query("select distinct task_id from episodes where run_id = ?", [run_id]).rows
        return nearest(episode, tuple(str(task) for (task,) in tasks))

    def _absent(self, message: str) -> UsageError | StoreIncomplete:
        """The error for something not found; if lines are missing, it may exist after all."""
        if not self.state.stale:
            return UsageError(message)
        return StoreIncomplete(f"{message}. But {'; '.join(self.state.notes)}")


_COPY = re.compile(r"\b(copy\b.*\bto|export)\b", re.IGNORECASE | re.DOTALL)


def _refuse_writing(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse to overwrite the files of packed runs: what may be read may be written, as far as DuckDB is concerned.

    Raises:
        UsageError: a statement copies to a file, in a connection that may access certain files.
    """
    settings = "SELECT len(current_setting('allowed_paths')) > 0 AND NOT current_setting('enable_external_access')"
    if connection.execute(settings).fetchone() == (True,) and not all(
        statement.type == duckdb.StatementType.SELECT for statement in duckdb.extract_statements(sql)
    ):
        raise UsageError(f"the query failed: it writes files{_OWN_ALONE}")


def _failed(error: duckdb.Error) -> UsageError:
    return UsageError(f"the query failed: {error}{_remedy(error)}")


_OUTSIDE = ("disabled by configuration", "disabled through configuration", "configuration has been locked")


def _remedy(error: duckdb.Error) -> str:
    """Advice for a query that tries to access anything outside the store; empty for other errors."""
    if not any(words in str(error) for words in _OUTSIDE):
        return ""
    return _OWN_ALONE


_OWN_ALONE = (
    ". A query reaches the store alone, no files, networks, extensions or settings; `simkit sql --external` (in "
    "Python Store(path, external=True)) lets it"
)


def _fetched(
    found: duckdb.DuckDBPyConnection,
) -> tuple[tuple[str, ...], tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns, types and rows of the executed statement; empty for a statement without a result."""
    described = found.description or []
    columns = tuple(str(column[0]) for column in described)
    types = tuple(str(column[1]) for column in described)
    return columns, types, found.fetchall() if described else []


_RUNS = """
SELECT
    run_id, name, recipe, status, episodes, average_reward, success_rate, faults, started_at, seconds, part_of,
    planned, finished, supervisor
FROM run_summary ORDER BY number NULLS FIRST, started_at, run_id
"""

_EPISODE = """
SELECT
    e.episode_id, e.run_id, e.task_id, e.trial, e.reward, e.outcome, e.goals, e.achieved, e.final_branch_id, e.error,
    t.instructions,
    (SELECT any_value(traceback) FROM faults f WHERE f.episode_id = e.episode_id AND f.branch_id IS NULL) AS traceback
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
    WHERE episode_id = $episode AND author IN ('agent', 'runtime') AND heard IS NOT NULL GROUP BY ALL
) m USING (branch_id)
LEFT JOIN (
    SELECT branch_id, list(
        concat(CASE side WHEN 'user' THEN 'user: ' ELSE '' END, name, ' ', arguments) ORDER BY seq, step
    ) AS calls FROM tool_calls
    WHERE episode_id = $episode GROUP BY ALL
) c USING (branch_id)
LEFT JOIN (
    SELECT branch_id, list(goal ORDER BY step, goal) AS goals,
        list(goal ORDER BY step, goal) FILTER (credited) AS credited
    FROM rewards WHERE episode_id = $episode GROUP BY ALL
) r USING (branch_id)
WHERE b.episode_id = $episode
"""

_END = """
SELECT outcome, coalesce(b.error, f.error) AS error, f.traceback
FROM branches b
LEFT JOIN (
    SELECT branch_id, any_value(error) AS error, any_value(traceback) AS traceback FROM faults GROUP BY ALL
) f USING (branch_id)
WHERE branch_id = ?
"""

_TRANSCRIPT = "SELECT branch_id, seq, turn, step, author, heard, message, flags FROM conversation(?)"


def _newest(runs: Sequence[RunRow]) -> RunRow:
    whole = [run for run in runs if run.part_of is None] or runs
    return next((run for run in reversed(whole) if run.status != "failed" or run.episodes), whole[-1])
