"""The tables of a store's database: which rows belong to a run, and which rows a pack of Parquet files holds instead.

Ids of episodes and names of journals begin with the run and a slash, so the rows of a run are a range of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

OWNERS: Mapping[str, str] = {
    "runs": "run_id",
    "tasks": "run_id",
    "planned_units": "run_id",
    "unplayed_units": "run_id",
    "shard_plans": "run_id",
    "merged_shards": "run_id",
    "blocked_loops": "run_id",
    "lost_workers": "run_id",
    "endpoint_adjustments": "run_id",
    "component_loads": "run_id",
    "episodes": "run_id",
    "faults": "run_id",
    "metrics": "run_id",
    "item_scores": "run_id",
    "packed_runs": "run_id",
    "branches": "episode_id",
    "messages": "episode_id",
    "tool_calls": "episode_id",
    "rewards": "episode_id",
    "goal_explanations": "episode_id",
    "harvests": "episode_id",
    "model_calls": "episode_id",
    "journals": "journal",
    "unreadable_lines": "journal",
}
"""The column that tells the run of a row, by table. `toolsets` and `store_format` belong to no run, and
`notes` and `loaded_notes` to a journal of their own."""

BOOKKEEPING = ("journals", "unreadable_lines", "packed_runs")
"""Tables about the journals and the packs themselves: no pack holds them."""

RECORDED = tuple(table for table in OWNERS if table not in BOOKKEEPING)
"""Tables with the rows that a run recorded."""

PACKED = ("branches", "messages", "tool_calls", "rewards", "model_calls")
"""Tables that a packed run has left; its rows in all others stay in the database, too, so that lists stay quick."""

MANY = 8
"""Runs up to which each has a range of keys of its own."""


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def rows_of(table: str, runs: Sequence[str]) -> str:
    """Condition for the rows of these runs in a table, as SQL."""
    column = OWNERS[table]
    if column == "run_id":
        return f"run_id IN ({_listed(runs)})"
    if len(runs) > MANY:
        return f"split_part({column}, '/', 1) IN ({_listed(runs)})"
    # '0' is the character after '/': a range, which DuckDB compares with the bounds of each block of rows
    ranges = (f"{column} >= {literal(f'{run}/')} AND {column} < {literal(f'{run}0')}" for run in runs)
    return f"({' OR '.join(ranges) or 'false'})"


def _listed(runs: Sequence[str]) -> str:
    return ", ".join(map(literal, runs)) or "NULL"
