"""Docstrings as Markdown: their sections become lists, and their examples become code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
_TITLES = {
    "Args": "Parameters",
    "Attributes": "Attributes",
    "Raises": "Errors",
    "Returns": "Returns",
    "Yields": "Yields",
}
_ENTRY = re.compile(r"^([\w*., /]+?): (.*)$")


def markdown_of(docstring: str) -> str:
    """A docstring in the style of this project as Markdown."""
    return "\n".join(_lines(inspect.cleandoc(docstring).splitlines())).strip()


def _lines(lines: list[str]) -> Iterator[str]:
    section = ""
    for at, line in enumerate(lines):
        if found := _SECTION.match(line):
            section = found[1]
            yield f"\n**{_TITLES.get(section, section)}**\n"
        elif section and line.startswith("    "):
            yield from _entry(line[4:])
        else:
            section = ""
            if _begins_code(lines, at):
                yield ""
            yield line


def _entry(line: str) -> Iterator[str]:
    entry = _ENTRY.match(line)
    if entry and not line.startswith(" "):
        names = ", ".join(f"`{name.strip()}`" for name in entry[1].split(","))
        yield f"- {names}: {entry[2]}"
    else:
        yield f"  {line.strip()}" if line.startswith(" ") else line


def _begins_code(lines: list[str], at: int) -> bool:
    return lines[at].startswith("    ") and at > 0 and bool(lines[at - 1]) and not lines[at - 1].startswith("    ")
