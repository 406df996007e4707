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
from typing import Literal, TypeAlias

from simkit.errors import UsageError, reason

COMPACT = "compact"
"""Name of the shipped prompts in few words, for models with small contexts."""

MINIMAL = "minimal"
"""Name of the shipped prompts for models that were trained in a task and need no explanation of it."""

PromptChoice: TypeAlias = Path | Literal["compact", "minimal"] | None
"""Option of a component: None for its usual prompt, `compact` or `minimal` for a shorter one, or the path of a file."""

_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's text, with the name of its file; `exact` if its white space counts, as in other people's prompts."""

    name: str
    text: str
    exact: bool = False

    @property
    def places(self) -> frozenset[str]:
        """Names of its placeholders."""
        return frozenset(_PLACE.findall(self.text))

    def fill(self, **values: str) -> str:
        """The text with every placeholder filled; unless it is exact, empty lines left by an empty value become one.

        Raises:
            UsageError: a placeholder has no value; the message lists those that have one.
        """
        if missing := self.places - values.keys():
            raise UsageError(
                f"the prompt {self.name} has a place {{{{{min(missing)}}}}} that nothing fills; it may have:"
                f" {', '.join(sorted(values))}"
            )
        if self.exact:
            return _PLACE.sub(lambda place: values[place[1]], self.text)
        filled = _PLACE.sub(lambda place: values[place[1]].strip(), self.text)
        return re.sub(r"\n{3,}", "\n\n", filled).strip()


@cache
def shipped_prompt(package: str, name: str) -> Prompt:
    """A prompt that comes with a component: the file `prompts/<name>` of its package."""
    return Prompt(name, files(package).joinpath("prompts", name).read_text(encoding="utf-8"))


def choose_prompt(package: str, file: str, chosen: PromptChoice, needed: tuple[str, ...] = ()) -> Prompt:
    """The prompt of a component.

    Args:
        package: the package that ships the component's prompts.
        file: name of its usual prompt, such as `react-1.txt`.
        chosen: None for the usual prompt, `compact` for the shipped one in few words, `minimal` for the one for models
            that were trained for it, otherwise the path of a file.
        needed: placeholders of which a user's own file must have one.

    Raises:
        UsageError: the file cannot be read as text, or lacks a required placeholder; or no such prompt is shipped.
    """
    if chosen is None:
        return shipped_prompt(package, file)
    if chosen not in (COMPACT, MINIMAL):
        return read_prompt(chosen, needed, f", or `{COMPACT}` for the shipped one in few words")
    name, _, version = file.rpartition("-")
    try:
        return shipped_prompt(package, f"{name}-{chosen}-{version}")
    except FileNotFoundError:
        raise UsageError(
            f"there is no {chosen} form of the prompt {file}; leave the option `prompt` out, or give the path of a file"
        ) from None


def read_prompt(path: str | Path, needed: tuple[str, ...] = (), otherwise: str = "") -> Prompt:
    """A user's own prompt; it must have one of the needed placeholders. `otherwise` ends the advice of the error.

    Raises:
        UsageError: the file cannot be read as text, or lacks a required placeholder.
    """
    try:
        prompt = Prompt(str(path), Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the prompt {path} cannot be read: {reason(error)}; give the path of a text file{otherwise}"
        ) from error
    if needed and prompt.places.isdisjoint(needed):
        places = " or ".join(f"{{{{{name}}}}}" for name in needed)
        raise UsageError(f"the prompt {path} has no place {places}; write it where the {needed[0]} belong")
    return prompt
