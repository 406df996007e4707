"""Viewers that watch a store, so that a run can tell where to look.

A viewer keeps a file with its address locked while it serves. The file stands outside the store, which a viewer never
writes, in a folder that only this user can write to.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

LONGEST = 500
"""Maximum bytes of an address."""


@contextmanager
def announced(store: Path, address: str) -> Generator[None]:
    """Let runs that are recorded in a store say that it can be watched at an address, for as long as this is open.

    Nothing is said where no such file can be kept, or where another viewer of the store has said it already.
    """
    place = _place(store)
    try:
        folder = place.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600) if _is_own(folder) else None
    except OSError:
        file = None
    if file is None:
        yield
        return
    try:
        with suppress(OSError):  # another viewer has it, or there are no locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(file, 0)
            os.write(file, address.encode())
        yield
    finally:
        os.close(file)


def watched_at(store: Path) -> str | None:
    """Address of a viewer that watches a store now; None if there is none."""
    place = _place(store)
    try:
        if not _is_own(place.parent):
            return None
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        address = os.read(file, LONGEST).decode(errors="replace")
        return address if address.startswith("http://") and address.isprintable() else None
    except OSError:
        return None
    else:
        return None  # its viewer has ended
    finally:
        os.close(file)


def _place(store: Path) -> Path:
    name = blake2b(os.fsencode(store.resolve()), digest_size=12).hexdigest()
    return Path(tempfile.gettempdir()) / f"simkit-viewers-{os.getuid()}" / name


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's alone to write to."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
