"""Notes about results, printed on stderr because stdout holds only the results."""

from __future__ import annotations

from collections.abc import Iterable

from simkit.cli.output import say


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on stderr, each once: the source of an answer, what it lacks, and unfinished runs."""
    for note in dict.fromkeys(notes):
        say(f"note: {note}", err=True)
