"""Prints tables: on a terminal they fit its width, elsewhere each row is one line of any length."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from simkit.cli.output import BOLD, DIM, PLAIN, say, say_pieces, say_raw
from simkit.core.text_table import GAP, Table


def print_table(table: Table, *, raw: bool = False) -> None:
    """Print a table on stdout, fitted to the width of a terminal; `raw` leaves control characters unescaped."""
    width, table = terminal_width(sys.stdout), table if raw else table.visible()
    fitted = table if width is None else table.fitted(width)
    for number, line in enumerate(fitted.lines()):
        if raw:
            say_raw(line)
        else:
            say(line, {0: BOLD, 1: DIM}.get(number, PLAIN))
    left_out = [column.name for column in table.columns if column not in fitted.columns]
    if left_out:
        note = f"(left out, because the terminal is narrow: {', '.join(left_out)}; --json has everything)"
        say("\n".join(textwrap.wrap(note, width or len(note))), DIM)


def print_blocks(table: Table, *, raw: bool = False) -> None:
    """Print each row as a block of lines `column  value`, for tables wider than the terminal; `raw` as above."""
    table = table if raw else table.visible()
    names = max((cell_len(column.name) for column in table.columns), default=0)
    for number, row in enumerate(table.rows, 1):
        say(f"--- row {number} ---", DIM)
        for column, value in zip(table.columns, row, strict=True):
            if raw:
                say_raw(f"{set_cell_size(column.name, names)}{GAP}{value}".rstrip())
            else:
                say_pieces((set_cell_size(column.name, names), BOLD), (f"{GAP}{value}".rstrip(), PLAIN))


def terminal_width(stream: TextIO) -> int | None:
    """Cells in a line of a terminal (`COLUMNS` takes precedence); None for files and pipes, which have no limit."""
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    try:
        return int(given) if given.isdigit() else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 80
