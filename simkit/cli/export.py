"""`simkit export`: training examples of a run as a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import typer

from simkit.cli.stores import open_store


def export(path: Path | None, kind: Literal["sft", "kto", "dpo"], run: str, out: Path, as_json: bool) -> None:
    """Write the file and say what is in it, and what was left out and why.

    Raises:
        UsageError: there is no such run, or the file's ending is unknown.
        StoreError: the file or the store cannot be used.
    """
    from simkit.store import export as write

    counts = asdict(write(open_store(path), kind, run=run, out=out))
    if as_json:
        typer.echo(json.dumps(counts, default=str))
        return
    typer.echo(f"{out}: " + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts.items()))
