"""Engines by name: `--engine` of every run, `SIMKIT_ENGINE`, and `Run(engine=...)`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.run.contract import Engine
    from simkit.run.processes import Workers

PROCESSES, RAY = "processes", "ray"

EXPOSED = (
    "--engine ray starts Ray on this machine. Ray listens on every network interface, whatever address it is "
    "given, and accepts only callers that know its token. If others can reach this machine, close its ports with a "
    "firewall, or play in a network namespace, or use --workers N instead, which listens nowhere; --engine ray=ADDRESS "
    "joins a cluster that runs already"
)


def engine_named(text: str, workers: Workers | None) -> Engine | None:
    """The engine of a name; None for `processes`, which `workers` alone determines.

    Args:
        text: `processes`, `ray` or `ray=ADDRESS`.
        workers: number of workers; None or `auto` for one per core of a cluster.

    Raises:
        UsageError: there is no such engine, or the package `ray` is not installed.
    """
    name, given, address = text.partition("=")
    if text == PROCESSES:
        return None
    if name != RAY or (given and not address):
        raise UsageError(
            f"--engine is `{text}`; give `processes` (workers of this machine), `ray` (starts Ray here) or "
            "`ray=ADDRESS` (joins a cluster: ray=auto, ray=10.0.0.1:6379)"
        )
    from simkit.run.ray_engine import RayActors

    return RayActors(address or None, None if workers == "auto" else workers)


def exposure(text: str | None) -> str | None:
    """What to know before an engine of this name is used, if it starts something that listens on a network."""
    return EXPOSED if text == RAY and not os.environ.get("RAY_ADDRESS") else None
