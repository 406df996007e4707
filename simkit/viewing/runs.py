"""Runs as the viewer shows them: the rows of the list, and one run with all its episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simkit.monitoring.doctor import diagnosis_of
from simkit.run.summary import Summary
from simkit.statistics.scores import mean_of_tasks
from simkit.store import Reader, RunRow
from simkit.store.source import file_of, find_journals
from simkit.store.tables import literal, rows_of
from simkit.viewing.values import columns, moment, parsed_object

HARVEST = (
    "golden_branches",
    "failed_branches",
    "sft_examples",
    "kto_desirable",
    "kto_undesirable",
    "dpo_pairs",
)


def run_rows(reader: Reader) -> list[dict[str, Any]]:
    """All runs of the store, the latest first."""
    return reader.keep("run rows", lambda: _rows(reader))


def run_page(reader: Reader, run: RunRow) -> dict[str, Any]:
    """One run: its row, its configuration and summary, its stages, and its episodes by column."""
    rows = run_rows(reader)
    found = next(row for row in rows if row["run_id"] == run.run_id)
    (facts,) = reader.rows("SELECT config, summary FROM runs WHERE run_id = $run", {"run": run.run_id})
    summary = parsed_object(facts["summary"])
    outcomes = reader.rows(_OUTCOMES, {"run": run.run_id})
    return {
        **found,
        "config": parsed_object(facts["config"]),
        "summary": list(summary_lines(found, summary)),
        "outcomes": {row["outcome"]: row["episodes"] for row in outcomes},
        "units": _units(reader, run.run_id),
        "harvest": {name: summary.get(name) for name in HARVEST} if HARVEST[0] in summary else None,
        "parts": [row for row in rows[::-1] if row["part_of"] == run.run_id],
        "doctor": _advice(reader, run, found),
        "episodes": episode_columns(reader, run.run_id),
    }


def summary_lines(row: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterable[list[Any]]:
    """The numbers that the end of a run reports, as label, value, and the ends of its interval or nulls."""
    for label, estimate in (("average reward", row["reward"]), ("success rate", row["success"])):
        if estimate is not None:
            yield [label, estimate["value"], estimate["low"], estimate["high"]]
    if len(row["pass_k"]) > 1:
        for k, value in enumerate(row["pass_k"], 1):
            yield [f"pass^{k}", value, None, None]
    measures: Mapping[str, float] = summary.get("measures") or {}
    for name, value in measures.items():
        yield [name.replace("_", " "), value, None, None]
    known = {*Summary.__dataclass_fields__, *_ACCOUNT}
    for name, value in summary.items():
        if name in known:
            continue
        match value:
            case {"value": middle, "low": low, "high": high}:
                yield [name.replace("_", " "), middle, low, high]
            case _:
                yield [name.replace("_", " "), value, None, None]


_ACCOUNT = ("planned", "done", "kept", "not_played", "not_played_because")


def episode_columns(reader: Reader, run_id: str) -> dict[str, list[Any]]:
    """The episodes of a run by column, in the order of tasks and trials."""
    sql = _EPISODES.format(messages=rows_of("messages", [run_id]), calls=rows_of("model_calls", [run_id]))
    rows = reader.rows(sql, {"run": run_id})
    return columns(rows, EPISODE_COLUMNS)


EPISODE_COLUMNS = (
    "task_id",
    "trial",
    "reward",
    "success",
    "outcome",
    "achieved",
    "goals",
    "turns",
    "branches",
    "faults",
    "flags",
    "seconds",
    "cost",
    "error",
    "running",
)


def _rows(reader: Reader) -> list[dict[str, Any]]:
    found = reader.rows(_RUNS)[::-1]
    open_runs = [row["run_id"] for row in found if row["status"] == "running"]
    unknown = [row["run_id"] for row in found if row["scored"] and "reward" not in parsed_object(row["summary"])]
    estimates = _estimates(reader, unknown)
    costs = _costs(reader, [row["run_id"] for row in found if row["status"] == "running" or row["attempt"]])
    lines = _last_lines(reader, open_runs)
    alive = frozenset(state.run_id for state in reader.state.runs if state.alive)
    return [_row(row, estimates, costs, lines, alive) for row in found]


def _row(
    row: Mapping[str, Any],
    estimates: Mapping[str, Mapping[str, Any]],
    costs: Mapping[str, float],
    lines: Mapping[str, float],
    alive: frozenset[str],
) -> dict[str, Any]:
    run, config, summary = row["run_id"], parsed_object(row["config"]), parsed_object(row["summary"])
    found: Mapping[str, Any] = estimates.get(run, {})
    told: Mapping[str, Any] = parsed_object(row["stats"]).get("models") or {}
    expected = row["planned"] if row["planned"] is not None else row["episodes"]
    running = row["status"] == "running"
    return {
        "run_id": run,
        "name": row["name"],
        "recipe": row["recipe"],
        "status": row["status"],
        "alive": run in alive,
        "part_of": row["part_of"],
        "stage": row["stage"],
        "world": row["world"] or config.get("world"),
        "split": row["split"] or config.get("split"),
        "agent": row["agent"],
        "user": config.get("user"),
        "models": {
            "agent": config.get("model"),
            "user": config.get("user_model"),
            "judge": config.get("judge_model"),
        },
        "episodes": row["episodes"],
        "finished": row["finished"],
        "expected": expected,
        "reward": summary.get("reward") or found.get("reward"),
        "success": summary.get("success_rate") or found.get("success"),
        "pass_k": row["pass_hat_k"] or [],
        "faults": row["faults"],
        "branches": row["branches"],
        "turns": row["turns"],
        "supervisor": row["supervisor"],
        "cost": costs[run] if run in costs else told.get("cost"),
        "started_at": moment(row["started_at"]),
        "last_line_at": moment(lines.get(run)) if running else moment(row["finished_at"]),
        "seconds": row["seconds"],
        "error": row["error"],
    }


def _estimates(reader: Reader, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Average reward and success rate with their intervals, of runs that have not reported them."""
    if not runs:
        return {}
    found: dict[str, dict[str, Any]] = {}
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in reader.rows(_SCORES.format(runs=", ".join(map(literal, runs)))):
        by_run.setdefault(row["run_id"], []).append(row)
    for run, tasks in by_run.items():
        full = max((row["full_reward"] for row in tasks if row["full_reward"] > 0), default=1.0)
        reward = mean_of_tasks([row["rewards"] for row in tasks], bounds=(0.0, full))
        success = mean_of_tasks([list(map(float, row["successes"])) for row in tasks])
        found[run] = {"reward": reward.to_json(), "success": success.to_json()}
    return found


