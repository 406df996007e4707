"""Commands of simkit in processes forked from one that has simkit imported, which saves the time of a start.

A test of the start itself (imports, descriptors that were closed before it) needs an interpreter of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

IMPORTED = ("simkit.cli.run", "simkit.cli.show", "simkit.models.run_models", "simkit.store", "support.killing")


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """The folder of a command and its whole environment; those of this process where they are None."""

    folder: Path | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended (a signal is a negative code), and what it printed."""

    code: int | None
    out: str
    err: str


def start_forked(
    arguments: Sequence[str], streams: Sequence[int], options: ProcessOptions | None = None
) -> ForkServerProcess:
    """Start `simkit ARGUMENTS`, with duplicates of three descriptors for its input, output and errors."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    options = options or ProcessOptions()
    folder = str(options.folder or Path.cwd())
    environment = dict(os.environ if options.environment is None else options.environment)
    handed = [Connection(os.dup(stream)) for stream in streams]  # a connection is how multiprocessing hands one over
    process = context.Process(target=_simkit, args=(list(arguments), handed, folder, environment))
    process.start()
    for stream in handed:
        stream.close()
    return process


def run_forked(arguments: Sequence[str], options: ProcessOptions | None = None, patience: float = 120.0) -> Finished:
    """Run `simkit ARGUMENTS` without input until it ends.

    Raises:
        TimeoutError: it did not end within `patience` seconds, and was killed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:
        process = start_forked(arguments, (nothing.fileno(), out.fileno(), err.fileno()), options)
        process.join(patience)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"simkit {' '.join(arguments)} did not end within {patience:g} s")
        printed = [_read(file.fileno()) for file in (out, err)]
        return Finished(process.exitcode, *printed)


def _read(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as opened:
        return opened.read().decode()


def _simkit(arguments: list[str], handed: list[Connection], folder: str, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
    for number, stream in enumerate(handed):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["simkit", *arguments]
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")  # as an interpreter opens them
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    from simkit.cli import main

    main()
