"""Flags that several commands share, and commands that start or describe themselves in a way of their own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand

StoreFlag = Annotated[
    Path | None,
    typer.Option("--store", envvar="SIMKIT_STORE", help="Folder of the results.", show_default="./simkit-store"),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one machine-readable line instead.")]
RawFlag = Annotated[bool, typer.Option("--raw", help="Print control characters unescaped; they act on your terminal.")]
LongestFlag = Annotated[int | None, typer.Option(min=1, help="Report examples that are longer.")]
OriginFlag = Annotated[
    bool,
    typer.Option(
        "--origin/--no-origin",
        help="Name run, episode, task, model and reward of each row: in a column; for OpenAI's files and results in "
        "NAME.origin.jsonl.",
    ),
]
CleanOfFlag = Annotated[
    list[str] | None, typer.Option(help="Refuse examples of held-out tasks: WORLD:SPLIT, e.g. toolwoz:test.")
]
IncompleteFlag = Annotated[
    bool, typer.Option("--allow-incomplete", help="Use the available data although lines could not be read.")
]
DropHeldOutFlag = Annotated[bool, typer.Option("--drop-held-out", help="Leave those out instead.")]


def quick(options: list[Any]) -> list[Any]:
    """Options that need no conversion when absent, nor paths to a store at all; Typer would import pydantic for both.

    That takes longer than all else that `simkit ls` does.
    """
    for option in options:
        option.process_value = partial(_process, option)
    return options


def _process(option: Any, ctx: Any, value: Any) -> Any:
    if option.name == "store":
        return None if value is None else Path(value)
    if value is None and not option.required and not option.multiple and option.nargs == 1:
        return None if option.callback is None else option.callback(ctx, option, None)
    return cast("Any", type(option)).process_value(option, ctx, value)


class QuickCommand(TyperCommand):
    """A command with quick options."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options."""
        return quick(super().get_params(ctx))


class DataCommand(TyperCommand):
    """The command `data`, whose help lists the worlds that need data."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page; worlds are looked up only here."""
        from simkit.cli.data import worlds_needing_data

        self.epilog = worlds_needing_data()
        super().format_help(ctx, formatter)
