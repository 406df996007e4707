"""Another process that holds a store's database, as a notebook or the DuckDB shell does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(database: Path, *, read_only: bool) -> Generator[None]:
    """Hold a database in another process, which has opened it when the block begins and has closed it at its end."""
    mode = "read" if read_only else "write"
    arguments = [sys.executable, "-c", _HOLD, str(database), mode]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            if holder.stdout.readline() != "held\n":
                raise RuntimeError(f"{database} could not be held by another process")
            yield
        finally:
            holder.communicate("")
