"""The command line: `simkit`, also `python -m simkit`. Every command is also in the Python API."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with this process's arguments and exit with its code (0, 1, 2, 130, 141: broken pipe)."""
    from simkit.cli.output import open_missing_streams

    open_missing_streams()  # before any other file is opened
    from simkit.cli.app import app
    from simkit.cli.failure import unexpected

    try:
        app(prog_name="simkit")
    except Exception as error:
        sys.exit(unexpected(error))
