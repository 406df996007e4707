"""Errors as a person reads them: one block on stderr, no traceback unless `SIMKIT_DEBUG` asks for it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager

import typer

from simkit.errors import SimkitError, UsageError


@contextmanager
def readable_errors() -> Generator[None]:
    """Turn what is raised inside into a message and an exit code: 2 for the caller's mistakes, 1 for the rest."""
    try:
        yield
    except (SimkitError, ExceptionGroup) as error:
        from simkit.engine import sole_error

        cause = sole_error(error) if isinstance(error, ExceptionGroup) else error
        _debug(error)
        _print(cause, known=isinstance(cause, SimkitError))
        raise typer.Exit(2 if isinstance(cause, UsageError) else 1) from error


@contextmanager
def readable_bugs() -> Generator[None]:
    """The same for errors nobody foresaw, e.g. in a user's recipe: where it happened, and how to see more."""
    with readable_errors():
        try:
            yield
        except (SimkitError, ExceptionGroup, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            _debug(error)
            _print(error, known=False)
            raise typer.Exit(1) from error


def _debug(error: Exception) -> None:
    if os.environ.get("SIMKIT_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)


def _print(error: Exception, *, known: bool) -> None:
    text = str(error) if known else f"{_place(error)}{type(error).__name__}: {error} (SIMKIT_DEBUG=1 shows more)"
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(text, err=True)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
