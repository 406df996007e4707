"""`simkit doctor --verify` and `--acknowledge`: check journals for damage, and accept damage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from simkit.cli.output import say, say_json
from simkit.cli.program import open_store, print_notes
from simkit.core.safe_text import visible_line
from simkit.errors import StoreError, StoreUnreadable, UsageError, reason
from simkit.store import Store
from simkit.store.damage import BadLine
from simkit.store.lines import JournalLines
from simkit.store.source import find_journals


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Result of a check: numbers of journals and lines, and every damaged place."""

    journals: int
    lines: int
    bad: tuple[BadLine, ...]


def verify(path: Path | None, run: str | None, as_json: bool) -> None:
    """Read every line of the journals of a run, or of all runs, and print each damaged place.

    The result is saved in the store: if the store has recorded other damage, the rows of the run are made again from
    its journals.

    Raises:
        UsageError: the run does not exist.
        typer.Exit: with code 1 if a place is damaged, acknowledged or not.
    """
    store = open_store(path)
    run_id = None if run is None else store.resolve(run).run_id
    found = read_all(store.path, run_id)
    _save_result(store, found, run_id)
    if as_json:
        say_json({"journals": found.journals, "lines": found.lines, "damaged": [_row(bad) for bad in found.bad]})
    else:
        for bad in found.bad:
            say(visible_line(f"{bad.journal}, line {bad.line} (byte {bad.byte}), {bad.kind}: {bad.reason}"))
        verdict = f"{len(found.bad)} damaged places" if found.bad else "every line is intact"
        say(f"{found.journals} journals, {found.lines:,} lines: {verdict}")
    if found.bad:
        raise typer.Exit(1)


def read_all(folder: Path, run_id: str | None) -> VerifyResult:
    """Read the journals of a run, or (None) of all runs of a store.

    Raises:
        StoreUnreadable: a journal cannot be read.
    """
    found = find_journals(folder, None if run_id is None else (run_id,))
    lines, bad, count = 0, list[BadLine](), 0
    for path, error in found.troubles:
        raise StoreUnreadable(f"the journals in {path.parent} cannot be read: {reason(error)}; check its permissions")
    for journals in found.runs.values():
        for path in journals:
            journal = JournalLines(path)
            try:
                lines += sum(1 for _ in journal)
            except OSError as error:
                raise StoreUnreadable(f"the journal {path} cannot be read: {error.strerror or error}") from error
            bad += journal.bad
            count += 1
    return VerifyResult(count, lines, tuple(bad))


def _save_result(store: Store, found: VerifyResult, run_id: str | None) -> None:
    try:
        known = {tuple(row) for row in store.query(_KNOWN, {"run": run_id}).rows}
        differing = {str(key[0]).partition("/")[0] for key in known ^ {bad.key for bad in found.bad}}
        if differing:
            store.loader.reload(differing)
    except StoreError as error:
        print_notes([f"the result could not be saved in the store: {error}"])


_KNOWN = """
SELECT journal, kind, byte, checksum FROM unreadable_lines
WHERE kind IN ('altered', 'garbage', 'duplicate', 'late', 'lost')
  AND ($run IS NULL OR starts_with(journal, $run || '/'))
"""


def acknowledge(path: Path | None, run: str | None) -> None:
    """Accept the damage of a run, so that it is no longer reported and no longer prevents exports.

    Raises:
        UsageError: no run is named, or it does not exist.
    """
    if run is None:
        raise UsageError("name the run whose damage you have read: simkit doctor --acknowledge RUN")
    store = open_store(path)
    run_id = store.resolve(run).run_id
    found = store.acknowledge(run_id)
    say(f"{run_id}: {len(found)} damaged places acknowledged" if found else f"{run_id} has no damage to acknowledge")


def _row(bad: BadLine) -> dict[str, object]:
    return {
        "run_id": bad.run_id,
        "journal": str(bad.journal),
        "line": bad.line,
        "byte": bad.byte,
        "kind": bad.kind,
        "lines": bad.lines,
        "reason": bad.reason,
    }
