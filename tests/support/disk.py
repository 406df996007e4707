"""A disk under a folder: what a power cut may leave of files that Python code writes, renames and deletes.

The model is that of POSIX, which promises little. Bytes of a file are on the disk once the file was synced. A change of
a directory (a new name, a rename, a deletion) is there once the directory was synced; until then any of the changes may
be lost, but for those that another one that stayed depends on. `watched` follows a folder, and keeps a `Moment` before
each step at which the power may fail; `Moment.cut` writes one possible outcome to another folder.

Files whose names begin with `synced` belong to a library that syncs by itself (DuckDB): their bytes count as on the
disk, and their names too, unless Python code renames them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeAlias
from unittest.mock import patch

Name: TypeAlias = tuple[int, str]
"""A name in a directory: the number of the directory, and the name."""

STEPS = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir")
"""Functions of `os` before which the power may fail."""


@dataclass(frozen=True, slots=True)
class Change:
    """Names that change together: to what each of them leads now, by number; None if it is gone."""

    names: Mapping[Name, int | None]

    def touches(self, directory: int) -> bool:
        """Whether a name in this directory changes."""
        return any(place == directory for place, _ in self.names)


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of a folder before a step.

    Attributes:
        step: the step that comes next.
        top: the number of the folder.
        names: the names that are on the disk.
        changes: changes of names that may be on the disk, in the order in which they were made.
        files: the bytes of each file, by number.
        synced: those that are on the disk.
    """

    step: str
    top: int
    names: Mapping[Name, int]
    changes: Sequence[Change]
    files: Mapping[int, bytes]
    synced: Mapping[int, bytes]

    def cut(self, target: Path, random: Random) -> None:
        """Write what a power cut at this moment may leave; `target` must not exist."""
        share = random.random()
        self._write(target, self._names(lambda _: random.random() < share), lambda file: self._some(file, random))

    def least(self, target: Path) -> None:
        """Write what is on the disk for sure."""
        self._write(target, self.names, lambda file: self.synced.get(file, b""))

    def newest(self, target: Path) -> None:
        """Write what is left when of all that is uncertain the newest change of names alone is on the disk."""
        last = self.changes[-1:]
        self._write(target, self._names(lambda change: change in last), lambda file: self.synced.get(file, b""))

    def names_only(self, target: Path) -> None:
        """Write what is left when all names are on the disk, but only those bytes that were synced."""
        self._write(target, self._names(lambda _: True), lambda file: self.synced.get(file, b""))

    def whole(self, target: Path) -> None:
        """Write everything, as after a killed process."""
        self._write(target, self._names(lambda _: True), lambda file: self.files[file])

    def _names(self, kept: Callable[[Change], bool]) -> dict[Name, int]:
        """The names with some of the changes; one that follows a lost change of the same name is lost, too."""
        names, lost = dict(self.names), set[Name]()
        for change in self.changes:
            if lost.isdisjoint(change.names) and kept(change):
                for name, number in change.names.items():
                    names.pop(name, None)
                    if number is not None:
                        names[name] = number
            else:
                lost |= change.names.keys()
        return names

    def _some(self, file: int, random: Random) -> bytes:
        """Bytes that a file may have: the synced ones, or more of the new ones, with zeroes in between."""
        new, old = self.files[file], self.synced.get(file, b"")
        if new == old or random.random() < 0.3:
            return old
        kept = bytearray(new[: random.randint(0, len(new))] if random.random() < 0.5 else new)
        if not new.startswith(old):
            return bytes(kept)
        kept[: len(old)] = old
        for start in range(len(old), len(kept), 512):
            if random.random() < 0.3:
                end = min(len(kept), start + 512)
                kept[start:end] = bytes(end - start)
        return bytes(kept)

    def _write(self, target: Path, names: Mapping[Name, int], data: Callable[[int], bytes]) -> None:
        below: dict[int, list[tuple[str, int]]] = {}
        for (place, name), number in names.items():
            below.setdefault(place, []).append((name, number))
        waiting = [(self.top, target)]
        while waiting:
            number, path = waiting.pop()
            if number in self.files:
                path.write_bytes(data(number))
                path.chmod(0o600)
            else:
                path.mkdir(0o700)
                waiting += [(inner, path / name) for name, inner in below.get(number, ())]


