"""W2: JOSH at beam 8, beside its critical path."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workload_runs import Load, Measured, heading, middle, new_run, on_fast_loop, play, serving, table

from simkit.store import Store
from simkit.testing.behaviour import Stats

LATENCY = 0.05
CRITICAL = """
    select max(calls) from (
        select episode_id, count(distinct (regexp_extract(branch_id, '[.](\\d+)$', 1), role, step)) as calls
        from model_calls group by episode_id
    )
"""
"""Calls of the longest episode that have to follow each other: those of a turn's leaves go out together."""


@dataclass(frozen=True, slots=True)
class Searched:
    """One run of searches."""

    measured: Measured
    stats: Stats
    critical: int


async def search(load: Load, reply: str) -> Searched:
    """Play all trees at once."""
    async with serving(reply, LATENCY) as server:
        with tempfile.TemporaryDirectory() as folder:
            measured = await play(new_run(load, Path(folder)), load, server)
            critical = Store(Path(folder)).query(CRITICAL).rows[0][0]
            return Searched(measured, await server.stats(), int(critical))


def w2(repeat: int) -> None:
    """Full beams without rewards, with a limit, and with rewards."""
    heading("W2: JOSH at beam 8, 20 conversations, at most 15 turns, calls of 50 ms")
    on_fast_loop(lambda: search(Load(conversations=2, turns=2, beam=2), "talk_seldom"))
    lines: list[tuple[str, str, int | Literal["adaptive"], float, float]] = [
        ("full beam, no rewards", "talk_in_vain", 1024, 3.0, 2.0),
        ("the same, adaptive limit", "talk_in_vain", "adaptive", 3.0, 2.0),
        ("the same, 64 calls at once", "talk_in_vain", 64, 0.0, 0.0),
        ("with rewards", "talk_seldom", 1024, 1.8, 1.8),
    ]
    found: dict[str, list[Searched]] = {name: [] for name, *_ in lines}
    for _ in range(repeat):
        for name, reply, limit, _, _ in lines:
            load = Load(conversations=20, turns=15, beam=8, limit=limit)
            found[name].append(on_fast_loop(lambda load=load, reply=reply: search(load, reply)))
    rows: list[tuple[object, ...]] = []
    for name, _, _, target, stretch in lines:
        ones = found[name]
        wall, least = middle(one.measured.wall for one in ones), ones[0].critical * LATENCY
        cells = (ones[0].measured.calls, ones[0].critical, f"{least:.2f}", f"{wall:.2f}", f"{wall / least:.2f}x")
        bounds = (f"{target}x", f"{stretch}x") if target else ("", "")
        cpu, busy = middle(one.measured.per_call for one in ones), middle(one.measured.busy for one in ones)
        rows.append((name, *cells, *bounds, max(one.stats.in_flight_max for one in ones), f"{cpu:.3f}", f"{busy:.1f}"))
    names = ("", "calls", "in a row", "at best s", "wall s", "of best", "target", "stretch", "in flight")
    table((*names, "CPU ms/call", "load"), rows)
