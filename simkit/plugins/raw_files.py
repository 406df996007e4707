"""Raw files of a known release of a data set, read from a folder or from zip files such as wheels.

Files are named by their path in the release. Sources differ in the folders before these paths. Each file is checked by
its SHA-256, so that results belong to a release that has a name.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from posixpath import normpath
from typing import TypeAlias

from simkit.errors import DataCorrupt, DataMissing

Read: TypeAlias = Callable[[str], bytes | None]
"""Reads a file by its path in the release; None if there is none."""


@dataclass(frozen=True, slots=True)
class KnownRelease:
    """A release: its name, its origin in words, and the SHA-256 of each file that is read.

    A file that exists in several forms has all their digests, with bars between them.
    """

    name: str
    origin: str
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The files of one release, all of them checked; `label` says where they come from."""

    release: KnownRelease
    label: str
    files: Mapping[str, bytes]


def folder_reader(folder: Path, bases: Iterable[str]) -> Read:
    """Reads files below the first of the base folders that has them."""

    def read(path: str) -> bytes | None:
        found = next((folder / base / path for base in bases if (folder / base / path).is_file()), None)
        return None if found is None else found.read_bytes()

    return read


def archive_reader(archive: zipfile.ZipFile, bases: Iterable[str]) -> Read:
    """Reads members below the first of the base folders that has them."""
    names = set(archive.namelist())

    def read(path: str) -> bytes | None:
        found = next((name for base in bases if (name := normpath(f"{base}/{path}").lstrip("/")) in names), None)
        return None if found is None else archive.read(found)

    return read


def either(*readers: Read) -> Read:
    """Reads a file from the first of the sources that has it."""

    def read(path: str) -> bytes | None:
        return next((content for reader in readers if (content := reader(path)) is not None), None)

    return read


@contextmanager
def readable(what: str, again: str) -> Generator[None]:
    """Report damaged archives and unreadable files; `again` is the advice for a damaged one.

    Raises:
        DataCorrupt: an archive is damaged.
        DataMissing: a file cannot be read.
    """
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataCorrupt(f"{what} is damaged or cut off ({error}); {again}") from error
    except OSError as error:
        raise DataMissing(f"{what} cannot be read ({error}); check the path and its permissions") from error


def identify(
    read: Read,
    label: str,
    what: str,
    releases: tuple[KnownRelease, ...],
    instead: str,
    named: Callable[[str], str] = str,
) -> RawFiles:
    """The files of the release that they belong to.

    Args:
        read: reads a file.
        label: the source in words.
        what: the data set in words.
        releases: the known releases; the first that fits counts.
        instead: what to do if a file is missing or differs, as the end of a sentence.
        named: a path in words, for messages.

    Raises:
        DataMissing: a file is missing that each of the releases has.
        DataCorrupt: the files are those of no release.
    """
    found = {path: content for path in _paths(releases) if (content := read(path)) is not None}
    digests = {path: sha256(content).hexdigest() for path, content in found.items()}
    wrong = [_wrong(release, digests) for release in releases]
    for release, paths in zip(releases, wrong, strict=True):
        if not paths:
            return RawFiles(release, label, {path: found[path] for path in release.checksums})
    closest, differing = min(zip(releases, wrong, strict=True), key=lambda pair: len(pair[1]))
    missing = [path for path in differing if path not in found]
    if missing:
        raise DataMissing(f"{label} has no {named(missing[0])}{_more(missing)} of {what}; {instead}")
    raise DataCorrupt(
        f"{label} is no release of {what} that simkit knows: {named(differing[0])}{_more(differing)} is not that of "
        f"`{closest.name}`, {closest.origin}, to which it is closest. Known: "
        f"{'; '.join(f'`{release.name}`, {release.origin}' for release in releases)}. Files must be unchanged, line "
        f"ends included; {instead}"
    )


def _paths(releases: Iterable[KnownRelease]) -> list[str]:
    return sorted({path for release in releases for path in release.checksums})


def _wrong(release: KnownRelease, digests: Mapping[str, str]) -> list[str]:
    return [path for path, known in sorted(release.checksums.items()) if digests.get(path, "-") not in known.split("|")]


def _more(paths: list[str]) -> str:
    return f" (and {len(paths) - 1} other files)" if len(paths) > 1 else ""
