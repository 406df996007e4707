"""Prompts: text files with placeholders, shipped with a component or provided by the user.

A placeholder is a name in double braces, `{{tools}}`; single braces, dollar signs and percent signs have no meaning, so
a prompt may contain JSON. The version of a shipped prompt is in its name (`react-1.txt`): a changed wording gets a new
number, so that runs with the same prompt name used the same text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from simkit.errors import UsageError

_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's text, with the name of its file."""

    name: str
    text: str

    @property
    def places(self) -> frozenset[str]:
        """Names of its placeholders."""
        return frozenset(_PLACE.findall(self.text))

    def fill(self, **values: str) -> str:
        """The text with every placeholder filled; consecutive empty lines left by an empty value become one.

        Raises:
            UsageError: a placeholder has no value; the message lists those that have one.
        """
        if missing := self.places - values.keys():
            raise UsageError(
                f"the prompt {self.name} has a place {{{{{min(missing)}}}}} that nothing fills; it may have:"
                f" {', '.join(sorted(values))}"
            )
        filled = _PLACE.sub(lambda place: values[place[1]].strip(), self.text)
        return re.sub(r"\n{3,}", "\n\n", filled).strip()


@cache
def shipped_prompt(package: str, name: str) -> Prompt:
    """A prompt that comes with a component: the file `prompts/<name>` of its package."""
    return Prompt(name, files(package).joinpath("prompts", name).read_text(encoding="utf-8"))


def read_prompt(path: str | Path, needed: tuple[str, ...] = ()) -> Prompt:
    """A user's own prompt.

    Raises:
        UsageError: the file cannot be read as text, or lacks a required placeholder.
    """
    try:
        prompt = Prompt(str(path), Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the prompt {path} cannot be read: {error}; give the path of a text file") from error
    for name in needed:
        if name not in prompt.places:
            raise UsageError(f"the prompt {path} has no place {{{{{name}}}}}; write it where the {name} belong")
    return prompt
