"""Places of files that a command was asked to write, checked before any work is done.

A file is written into a folder that exists. A folder that was asked for is made, but not those above it: a mistyped
path would leave new folders behind, and the result where nobody looks for it.
"""

from __future__ import annotations

from pathlib import Path

from simkit.errors import UsageError


def check_out_file(path: Path, endings: tuple[str, ...] = ()) -> None:
    """Check that a file can be written.

    Args:
        path: the file.
        endings: extensions that it may have; by default any.

    Raises:
        UsageError: another extension, a folder that does not exist, or a folder in the place of the file.
    """
    if endings and path.suffix not in endings:
        known = " or ".join(endings)
        raise UsageError(f"{path} has the extension {path.suffix!r}; name a file that ends in {known}")
    check_above(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another file") from error


def check_out_folder(path: Path) -> None:
    """Check that files can be written into a folder, which may not exist yet.

    Raises:
        UsageError: the folder above it does not exist, or it is a file.
    """
    check_above(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; name a folder")


def check_above(path: Path) -> None:
    """Check that the folder of a file or folder exists.

    Raises:
        UsageError: it does not, or is a file.
    """
    if path.parent.is_file():
        raise UsageError(f"{path.parent} is a file, so {path.name} cannot be in it; write it elsewhere")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; create it, or write {path.name} elsewhere")
