"""Access to a store's files: private to the owner, or to the group of a shared store. Links are never followed.

A store holds conversations. Its folders have mode 0700 and its files 0600, whatever the umask. A shared store (0770 and
0660) is recognized by its folder: the group may write, and new files inherit the folder's group (setgid).
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

PRUNED = ".pruned"
"""Folder of a store's runs that are being deleted; see `simkit.store.pruning`."""

UNSYNCED = (errno.EINVAL, errno.EROFS, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)
"""Error codes of file systems that do not support syncing, or are read-only and have nothing to sync."""


def make_store(path: Path, *, shared: bool = False) -> None:
    """Create the folder of a store; missing parent folders get default permissions. `shared` opens it to its group.

    Raises:
        UsageError: DuckDB cannot open a database at this path.
        OSError: the folder cannot be created, or the path is a file.
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
    """Create a folder inside a store; it is shared if its parent is.

    Raises:
        OSError: the folder cannot be created, or the folder or the `journals` folder above it is a link.
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
    """Whether a folder is shared with its group (group-writable and setgid)."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def open_private(path: Path, flags: int) -> int:
    """Open a file of a store, creating it if it does not exist; returns its descriptor.

    Raises:
        OSError: the file cannot be opened, or is a link.
    """
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE)
    except FileExistsError:
        return open_plain(path, flags | os.O_CREAT)
    os.fchmod(file, _file_mode(path.parent))
    return file


def open_plain(path: Path, flags: int) -> int:
    """Open an existing file without following links; returns its descriptor.

    Raises:
        OSError: the file cannot be opened, or is a link.
    """
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, IS_A_LINK, str(path)) from None
        raise


def refuse_link(path: Path) -> None:
    """Raise an error if a path is a link.

    Raises:
        OSError: the path is a link.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, IS_A_LINK, str(path))


def being_deleted(store: Path) -> bool:
    """Whether a store has runs whose deletion was begun and not finished."""
    try:
        return bool(os.listdir(store / PRUNED))
    except FileNotFoundError:
        return False


def keep_private(path: Path) -> None:
    """Set the mode of the store's files on a file that another library created."""
    with suppress(OSError):  # the file was deleted, or belongs to another user
        mode = _file_mode(path.parent)
        if stat.S_IMODE(path.lstat().st_mode) != mode and not path.is_symlink():
            path.chmod(mode)


def _file_mode(folder: Path) -> int:
    return SHARED_FILE if is_shared(folder) else FILE


def exposure(path: Path) -> str | None:
    """Warning that other users can read a store, with the command that prevents it; None if the store is private."""
    mode = stat.S_IMODE(path.stat().st_mode)
    private = OTHERS if is_shared(path) else GROUP_AND_OTHERS
    if not mode & private & 0o055:
        return None
    who, change = ("everybody", "o-rwx") if mode & 0o005 else ("its group", "g-rwx,o-rwx")
    change = change if is_shared(path) else "go-rwx"
    return f"{who} on this machine may look into {path} (mode {mode:04o}): `chmod -R {change} {path}` makes it private"


def check_place(path: Path) -> None:
    """Refuse paths that DuckDB would misinterpret.

    Raises:
        UsageError: the path is one of them.
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
    """A private temporary folder for files that DuckDB reads or writes, deleted on exit.

    Raises:
        StoreError: the folder cannot be created, or DuckDB would misinterpret its path.
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
"""Seconds between attempts: a reader that checks for a writer holds the lock only for microseconds."""


def lock_for_writing(file: int) -> None:
    """Lock an open journal against a second writer until it is closed.

    Raises:
        BlockingIOError: another process, or another descriptor of this process, has locked it.
    """
    for pause in PAUSES:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_open_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one at this path: not deleted, moved or replaced."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


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
    except OSError:  # the file system does not support locks
        return False
    else:
        return False
    finally:
        os.close(file)


def sync_folders(journal: Path) -> None:
    """Flush the directory entries of a journal, its run's folder, `journals` and the store to disk, where possible.

    Folders that cannot be read or synced are skipped; the file itself is synced in any case.
    """
    for folder in list(journal.parents)[:4]:
        try:
            place = os.open(folder, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(place)
        except OSError as error:
            if error.errno not in UNSYNCED:
                raise
        finally:
            os.close(place)
