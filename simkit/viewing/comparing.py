"""A comparison of runs as the viewer shows it: what `simkit compare` reports, and the scores of every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from simkit.comparison import Arm, compare
from simkit.store import Reader, RunRow
from simkit.viewing.runs import run_rows


def comparison(reader: Reader, a: Sequence[RunRow], b: Sequence[RunRow]) -> dict[str, Any]:
    """The runs `b` against the reference `a`; unfinished runs are compared as far as they are.

    Raises:
        UsageError: the runs cannot be compared; the message says why.
    """
    names = [_label(a), _label(b)]
    if names[0] == names[1]:
        names = [", ".join(run.run_id for run in arm) for arm in (a, b)]
    arms = [Arm(name, tuple(run.run_id for run in arm)) for name, arm in zip(names, (a, b), strict=True)]
    found = compare(reader, arms, allow_incomplete=True)
    rows = {row["run_id"]: row for row in run_rows(reader)}
    return {
        **found.to_json(),
        "runs": {name: [rows[run.run_id] for run in arm] for name, arm in (("a", a), ("b", b))},
        "tasks": _tasks(reader, a, b),
    }


def _label(runs: Sequence[RunRow]) -> str:
    return ", ".join(run.name or run.run_id for run in runs)


def _tasks(reader: Reader, a: Sequence[RunRow], b: Sequence[RunRow]) -> list[dict[str, Any]]:
    """Average reward per task on both sides, the worst change first, with the rewards of the trials."""
    ids = [run.run_id for run in (*a, *b)]
    rows = reader.rows(_REWARDS, {"runs": ids})
    by_run: dict[tuple[str, str], dict[int, float | None]] = {}
    for row in rows:
        by_run.setdefault((row["task_id"], row["run_id"]), {})[row["trial"]] = row["reward"]
    found: list[dict[str, Any]] = []
    for task in dict.fromkeys(row["task_id"] for row in rows):
        played = [[(run.run_id, by_run.get((task, run.run_id), {})) for run in arm] for arm in (a, b)]
        flat = [[value for _, rewards in arm for value in _trials(rewards)] for arm in played]
        plays = [[[run, *each] for run, rewards in arm for each in sorted(rewards.items())] for arm in played]
        if not all(flat):
            continue
        means = [fmean(scored) if (scored := [v for v in arm if v is not None]) else None for arm in flat]
        difference = None if means[0] is None or means[1] is None else means[1] - means[0]
        found.append(
            {"task_id": task, "a": means[0], "b": means[1], "difference": difference}
            | {"trials_a": flat[0], "trials_b": flat[1], "plays_a": plays[0], "plays_b": plays[1]}
        )
    return sorted(found, key=lambda row: (row["difference"] is None, row["difference"] or 0.0, row["task_id"]))


def _trials(rewards: Mapping[int, float | None]) -> list[float | None]:
    """Rewards by trial number; null for a trial that was not scored or not played."""
    return [rewards.get(trial) for trial in range(max(rewards, default=-1) + 1)]


_REWARDS = """
SELECT run_id, task_id, trial, reward FROM episodes WHERE list_contains($runs, run_id) ORDER BY task_id, run_id, trial
"""
