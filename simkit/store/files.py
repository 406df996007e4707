"""The files of a store: private to their owner, or to the group of a shared store, and never behind a planted link.

A store holds conversations. Its folders are made with mode 0700 and its files with 0600, whatever the umask. A shared
store (0770 and 0660) is known by its folder: the group may write, and new files take the folder's group (setgid).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from simkit.errors import StoreError, UsageError

FOLDER, SHARED_FOLDER = 0o700, 0o2770
FILE, SHARED_FILE = 0o600, 0o660
OTHERS = 0o007
GROUP_AND_OTHERS = 0o077

IS_A_LINK = "it is a link, and a store follows none: remove it, or move the whole store"


def make_store(path: Path, *, shared: bool = False) -> None:
    """Make the folder of a store, and the ones above it as any program does; `shared` opens it to its group.

    Raises:
        UsageError: DuckDB cannot open a database at a path like that.
        OSError: it cannot be made, or is a file.
    """
    check_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise
        if shared:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | SHARED_FOLDER)
    else:
        path.chmod(SHARED_FOLDER if shared else FOLDER)


def make_folder(path: Path) -> None:
    """Make a folder inside a store, shared as the folder above it is.

    Raises:
        OSError: it cannot be made, or it or the folder of all journals above it is a link.
    """
    if path.parent.name == "journals":
        refuse_link(path.parent)
    try:
        path.mkdir(FOLDER)
    except FileExistsError:
        refuse_link(path)
    except FileNotFoundError:
        make_folder(path.parent)
        make_folder(path)
    else:
        path.chmod(SHARED_FOLDER if is_shared(path.parent) else FOLDER)


def is_shared(folder: Path) -> bool:
    """Whether a folder was opened to its group on purpose."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def open_private(path: Path, flags: int) -> int:
    """Open a file of a store that is made when it is not there; returns its descriptor.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE)
    except FileExistsError:
        return open_plain(path, flags | os.O_CREAT)
    os.fchmod(file, _file_mode(path.parent))
    return file


def open_plain(path: Path, flags: int) -> int:
    """Open a file that is there, unless it is a link.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, IS_A_LINK, str(path)) from None
        raise


def refuse_link(path: Path) -> None:
    """Complain about a link.

    Raises:
        OSError: it is one.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, IS_A_LINK, str(path))


def keep_private(path: Path) -> None:
    """Give a file that another library has made the mode of a store's files."""
    with suppress(OSError):  # it is gone again, or somebody else's
        mode = _file_mode(path.parent)
        if stat.S_IMODE(path.lstat().st_mode) != mode and not path.is_symlink():
            path.chmod(mode)


def _file_mode(folder: Path) -> int:
    return SHARED_FILE if is_shared(folder) else FILE


def exposure(path: Path) -> str | None:
    """Who else may look into a store, and how to change it; None when nobody may."""
    mode = stat.S_IMODE(path.stat().st_mode)
    private = OTHERS if is_shared(path) else GROUP_AND_OTHERS
    if not mode & private & 0o055:
        return None
    who, change = ("everybody", "o-rwx") if mode & 0o005 else ("its group", "g-rwx,o-rwx")
    change = change if is_shared(path) else "go-rwx"
    return f"{who} on this machine may look into {path} (mode {mode:04o}): `chmod -R {change} {path}` makes it private"


def check_place(path: Path) -> None:
    """Refuse paths that the database library reads as something else.

    Raises:
        UsageError: it would.
    """
    whole = os.path.realpath(path)
    for sign in ("?", "\\"):
        if sign in whole:
            raise UsageError(f"{path} cannot be a store: DuckDB opens no file with `{sign}` in its path; name another")
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path} cannot be a store: its path is not UTF-8; name another folder") from None


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A private temporary folder for files that DuckDB is to read or write.

    Raises:
        StoreError: it cannot be made, or DuckDB would read its name as something else.
    """
    try:
        place = os.path.realpath(tempfile.gettempdir())
        if any(sign in place for sign in "?*[\\") or not place.isprintable():
            raise StoreError(f"{place} cannot hold temporary files that DuckDB reads; let TMPDIR name another folder")
        folder = tempfile.TemporaryDirectory(prefix="simkit-", dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        raise StoreError(
            f"no temporary folder can be made: {error}; let TMPDIR name one that can be written"
        ) from error
    with folder as path:
        yield Path(path)


PAUSES = (0.002, 0.01, 0.05)
"""Seconds between tries: a reader that looks whether there is a writer holds the lock for microseconds."""


def lock_for_writing(file: int) -> None:
    """Lock an open journal against a second writer, until it is closed.

    Raises:
        BlockingIOError: another process, or this one by another descriptor, is writing it.
    """
    for pause in PAUSES:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_written_to(journal: Path) -> bool:
    """Whether a process has the journal open for writing."""
    try:
        file = open_plain(journal, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks tells nobody
        return False
    else:
        return False
    finally:
        os.close(file)
