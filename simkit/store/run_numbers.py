"""Which start in a store came last: a number that is counted up, because clocks step back."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from simkit.errors import StoreError
from simkit.store.files import open_private
from simkit.store.source import journal_files

FILE = ".starts"


def next_start(folder: Path) -> int:
    """Count one more start of a run in a store.

    The last number is in the file `.starts`. Where that is missing or cannot be read (a store that was copied without
    it) the highest number in the journals is found once more.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        file = open_private(folder / FILE, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = os.pread(file, 32, 0).strip()
            number = int(text) if text.isdigit() else max(_told(folder), default=0)
            os.pwrite(file, b"%20d\n" % (number + 1), 0)
            return number + 1
        finally:
            os.close(file)
    except OSError as error:
        raise StoreError(
            f"{folder / FILE} cannot be written: {error.strerror or error}. Make the store folder writable, or use "
            "another --store"
        ) from error


def _told(folder: Path) -> Iterator[int]:
    """The numbers of the starts that the journals of a store hold."""
    for path in journal_files(folder):
        try:
            with path.open("rb") as lines:
                for line in lines:
                    if line.startswith(b'{"e":"RunStarted",') and (number := _number(line)) is not None:
                        yield number
        except OSError:
            continue  # it is named when it is loaded


def _number(line: bytes) -> int | None:
    try:
        found = orjson.loads(line).get("number")
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, int) else None