@dataclass(slots=True)
class Disk:
    """Follows a folder. Everything in it when it is made counts as on the disk.

    Args:
        folder: the folder.
        synced: how the names of files begin that a library syncs by itself.
    """

    folder: Path
    synced: tuple[str, ...]
    moments: list[Moment] = field(default_factory=list[Moment])
    _open: dict[int, int] = field(default_factory=dict[int, int])
    """An open file for each number, so that the system gives no number twice."""
    _names: dict[Name, int] = field(default_factory=dict[Name, int])
    _durable: dict[Name, int] = field(default_factory=dict[Name, int])
    _changes: list[Change] = field(default_factory=list[Change])
    _files: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _synced: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _own: set[int] = field(default_factory=set[int])
    _top: int = 0

    def __post_init__(self) -> None:
        self._top = self.folder.stat().st_ino
        self._look()
        self._durable, self._changes = dict(self._names), []
        self._synced = dict(self._files)

    def before(self, step: str) -> None:
        """Keep the moment before a step."""
        self._look()
        known = (dict(self._durable), tuple(self._changes), dict(self._files), dict(self._synced))
        self.moments.append(Moment(step, self._top, *known))

    def sync(self, file: int) -> None:
        """Note that an open file, or directory, was synced."""
        number = os.fstat(file).st_ino
        self._look()
        if number in self._files:
            self._synced[number] = self._files[number]
        else:
            self._settle(lambda change: change.touches(number))

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            os.close(file)

    def _look(self) -> None:
        before, self._names = self._names, dict(self._walk(self.folder, self._top))
        self._files = {number: self._bytes(number) for number in self._open if self._is_file(number)}
        self._synced |= {number: self._files[number] for number in self._own}
        for change in _changes(before, self._names):
            self._changes.append(change)
            if len(change.names) == 1 and all(name.startswith(self.synced) for _, name in change.names):
                self._settle(lambda each, change=change: each is change)

    def _walk(self, folder: Path, number: int) -> Iterator[tuple[Name, int]]:
        for entry in sorted(os.scandir(folder), key=lambda each: each.name):
            inner = entry.inode()
            if inner not in self._open:
                self._open[inner] = os.open(entry.path, os.O_RDONLY)
            if entry.name.startswith(self.synced):
                self._own.add(inner)
            yield (number, entry.name), inner
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), inner)

    def _is_file(self, number: int) -> bool:
        return stat.S_ISREG(os.fstat(self._open[number]).st_mode)

    def _bytes(self, number: int) -> bytes:
        return os.pread(self._open[number], os.fstat(self._open[number]).st_size, 0)

    def _settle(self, wanted: Callable[[Change], bool]) -> None:
        """The wanted changes are on the disk, with the earlier ones that they depend on."""
        names, kept = set[Name](), list[Change]()
        for change in reversed(self._changes):
            if wanted(change) or not names.isdisjoint(change.names):
                names |= change.names.keys()
                kept.append(change)
        for change in reversed(kept):
            for name, number in change.names.items():
                self._durable.pop(name, None)
                if number is not None:
                    self._durable[name] = number
        self._changes = [change for change in self._changes if all(change is not each for each in kept)]


def _changes(before: Mapping[Name, int], after: Mapping[Name, int]) -> Iterator[Change]:
    """What changed between two looks; a name that is gone and a new one with the same number were one rename."""
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    moved = {before[name]: name for name in changed if name in before and name not in after}
    for name in changed:
        number = after.get(name)
        if number is not None:
            source = moved.pop(number, None)
            yield Change({name: number} if source is None else {source: None, name: number})
    for source in moved.values():
        yield Change({source: None})


@contextmanager
def watched(folder: Path, synced: tuple[str, ...]) -> Generator[Disk]:
    """Follow a folder; a moment is kept before each step of Python code in this process, and one at the end."""
    disk, inside = Disk(folder, synced), list[int]()

    def step(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched_step(*given: Any, **options: Any) -> Any:
            if inside:
                return work(*given, **options)
            inside.append(1)
            try:
                disk.before(name)
                done = work(*given, **options)
                if name == "fsync":
                    disk.sync(given[0])
                return done
            finally:
                inside.clear()

        return watched_step

    try:
        with ExitStack() as patches:
            for name in STEPS:
                patches.enter_context(patch.object(os, name, step(name, getattr(os, name))))
            yield disk
        disk.before("the end")
    finally:
        disk.close()
