"""`simkit components`: lists the components that flags can name, with a line about each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

from simkit.cli.output import say, say_json
from simkit.cli.tables import print_table
from simkit.components.world import WORLD
from simkit.core.text_table import Column, Table
from simkit.errors import SimkitError
from simkit.models.provider import PROVIDER, Provider
from simkit.plugins.loading import ComponentKind, available, find_class
from simkit.plugins.recipe import GROUP, load_recipe
from simkit.run.casting import AGENT, REWARD, USER


@dataclass(frozen=True, slots=True)
class ComponentRow:
    """A component that flags can name; `error` is the reason why an installed one cannot be used."""

    kind: str
    name: str
    about: str = ""
    error: str | None = None


def components(as_json: bool) -> None:
    """Print what is installed: worlds, agents, users, rewards, models and recipes."""
    rows = list(_installed())
    if as_json:
        say_json([asdict(row) for row in rows])
        return
    columns = (Column("kind"), Column("name"), Column("what it is", shorten=True))
    print_table(Table(columns, tuple((row.kind, row.name, row.about or f"error: {row.error}") for row in rows)))
    say("Name your own as path/to/file.py:NAME or package.module:NAME; options follow after commas: NAME,key=value.")


def _installed() -> Iterator[ComponentRow]:
    for kind in cast("tuple[ComponentKind[Any], ...]", (WORLD, AGENT, USER, REWARD, PROVIDER)):
        for name in available(kind.group):
            noun = "model" if kind is PROVIDER else kind.noun
            try:
                found = find_class(kind, name)
                argument = f"/{found.argument}" if issubclass(found, Provider) else ""
                yield ComponentRow(noun, name + argument, _first_sentence(found))
            except SimkitError as error:  # the package cannot be loaded
                yield ComponentRow(noun, name, error=str(error))
    for name in available(GROUP):
        try:
            yield ComponentRow("recipe", name, load_recipe(name).title)
        except SimkitError as error:
            yield ComponentRow("recipe", name, error=str(error))


def _first_sentence(component: type[object]) -> str:
    text = " ".join((inspect.getdoc(component) or "(not described)").partition("\n\n")[0].split())
    sentence, stop, _ = text.partition(". ")
    return sentence + stop.strip()
