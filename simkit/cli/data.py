"""`simkit data`: fetch a world's data once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import typer


def prepare(world: Literal["toolwoz"], source: Path | None) -> None:
    """Build the cache of a world's data, showing progress, and say where it is.

    Raises:
        DataMissing: it cannot be fetched, or the given source lacks a file.
        DataCorrupt: what was fetched or given is damaged.
    """
    from simkit.tools.toolwoz.data import prepare as prepare_toolwoz

    shown = Steps(live=sys.stderr.isatty())
    path = prepare_toolwoz(source=source, progress=shown.tell)
    shown.end()
    size = path.stat().st_size / 1e6
    typer.echo(f"{world}: {path} ({size:.1f} MB). Try: simkit run rollout --world {world} --split test --tasks 50")


class Steps:
    """Progress of a job with named stages: one line a stage, rewritten in place on a terminal."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._stage = ""

    def tell(self, stage: str, fraction: float) -> None:
        """So much (0 to 1) of a stage is done."""
        if stage != self._stage:
            self.end()
            self._stage = stage
            if not self._live:
                typer.echo(f"{stage} ...", err=True)
        if self._live:
            typer.echo(f"\r{stage:<10} {fraction:4.0%}", err=True, nl=False)

    def end(self) -> None:
        """The last stage is over."""
        if self._live and self._stage:
            typer.echo(err=True)
