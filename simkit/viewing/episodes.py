"""Episodes as the viewer shows them: trees, goals with their reasons, faults, and curves and hits of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simkit.rule_based.goals import GoalReport
from simkit.store import EpisodeTree, Reader
from simkit.store.tables import rows_of
from simkit.store.tree_view import path_key
from simkit.viewing.values import LONGEST, columns, parsed_list, shortened

MOST_TREES, MOST_NODES = 60, 20_000
"""Trees and branches in one answer about the trees of a run."""


def episode_page(reader: Reader, run_id: str, task_id: str, trial: int) -> dict[str, Any]:
    """One episode: its scores, its tree by column, and for each goal why it was reached or missed.

    Raises:
        UsageError: there is no such episode.
    """
    episode = reader.episode(run_id, f"{task_id}/{trial}")
    (row,) = reader.rows(_FACTS, {"episode": episode.episode_id})
    same = reader.rows(_NEAR, {"run": run_id, "task": episode.task_id})
    near = next(each for each in same if each["trial"] == episode.trial)
    reports = reader.goals(episode)
    return {
        "run_id": run_id,
        "task_id": episode.task_id,
        "trial": episode.trial,
        "reward": episode.reward,
        "success": row["success"],
        "outcome": episode.outcome,
        "error": shortened(episode.error, LONGEST),
        "instructions": shortened(episode.instructions, LONGEST),
        "seconds": row["seconds"],
        "cost": row["cost"],
        "flags": row["flags"],
        "running": row["running"],
        "supervisor": row["supervisor"],
        "final": _tail(episode.final_branch_id, episode.episode_id),
        "task_goals": [{"name": report.goal, "wanted": report.wanted} for report in reports],
        "trials": columns(same, ("trial", "reward", "outcome")),
        "prev": near["prev"],
        "next": near["next"],
        "nodes": _nodes(reader.branches(episode.episode_id)),
        "why": [_why(report, episode.episode_id) for report in reports],
        "faults": list(_faults(reader, episode)),
        "parts": [
            {"name": part.get("name"), "weight": part.get("weight"), "value": part.get("value")}
            for part in parsed_list(row["parts"])
        ],
    }


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['task_id']}/{row['trial']}"


def _tail(branch: str | None, episode: str) -> str | None:
    """The `path.turn` of a branch."""
    return None if branch is None else branch.removeprefix(f"{episode}/")


def _ordered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Branches with parents before their children, siblings left to right."""
    return sorted(rows, key=lambda row: (row["turn"], path_key(row["path"])))


