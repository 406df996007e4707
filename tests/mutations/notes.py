"""The fate of each mutant of a room, noted at once, so that a command that was cut off goes on where it stopped.

The notes are a file of JSON lines, `.mutations/ROOM.jsonl` in the project. A verdict holds for the very files that it
was found with: sources, tests and everything else in the private copy.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from mutants import Mutant
from trials import Fate, Verdict

FOLDER = ".mutations"


def state_of(copy: Path) -> str:
    """The digest of all files of a project, and of the Python that runs them."""
    found = hashlib.sha256(sys.version.encode())
    for path in sorted(path for path in copy.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        for part in (str(path.relative_to(copy)).encode(), path.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Notes:
    """The verdicts that are known from earlier runs of a room.

    Attributes:
        path: the file of notes.
        state: of the project now.
        going_on: verdicts of a run with the same files that was cut off, by mutant.
        last: the fate of each mutant when it was run last, whatever the tests were then.
        alike: the same by place (`place_of`), for mutants of files that have changed elsewhere since.
    """

    path: Path
    state: str
    going_on: dict[str, Verdict] = field(default_factory=dict[str, Verdict])
    last: dict[str, Fate] = field(default_factory=dict[str, Fate])
    alike: dict[str, Fate] = field(default_factory=dict[str, Fate])

    @classmethod
    def read(cls, root: Path, room: str, state: str) -> Notes:
        """The notes of a room; lines that are not whole are passed over."""
        notes = cls(root / FOLDER / f"{room}.jsonl", state)
        for line in _lines(notes.path):
            notes._add(line)
        return notes

    def _add(self, line: dict[str, Any]) -> None:
        if line.get("finished") and line.get("state") == self.state:
            self.going_on.clear()
        if line.get("fate") not in get_args(Fate):
            return
        name, verdict = str(line.get("mutant")), Verdict(line["fate"], str(line.get("by", "")))
        self.last[name] = verdict.fate
        if "place" in line:
            self.alike[str(line["place"])] = verdict.fate
        if line.get("state") == self.state and verdict.fate != "not run":
            self.going_on[name] = verdict

    def settled(self, mutant: Mutant, *, listed: bool) -> bool:
        """Whether a mutant was noticed when it was run last, or survived and is listed.

        In a file that has changed since, the same change of the same lines of the same function counts as the mutant.
        """
        fate = self.last.get(name_of(mutant), self.alike.get(place_of(mutant)))
        return fate in ("killed", "timed out") or (listed and fate == "survived")

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Note a verdict."""
        names = {"mutant": name_of(mutant), "place": place_of(mutant)}
        self._write({**names, "fate": verdict.fate, "by": verdict.by})

    def finish(self) -> None:
        """Note that all mutants have been run, so that the next run begins from the start."""
        self._write({"finished": True})

    def _write(self, line: dict[str, Any]) -> None:
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"state": self.state, **line}) + "\n")


def name_of(mutant: Mutant) -> str:
    """What a mutant is called in the notes: the digest of its file."""
    return hashlib.sha256(f"{mutant.path}\0".encode() + mutant.source).hexdigest()


def place_of(mutant: Mutant) -> str:
    """What a mutant is called in the notes of any version of its file: the digest of what is changed."""
    return hashlib.sha256("\0".join((*mutant.key, str(mutant.nth))).encode()).hexdigest()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for text in path.read_text("utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            line: Any = json.loads(text)
            if isinstance(line, dict):
                yield line
