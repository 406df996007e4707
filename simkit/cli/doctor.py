"""`simkit doctor RUN`: pending requests, slow and failed calls, faults, and remedies."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from simkit.cli.output import BOLD, say, say_json
from simkit.cli.program import open_store, print_notes
from simkit.cli.sql import plain
from simkit.core.safe_text import visible_line
from simkit.errors import UsageError
from simkit.monitoring.doctor import Diagnosis, diagnose
from simkit.run.engine_names import RAY

MOST_WORKERS = 32
"""Workers that are listed; --json has all of them."""

KEPT = ("worker", "open", "done", "lag", "heard")
"""Columns of workers that are shown even if they are 0 for all."""


def doctor(path: Path | None, run: str, as_json: bool) -> None:
    """Print the diagnosis of a run.

    Raises:
        UsageError: the run does not exist.
    """
    found = diagnose(open_store(path), run)
    if as_json:
        say_json(asdict(found), plain)
    else:
        _print(found)
    print_notes(found.notes)


def doctor_of_cluster(engine: str, as_json: bool) -> None:
    """Print the nodes of a Ray cluster with their versions, and whether a run could play there.

    Raises:
        UsageError: the engine is not one of a cluster that runs, it cannot be joined, or versions differ.
    """
    name, _, address = engine.partition("=")
    if name != RAY or not address:
        raise UsageError(f"--engine is `{engine}`; doctor looks at a cluster that runs: ray=auto, or ray=HOST:PORT")
    from simkit.run.ray_actor import Versions, own_versions
    from simkit.run.ray_cluster import check_versions, joined, node_versions

    with joined(address):
        nodes = node_versions()
    rows = [{"node": node, **asdict(found or Versions("no answer", "", ""))} for node, found in nodes.items()]
    own = {"node": "this process", **asdict(own_versions())}
    if as_json:
        say_json({"nodes": rows, "own": own}, plain)
    else:
        _print_rows("nodes", [own, *rows])
    check_versions(nodes)


def _print(found: Diagnosis) -> None:
    say(_head(found))
    for title, rows in (
        ("waiting", found.waiting),
        _workers(found.workers),
        ("lost workers", found.lost_workers),
        ("model calls", found.calls),
        ("slowest attempts", found.slowest),
        ("failed attempts", found.retries),
        ("adjusted requests", found.adjusted),
        ("unusual answers", found.doubts),
        ("flagged messages", found.flags),
        ("unusable answers", found.odd),
        ("faults", found.faults),
        ("slowest tools", found.tools),
        ("components with limits", found.components),
        ("planned and not played", found.unplayed),
        ("what blocked the event loop", [_without_stack(row) for row in found.blocked]),
    ):
        _print_rows(title, rows)
    for row in found.blocked[:1]:
        say(f"\nthe longest, innermost frame last:\n{_indented(row['stack'] or 'unknown')}")
    for row in found.tracebacks:
        say(f"\n{row['component']}: {visible_line(row['error'])} ({row['times']} times, e.g. {row['example']})")
        say(_indented(row["traceback"]))
    for line in found.advice or ("no problems found",):
        say(f"→ {visible_line(line)}")


def _workers(rows: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The table of workers and its title: the most silent ones if they are many, and only columns with a value."""
    title, shown = "workers", rows
    if len(rows) > MOST_WORKERS:
        title = f"workers: {MOST_WORKERS} of {len(rows)}, those that are silent for longest"
        shown = sorted(rows, key=lambda row: -row["heard"])[:MOST_WORKERS]
    names = [name for name in (rows[0] if rows else ()) if name in KEPT or any(row[name] for row in shown)]
    told = [{**row, "lag": f"{row['lag'] * 1e3:.0f} ms", "heard": f"{row['heard']:.1f} s ago"} for row in shown]
    return title, [{name: row[name] for name in names} for row in told]


def _without_stack(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "stack"}


def _indented(stack: str) -> str:
    return "\n".join(f"  {visible_line(line)}" for line in stack.splitlines())


def _head(found: Diagnosis) -> str:
    run, counts = found.run, found.episodes
    process = f"a process plays it, last line {found.silent:.0f} s ago" if found.alive else "no process plays it"
    lines = [
        f"{run.run_id}: {run.status}, {process}",
        f"{counts['finished']} of {counts['started']} started episodes are finished, {counts['faulted']} of "
        "them faulted",
    ]
    if run.planned is not None and run.finished < run.planned:
        lines.append(f"{run.finished} of {run.planned} planned episodes are finished")
    lag = found.stats.get("lag")
    if lag:
        lines.append(f"event loop: {lag['mean'] * 1e3:.1f} ms late on average, {lag['worst'] * 1e3:.0f} ms at worst")
    return "\n".join(lines)


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    cells = [[str(name) for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    say(f"\n{title}", BOLD)
    for row in cells:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return visible_line(text if len(text) <= 100 else text[:99] + "…")
