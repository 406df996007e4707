"""Damage in journals: each damaged place is recorded and reported until it is acknowledged.

`damage.jsonl` in the store's folder holds damage that a journal itself cannot show (such as that it was once longer)
and acknowledgements. The file is append-only and survives a rebuild of the database.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import duckdb
import orjson

from simkit.store.files import open_private

Kind: TypeAlias = Literal[
    "altered",  # the checksum does not match
    "garbage",  # not a journal line
    "duplicate",  # repeats the number of an earlier line; skipped
    "late",  # out of order; read in its proper place
    "lost",  # line numbers missing from the journal
    "unreadable",  # intact, or without a checksum, but not an event that this version knows
    "shortened",  # the journal was longer when it was loaded
    "changed",  # lines differ from those that were loaded
    "gone",  # the journal no longer exists; the database still has its rows
    "file",  # the file cannot be read
]

FILE = "damage.jsonl"

SHOWN = 3
"""Maximum number of damaged or stale runs that a message names; the rest are counted."""

FIELDS = ("byte", "line", "reason", "kind", "sequence", "lines", "checksum")
"""Fields stored for a bad line, besides its journal."""

_WORDS: Mapping[str, str] = {
    "altered": "altered",
    "garbage": "no lines of a journal",
    "duplicate": "copies",
    "late": "out of place",
    "lost": "lost",
    "unreadable": "unknown",
    "shortened": "shortened",
    "changed": "changed",
    "gone": "gone",
    "file": "unreadable files",
}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A damaged place in a journal.

    Attributes:
        journal: the file.
        byte, line: byte offset of the line, and its number in the file, counted from 1.
        reason: description of the damage.
        kind: kind of damage.
        sequence: sequence number that the line has, or should have; None if it is unknown.
        lines: number of consecutive lines affected.
        checksum: checksum of the damaged bytes, so that an acknowledgement covers only this damage.
    """

    journal: Path
    byte: int
    line: int
    reason: str
    kind: Kind
    sequence: int | None
    lines: int
    checksum: int

    @property
    def run_id(self) -> str:
        """ID of the run that the journal belongs to."""
        return self.journal.parent.name

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Key that identifies this damage in acknowledgements."""
        return (f"{self.run_id}/{self.journal.name}", self.kind, self.byte, self.checksum)


def known_damage(connection: duckdb.DuckDBPyConnection, folder: Path, run_id: str | None = None) -> tuple[BadLine, ...]:
    """Unacknowledged damage of one run, or of all runs, recorded in the database.

    Args:
        connection: the database.
        folder: the store that holds the journals.
        run_id: the run; None for all runs.
    """
    rows = connection.execute(_KNOWN, {"run": run_id}).fetchall()
    found = [BadLine(folder / "journals" / str(journal), *rest) for journal, *rest in rows]
    acknowledged: frozenset[tuple[str, str, int, int]] = DamageFile(folder).acknowledged() if found else frozenset()
    return tuple(one for one in found if one.key not in acknowledged)


_KNOWN = """
SELECT journal, byte, line, reason, kind, sequence, lines, checksum
FROM unreadable_lines
WHERE NOT acknowledged AND ($run IS NULL OR starts_with(journal, $run || '/'))
ORDER BY journal, byte, kind
"""


def describe(lines: Sequence[BadLine]) -> str:
    """Message about at least one bad line: the run, the place, the reason and the remedy."""
    first = lines[0]
    place = f"{first.journal}, line {first.line} (byte {first.byte})"
    if len(lines) == 1:
        more = f" ({first.lines} lines)" if first.lines > 1 else ""
    else:
        counts = Counter[str]()
        for one in lines:
            counts[one.kind] += one.lines
        more = f" and {len(lines) - 1} more places ({', '.join(f'{_WORDS[k]}: {n}' for k, n in counts.items())})"
    return (
        f"the journal of run {first.run_id} is damaged: {place}{more}: {first.reason}. All sound lines were loaded; "
        f"`FROM unreadable_lines` lists the places. Put the journal back from a copy, or go on without: "
        f"`simkit doctor --acknowledge {first.run_id}`"
    )


def describe_runs(lines: Sequence[BadLine]) -> tuple[str, ...]:
    """One message per damaged run; runs beyond the first `SHOWN` are only counted."""
    runs: dict[str, list[BadLine]] = {}
    for line in lines:
        runs.setdefault(line.run_id, []).append(line)
    said = tuple(map(describe, list(runs.values())[:SHOWN]))
    more = len(runs) - SHOWN
    return said if more <= 0 else (*said, f"{more} more runs of this store are damaged: `FROM unreadable_lines`")


class DamageFile:
    """The store's `damage.jsonl`.

    Args:
        folder: the store.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._folder = folder

    def found(self) -> tuple[BadLine, ...]:
        """Damage recorded only in this file."""
        return tuple(self._bad_line(each) for each in self._entries("found"))

    def acknowledged(self) -> frozenset[tuple[str, str, int, int]]:
        """Keys of acknowledged damage."""
        return frozenset(self._bad_line(each).key for each in self._entries("acknowledged"))

    def open(self, run_id: str | None = None) -> tuple[BadLine, ...]:
        """Unacknowledged damage recorded only in this file."""
        acknowledged = self.acknowledged()
        found = {one.key: one for one in self.found() if run_id in (None, one.run_id)}
        return tuple(one for key, one in found.items() if key not in acknowledged)

    def keep(self, bad: Iterable[BadLine]) -> None:
        """Record damage that was found.

        Raises:
            OSError: the file cannot be written.
        """
        self._append("found", bad)

    def acknowledge(self, bad: Iterable[BadLine]) -> None:
        """Record damage as acknowledged.

        Raises:
            OSError: the file cannot be written.
        """
        self._append("acknowledged", bad)

    def forget(self, run_id: str) -> None:
        """Record that a run was deleted: what was known about its journals no longer counts.

        Raises:
            OSError: the file cannot be written.
        """
        if self.path.exists():
            self._write(orjson.dumps({"deleted": run_id, "at": time.time()}) + b"\n")

    def _append(self, what: str, bad: Iterable[BadLine]) -> None:
        self._write(b"".join(orjson.dumps({what: _plain(one), "at": time.time()}) + b"\n" for one in bad))

    def _write(self, data: bytes) -> None:
        if not data:
            return
        file = open_private(self.path, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(file).st_size
            torn = size and os.pread(file, 1, size - 1) != b"\n"  # a killed process, or a power cut
            os.write(file, b"\n" + data if torn else data)
            os.fsync(file)
        finally:
            os.close(file)

    def _entries(self, what: str) -> list[dict[str, Any]]:
        try:
            data = self.path.read_bytes()
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        for line in data.split(b"\n"):
            try:
                noted = cast("dict[str, Any]", orjson.loads(line))
                if (deleted := noted.get("deleted")) is not None:
                    found = [each for each in found if each["journal"].partition("/")[0] != deleted]
                    continue
                entry = noted.get(what)
                if isinstance(entry, dict) and cast("dict[str, Any]", entry)["kind"] in get_args(Kind):
                    found.append(cast("dict[str, Any]", entry))
            except (orjson.JSONDecodeError, AttributeError, KeyError):
                continue  # a torn line: its damage will be found again, or was never acknowledged
        return found

    def _bad_line(self, entry: Mapping[str, Any]) -> BadLine:
        return BadLine(self._folder / "journals" / str(entry["journal"]), **{name: entry[name] for name in FIELDS})


def _plain(one: BadLine) -> dict[str, Any]:
    return {"journal": one.key[0], **{name: getattr(one, name) for name in FIELDS}}