def _costs(reader: Reader, runs: Sequence[str]) -> dict[str, float]:
    """US dollars of all model calls of runs whose end does not tell them."""
    if not runs:
        return {}
    sql = _COSTS.format(calls=rows_of("model_calls", runs))
    return {row["run_id"]: row["cost"] for row in reader.rows(sql)}


def _last_lines(reader: Reader, runs: Sequence[str]) -> dict[str, float]:
    """When the journals of runs were last written to, in seconds since the epoch."""
    found: dict[str, float] = {}
    for run, journals in (find_journals(reader.path, runs).runs if runs else {}).items():
        for journal in journals:
            try:
                found[run] = max(found.get(run, 0.0), file_of(journal).stat().st_mtime)
            except OSError:  # it was removed meanwhile
                continue
    return found


def _units(reader: Reader, run_id: str) -> dict[str, Any]:
    """Planned episodes of the last start by their fate."""
    rows = reader.rows(_UNITS, {"run": run_id})
    counts = {fate: sum(row["units"] for row in rows if row["fate"] == fate) for fate in ("done", "kept")}
    left = {row["reason"]: row["units"] for row in rows if row["fate"] in ("not_played", None)}
    return {**counts, "not_played": left}


def _advice(reader: Reader, run: RunRow, row: Mapping[str, Any]) -> list[str]:
    """What `simkit doctor` recommends for a run that did not go well."""
    silent = row["status"] == "running" and not row["alive"]
    if row["status"] in ("failed", "stopped", "interrupted") or silent or row["faults"]:
        with reader.scoped([run.run_id], copy=False) as own:
            return list(diagnosis_of(own, run).advice)
    return []


_RUNS = """
SELECT
    s.*, r.config, r.summary, r.stats, r.error, r.attempt, r.finished_at, t.world, t.split,
    coalesce(
        r.config ->> 'agent', a.agent, CASE WHEN r.config ->> 'model' IS NOT NULL THEN 'function_calling' END
    ) AS agent
FROM run_summary s
JOIN runs r USING (run_id)
LEFT JOIN (SELECT run_id, any_value(world) AS world, any_value(split) AS split FROM tasks GROUP BY run_id) t
    USING (run_id)
LEFT JOIN (
    SELECT run_id, any_value(sent_as) AS agent FROM endpoint_adjustments WHERE adjustment = 'agent' GROUP BY run_id
) a USING (run_id)
ORDER BY s.number NULLS FIRST, s.started_at, s.run_id
"""

_SCORES = """
SELECT
    run_id, task_id, list(reward ORDER BY trial) AS rewards, max(full_reward) AS full_reward,
    list(is_success(reward, full_reward) ORDER BY trial) AS successes
FROM episodes WHERE reward IS NOT NULL AND run_id IN ({runs})
GROUP BY run_id, task_id ORDER BY run_id, task_id
"""

_COSTS = """
SELECT split_part(episode_id, '/', 1) AS run_id, sum(cost) AS cost FROM model_calls WHERE {calls} GROUP BY ALL
"""

_OUTCOMES = """
SELECT coalesce(outcome, 'running') AS outcome, count(*) AS episodes
FROM episodes WHERE run_id = $run GROUP BY ALL ORDER BY episodes DESC, outcome
"""

_UNITS = """
SELECT
    fate, coalesce(reason, CASE WHEN status = 'running' THEN 'still to be played' ELSE 'open' END) AS reason,
    count(*) AS units
FROM units JOIN runs USING (run_id)
WHERE run_id = $run AND units.attempt = (SELECT max(u.attempt) FROM units u WHERE u.run_id = runs.run_id)
GROUP BY ALL ORDER BY units DESC, reason
"""

_EPISODES = """
SELECT
    e.task_id, e.trial, e.reward, is_success(e.reward, e.full_reward) AS success, e.outcome,
    len(e.achieved) AS achieved, len(e.goals) AS goals, e.turns, e.branches, e.faults,
    coalesce(f.flags, 0) AS flags, elapsed(e.started_at, e.finished_at) AS seconds, c.cost, e.error,
    e.finished_at IS NULL AS running
FROM episodes e
LEFT JOIN (
    SELECT episode_id, CAST(sum(len(flags)) AS BIGINT) AS flags FROM messages
    WHERE {messages} AND len(flags) > 0 GROUP BY episode_id
) f USING (episode_id)
LEFT JOIN (
    SELECT episode_id, sum(cost) AS cost FROM model_calls WHERE {calls} GROUP BY episode_id
) c USING (episode_id)
WHERE e.run_id = $run ORDER BY e.task_id, e.trial
"""
