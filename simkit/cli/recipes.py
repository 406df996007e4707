"""`simkit run RECIPE`: a command per recipe, its flags made from the recipe's own signature when it is named."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import typer.main
from rich.markup import escape
from typer.core import TyperGroup

from simkit.loading import available
from simkit.recipe import GROUP, Recipe, load_recipe

PANEL = "Every run"

COMMON: dict[str, tuple[Any, Any, typer.models.OptionInfo]] = {
    "concurrency": (
        int | None,
        None,
        typer.Option(min=1, envvar="SIMKIT_CONCURRENCY", help="Episodes played at once.", show_default="16"),
    ),
    "seed": (
        int | None,
        None,
        typer.Option(envvar="SIMKIT_SEED", help="The same seed gives the same run.", show_default="0"),
    ),
    "store": (
        Path | None,
        None,
        typer.Option(envvar="SIMKIT_STORE", help="Folder of the results.", show_default="./simkit-store"),
    ),
    "name": (str, "", typer.Option(help="A label for the run, usable wherever a run is named.")),
    "fail_fast": (bool, False, typer.Option("--fail-fast", help="Stop at the first faulted episode (exit 1).")),
    "max_faults": (
        float,
        0.1,
        typer.Option(min=0, max=1, help="Share of faulted episodes above which the run has failed (exit 1)."),
    ),
    "json": (bool, False, typer.Option("--json", help="Print a machine-readable summary as the last line.")),
    "quiet": (bool, False, typer.Option("--quiet", help="No progress and no hints.")),
}


class RecipeGroup(TyperGroup):
    """Knows every installed recipe, and loads any other by path or module."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The installed recipes."""
        return list(available(GROUP))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one recipe."""
        return recipe_command(load_recipe(cmd_name), cmd_name)


def recipe_command(recipe: Recipe, target: str) -> Any:
    """A recipe as a command; `target` is how the user named it."""
    own = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    own.command(target, help=escape(flowing(recipe.help)), short_help=escape(recipe.title))(_callback(recipe))
    return typer.main.get_command(own)


def flowing(text: str) -> str:
    """A docstring with the lines of each paragraph joined, so that they fill whatever terminal there is.

    Paragraphs with an indented line (examples) stay as they are.
    """
    paragraphs = text.split("\n\n")
    return "\n\n".join(one if "\n " in f"\n{one}" else one.replace("\n", " ") for one in paragraphs)


def _callback(recipe: Recipe) -> Callable[..., None]:
    def run(**values: Any) -> None:
        from simkit.cli.run import CommonFlags, execute

        common = CommonFlags(**{name: values.pop(name) for name in COMMON})
        execute(recipe, common, values)

    signature = [*_recipe_parameters(recipe), *_common_parameters()]
    cast("Any", run).__signature__ = inspect.Signature(signature)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    return run


def _recipe_parameters(recipe: Recipe) -> list[inspect.Parameter]:
    return [
        _parameter(flag.name, flag.annotation, flag.default, typer.Option(help=escape(flag.help) or None))
        for flag in recipe.flags
    ]


def _common_parameters() -> list[inspect.Parameter]:
    found: list[inspect.Parameter] = []
    for name, (annotation, default, option) in COMMON.items():
        option.rich_help_panel = PANEL
        found.append(_parameter(name, annotation, default, option))
    return found


def _parameter(name: str, annotation: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )
