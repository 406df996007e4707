"""Docstrings of tau2-bench's tools: the description of a tool and those of its parameters."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Final

_SECTION: Final = re.compile(
    r"^(Args|Arguments|Parameters|Params|Raises|Exceptions|Except|Attributes|Example|Examples|Returns|Yields):"
    r"[ \t\r\f\v]*$",
    re.MULTILINE,
)
_PARAMETERS: Final = ("Args", "Arguments", "Parameters", "Params")


@dataclass(frozen=True, slots=True)
class Documentation:
    """The description of a tool, and the descriptions of its parameters by name."""

    description: str
    parameters: dict[str, str]


def read_docstring(docstring: str) -> Documentation:
    """The parts of a docstring in Google's style.

    The first line and the rest of the description are separated by an empty line, as the release sends them to models.
    """
    _, *found = _SECTION.split(text := inspect.cleandoc(docstring))
    head = _SECTION.split(text)[0]
    first, _, rest = head.partition("\n")
    parameters: dict[str, str] = {}
    for title, section in zip(found[::2], found[1::2], strict=True):
        if title in _PARAMETERS:
            parameters |= _read_parameters(section.strip("\n"))
    return Documentation("\n\n".join(filter(None, (first, rest.strip()))), parameters)


def _read_parameters(section: str) -> dict[str, str]:
    indent = re.match(r"\s*", section)
    entries = re.split(rf"^{indent.group() if indent else ''}(?=\S)", section, flags=re.MULTILINE)
    pairs = (entry.partition(":") for entry in entries if entry)
    return {name.strip().partition(" ")[0]: _unwrapped(text.removeprefix(" ")) for name, _, text in pairs}


def _unwrapped(text: str) -> str:
    """A description whose further lines are not indented."""
    first, newline, rest = text.partition("\n")
    return f"{first}\n{inspect.cleandoc(rest)}".strip("\n") if newline else text
