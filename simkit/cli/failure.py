"""Readable errors: one block on stderr, without a traceback unless `SIMKIT_DEBUG` is set."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Generator
from contextlib import contextmanager

import typer

from simkit.cli.output import BROKEN_PIPE, DIM, ERROR, PLAIN, say, say_pieces
from simkit.errors import OutputLost, SimkitError, UsageError

PATH_ERRORS = frozenset(
    (
        errno.EACCES,
        errno.EEXIST,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    )
)
"""Error numbers that concern the given path."""


@contextmanager
def readable_errors() -> Generator[None]:
    """Turn errors raised inside into a message and an exit code: 2 for the caller's mistakes, 1 for the rest."""
    try:
        yield
    except OutputLost as error:
        if not error.broken_pipe:
            _print(error, known=True)
        raise typer.Exit(BROKEN_PIPE if error.broken_pipe else 1) from error
    except (SimkitError, ExceptionGroup) as error:
        from simkit.run.engine import sole_error

        cause = sole_error(error) if isinstance(error, ExceptionGroup) else error
        _debug(error)
        _print(cause, known=isinstance(cause, SimkitError))
        raise typer.Exit(2 if isinstance(cause, UsageError) else 1) from error
    except OSError as error:
        if error.errno not in PATH_ERRORS or error.filename is None:
            raise
        _debug(error)
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
        text = f"{_shortened(path)} cannot be used: {error.strerror}; name another path, or change its permissions"
        _print(UsageError(text), known=True)
        raise typer.Exit(2) from error


@contextmanager
def readable_bugs() -> Generator[None]:
    """Like `readable_errors`, but also for unexpected errors, such as those in a user's recipe, with their location."""
    with readable_errors():
        try:
            yield
        except (SimkitError, ExceptionGroup, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            _debug(error)
            _print(error, known=False)
            raise typer.Exit(1) from error


def unexpected(error: Exception) -> int:
    """Print an unexpected error with its traceback for a bug report; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _print(SimkitError(f"not everything could be printed: {error.strerror}"), known=True)
        return 1
    say("".join(traceback.format_exception(error)), err=True, end="")
    return 1


def _shortened(path: str, most: int = 200) -> str:
    return path if len(path) <= most else f"{path[:most]}... ({len(path)} characters)"


def _debug(error: Exception) -> None:
    if os.environ.get("SIMKIT_DEBUG", "0") not in ("", "0"):
        say("".join(traceback.format_exception(error)), err=True, end="")


def print_traceback(error: BaseException) -> None:
    """Print where the code of a component, recipe or search raised an error; nothing if it was not raised there."""
    from simkit.core.tracebacks import traceback_of  # imports anyio, which --help does not need

    trace = traceback_of(error)
    if trace:
        say(trace, DIM, err=True)


def _print(error: BaseException, *, known: bool) -> None:
    from simkit.core.boundary import described
    from simkit.core.tracebacks import own_place

    place = "" if known else own_place(error)
    text = str(error) if known else f"{described(error)} (SIMKIT_DEBUG=1 shows more)"
    say_pieces(("error: ", ERROR), (f"{place}: {text}" if place else text, PLAIN), err=True)
    print_traceback(error)
