"""The command line: `simkit`, also `python -m simkit`. Every command is also in the Python API."""

from __future__ import annotations


def main() -> None:
    """Run the command line with this process's arguments and exit with its code (0, 1, 2 or 130)."""
    from simkit.cli.app import app

    app(prog_name="simkit")
