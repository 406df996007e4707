"""Help pages that fit a narrow terminal: no flag, value or example is cut."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from typer.core import TyperCommand

NARROW = 100
"""Columns of a terminal below which the columns of the usual tables would cut flags and values."""


class FittingCommand(TyperCommand):
    """A command whose help page on a narrow terminal gives each flag its own line, with the text below it."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        columns = shutil.get_terminal_size().columns
        if columns >= NARROW:
            super().format_help(ctx, formatter)
            return
        formatter.width = max(columns - 2, 40)
        self.format_usage(ctx, formatter)
        for paragraph in _plain(self.help or "").split("\n\n"):
            formatter.write("\n" + "\n".join(_fitted(paragraph, formatter.width)) + "\n")
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                panels.setdefault(panel, []).append((_plain(record[0]), _plain(record[1])))
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records, col_max=24)


def _fitted(paragraph: str, width: int) -> list[str]:
    """A paragraph as lines; the lines of examples stay."""
    lines = paragraph.split("\n")
    if any(line.startswith(" ") for line in lines):
        return [f"  {line}" for line in lines]
    return textwrap.wrap(paragraph, width - 2, initial_indent="  ", subsequent_indent="  ")


def _plain(text: str) -> str:
    """A text without the escapes that keep Rich from reading brackets as markup."""
    return text.replace("\\[", "[")