def _nodes(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    ordered = _ordered(rows)
    places = {row["branch_id"]: place for place, row in enumerate(ordered)}
    return {
        "branch_id": [row["branch_id"] for row in ordered],
        "parent": [places.get(row["parent_id"], -1) for row in ordered],
        "path": [row["path"] for row in ordered],
        "turn": [row["turn"] for row in ordered],
        "outcome": [row["outcome"] for row in ordered],
        "error": [shortened(row["error"], LONGEST) for row in ordered],
        "mark": [_mark(row) for row in ordered],
        "said": [shortened(row["said"]) for row in ordered],
        "calls": [[shortened(call) for call in row["calls"] or ()] for row in ordered],
        "goals": [row["goals"] or [] for row in ordered],
        "credited": [row["credited"] or [] for row in ordered],
    }


def _mark(row: Mapping[str, Any]) -> int:
    """1 for a successful branch, 2 for a golden one, 4 for a winner, added up."""
    return row["successful"] + 2 * row["golden"] + 4 * row["winner"]


def _why(report: GoalReport, episode: str) -> dict[str, Any]:
    """A goal's report as the page shows it: the branch and message of the call, and each argument that differs."""
    tail = report.branch_id.removeprefix(f"{episode}/")
    path, _, turn = tail.rpartition(".")
    place = {"path": path, "turn": int(turn)} if turn.isdigit() else {"path": None, "turn": None}
    nearest = report.nearest and {
        **place,
        "seq": report.nearest.seq,
        "name": report.nearest.name,
        "arguments": shortened(report.nearest.arguments, LONGEST),
    }
    return {
        "goal": report.goal,
        "earned": report.reached,
        **place,
        "wanted": report.wanted,
        "nearest": nearest,
        "differences": [
            {"argument": each.argument, "wanted": each.wanted, "got": shortened(each.got, LONGEST)}
            for each in report.arguments
        ],
        "text": shortened(report.difference or report.call, LONGEST) or "",
    }


def _faults(reader: Reader, episode: EpisodeTree) -> Iterable[dict[str, Any]]:
    """The faults of an episode with their tracebacks; runs of old versions recorded messages alone."""
    for row in reader.rows(_FAULTS, {"episode": episode.episode_id}):
        path, _, turn = (_tail(row["branch_id"], episode.episode_id) or "").rpartition(".")
        kind, colon, _ = row["error"].partition(": ")
        yield {
            "path": path if row["branch_id"] else None,
            "turn": int(turn) if turn.isdigit() else None,
            "source": row["component"],
            "kind": kind if colon and kind.isidentifier() else row["outcome"],
            "message": shortened(row["error"], LONGEST),
            "traceback": shortened(row["traceback"], LONGEST),
        }


def trees(reader: Reader, run_id: str, start: str | None = None) -> dict[str, Any]:
    """The shapes of a run's trees, the worst first, from the episode `start` (task/trial) on; paged."""
    listed = reader.rows(_LISTED, {"run": run_id})
    names = [_name(row) for row in listed]
    first = names.index(start) if start in names else 0
    chosen: list[dict[str, Any]] = []
    nodes = 0
    for row in listed[first : first + MOST_TREES]:
        nodes += row["nodes"]
        if chosen and nodes > MOST_NODES:
            break
        chosen.append(row)
    following = first + len(chosen)
    by_episode: dict[str, list[dict[str, Any]]] = {row["episode_id"]: [] for row in chosen}
    sql = _SHAPES.format(branches=rows_of("branches", [run_id]))
    for row in reader.rows(sql, {"episodes": [*by_episode]}):
        by_episode[row["episode_id"]].append(row)
    return {
        "trees": {_name(row): _shape(by_episode[row["episode_id"]]) for row in chosen},
        "next": names[following] if following < len(names) else None,
    }


def _shape(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    ordered = _ordered(rows)
    places = {row["branch_id"]: place for place, row in enumerate(ordered)}
    return {
        "parent": [places.get(row["parent_id"], -1) for row in ordered],
        "turn": [row["turn"] for row in ordered],
        "mark": [_mark(row) for row in ordered],
        "bad": [int((row["outcome"] or "").endswith("_fault")) for row in ordered],
    }


MOST_POINTS = 1000
"""Points of a curve."""


def metrics(reader: Reader, run_ids: Sequence[str]) -> dict[str, list[Any]]:
    """The numbers that runs measured, by column; of a long curve the least and greatest of each stretch."""
    rows = reader.rows(_METRICS, {"runs": list(run_ids), "half": MOST_POINTS // 2, "most": MOST_POINTS})
    return columns(rows, ("run_id", "stage", "name", "step", "value"))


MOST_HITS = 200


def search(reader: Reader, run_id: str, text: str, limit: int = 50) -> dict[str, Any]:
    """Messages of a run that contain a text, whatever its case, with the words around it."""
    if not text.strip():
        return {"hits": [], "more": False}
    most = max(1, min(limit, MOST_HITS))
    sql = _HITS.format(messages=rows_of("messages", [run_id]))
    rows = reader.rows(sql, {"run": run_id, "text": text.lower(), "most": most + 1})
    return {"hits": [_hit(row, text) for row in rows[:most]], "more": len(rows) > most}


def _hit(row: Mapping[str, Any], text: str) -> dict[str, Any]:
    found = next((each for each in (row["content"], row["tool_calls"]) if each and text.lower() in each.lower()), "")
    place = max(0, found.lower().find(text.lower()))
    end = place + len(text)
    fate = "golden" if row["golden"] else "successful" if row["successful"] else row["outcome"]
    return {
        "task_id": row["task_id"],
        "trial": row["trial"],
        "path": row["path"],
        "turn": row["turn"],
        "seq": row["seq"],
        "author": row["author"],
        "snippet": [found[max(0, place - 60) : place], found[place:end], found[end : end + 120]],
        "fate": fate,
    }


_FACTS = """
SELECT
    is_success(e.reward, e.full_reward) AS success, e.parts, elapsed(e.started_at, e.finished_at) AS seconds,
    e.finished_at IS NULL AS running, e.supervisor,
    (SELECT CAST(coalesce(sum(len(flags)), 0) AS BIGINT) FROM messages WHERE episode_id = $episode) AS flags,
    (SELECT sum(cost) FROM model_calls WHERE episode_id = $episode) AS cost
FROM episodes e WHERE episode_id = $episode
"""

_NEAR = """
SELECT * FROM (
    SELECT
        task_id, trial, reward, outcome, lag(concat(task_id, '/', trial)) OVER near AS prev,
        lead(concat(task_id, '/', trial)) OVER near AS next
    FROM episodes WHERE run_id = $run WINDOW near AS (ORDER BY task_id, trial)
)
WHERE task_id = $task ORDER BY trial
"""

_FAULTS = """
SELECT branch_id, component, error, traceback, any_value(outcome) AS outcome FROM (
    SELECT f.branch_id, f.component, f.error, f.traceback, b.outcome
    FROM faults f LEFT JOIN branches b ON b.branch_id = f.branch_id AND b.episode_id = $episode
    WHERE f.episode_id = $episode
    UNION ALL
    SELECT b.branch_id, split_part(b.outcome, '_', 1), coalesce(b.error, ''), NULL, b.outcome
    FROM branches b
    WHERE b.episode_id = $episode AND b.outcome LIKE '%\\_fault' ESCAPE '\\'
    AND NOT EXISTS (FROM faults f WHERE f.branch_id = b.branch_id)
)
GROUP BY branch_id, component, error, traceback ORDER BY branch_id NULLS FIRST
"""

_LISTED = """
SELECT e.episode_id, e.task_id, e.trial, coalesce(e.branches, 0) + 1 AS nodes
FROM episodes e WHERE run_id = $run ORDER BY e.reward NULLS FIRST, e.task_id, e.trial
"""

_SHAPES = """
SELECT episode_id, branch_id, parent_id, path, turn, outcome, successful, golden, winner
FROM branches WHERE {branches} AND list_contains($episodes, episode_id)
"""

_METRICS = """
WITH points AS (
    SELECT
        run_id, stage, name, step, value,
        row_number() OVER (PARTITION BY run_id, stage, name ORDER BY step) - 1 AS place,
        count(*) OVER (PARTITION BY run_id, stage, name) AS points
    FROM metrics WHERE list_contains($runs, run_id)
),
stretches AS (
    SELECT *, CASE WHEN points > $most THEN place * $half // points ELSE place END AS stretch FROM points
)
SELECT run_id, stage, name, step, value FROM stretches
QUALIFY points <= $most
    OR step = arg_min(step, value) OVER (PARTITION BY run_id, stage, name, stretch)
    OR step = arg_max(step, value) OVER (PARTITION BY run_id, stage, name, stretch)
ORDER BY run_id, stage, name, step
"""

_HITS = """
SELECT
    e.task_id, e.trial, b.path, m.turn, m.seq, m.author, m.content, CAST(m.tool_calls AS VARCHAR) AS tool_calls,
    b.golden, b.successful, b.outcome
FROM messages m
JOIN episodes e USING (episode_id)
JOIN branches b ON b.branch_id = m.branch_id AND b.episode_id = m.episode_id
WHERE e.run_id = $run AND {messages}
AND (contains(lower(m.content), $text) OR contains(lower(CAST(m.tool_calls AS VARCHAR)), $text))
ORDER BY e.task_id, e.trial, m.turn, b.path, m.seq
LIMIT $most
"""
