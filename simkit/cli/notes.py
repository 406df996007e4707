"""What a reader of results must know of them, on stderr: stdout is for the results, whatever their format."""

from __future__ import annotations

from collections.abc import Iterable

from simkit.cli.output import say


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on stderr, each once: what an answer was read from, what it lacks, what is still running."""
    for note in dict.fromkeys(notes):
        say(f"note: {note}", err=True)
