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

    done = write(open_store(path), kind, run=run, out=out)
    if as_json:
        typer.echo(json.dumps(asdict(done), default=str))
        return
    typer.echo(f"{out}: {done.written} {kind.upper()} examples")
    if done.duplicates or done.contradictions:
        typer.echo(f"left out: {done.duplicates} duplicates, {done.contradictions} negatives that are desirable too")
