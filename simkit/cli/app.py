"""The program `simkit`: its commands, each built and imported only when it is called, so that the start is fast."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from simkit.cli.commands import INIT, RESUME, REVIEW, RUN, STORE, TRAIN, WORLD, commands
from simkit.cli.envfile import read_env_file
from simkit.cli.failure import readable_errors
from simkit.cli.options import quick
from simkit.cli.serving_commands import serving
from simkit.cli.view_command import looking

EXAMPLES = """
A conversation simulator for people who evaluate and train tool-using dialogue agents.

Examples:

  simkit run josh --tasks 50       harvest training data, without an API key
  simkit run rollout --tasks 50    evaluate an agent
  simkit show last                 scores of the last run
  simkit view                      runs, trees and conversations in the browser
  simkit sql "from run_summary"    query the results
  simkit compare RUN RUN           the difference between two runs
  simkit train sft --model FOLDER --data last --config tiny-cpu
  simkit export kto --run last --out kto.jsonl
  simkit init world shop           a world of your own

Results go to ./simkit-store (or SIMKIT_STORE, or --store).
Exit codes: 0 success, 1 failed or not played, 2 usage error, 130 interrupted.
"""


class RecipeGroup(TyperGroup):
    """The command `run`: a group of all installed recipes, which loads others by path or module."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The installed recipes."""
        from simkit.plugins.loading import available
        from simkit.plugins.recipe import GROUP

        return list(available(GROUP))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one recipe."""
        from simkit.cli.recipes import recipe_command
        from simkit.plugins.recipe import load_recipe

        return recipe_command(load_recipe(cmd_name), cmd_name)


class LazyCommands(Mapping[str, Any]):
    """Commands by name, in the usual order of use. Each is built when it is looked up."""

    def __init__(self) -> None:
        known = [*commands.registered_commands, *serving.registered_commands]
        known[2:2] = looking.registered_commands  # after `ls` and `show`
        self._infos = {str(info.name): info for info in known}

    def about(self) -> dict[str, str]:
        """First paragraph of each command's help."""
        texts = {name: inspect.getdoc(info.callback) or "" for name, info in self._infos.items()}
        own = {name: _first_paragraph(text) for name, text in texts.items()}
        return {
            "run": RUN,
            "train": TRAIN,
            "resume": RESUME,
            **own,
            "review": REVIEW,
            "store": STORE,
            "init": INIT,
            "world": WORLD,
        }

    def __iter__(self) -> Iterator[str]:
        return iter(("run", "train", "resume", *self._infos, "review", "store", "init", "world"))

    def __len__(self) -> int:
        return 7 + len(self._infos)

    def __getitem__(self, name: str) -> Any:
        if name == "run":
            return RecipeGroup(name=name, no_args_is_help=True, help=RUN, rich_markup_mode="rich")
        if name == "train":
            from simkit.cli.train import TrainGroup

            return TrainGroup(name=name, no_args_is_help=True, help=TRAIN, rich_markup_mode="rich")
        if name == "resume":
            from simkit.cli.resume import resume_command

            return resume_command()
        if name == "review":
            from simkit.cli.recipes import recipe_command
            from simkit.plugins.recipe import load_recipe

            return recipe_command(load_recipe(name), name, argument="of")
        if name == "store":
            from simkit.cli.store import store_command

            return store_command()
        if name in ("init", "world"):
            from simkit.cli.world import init_command, world_command

            return init_command() if name == "init" else world_command()
        own = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        own.registered_commands = [self._infos[name]]
        return typer.main.get_command(own)


def _first_paragraph(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


class Commands(TyperGroup):
    """The top-level commands, with readable error messages."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._lazy = LazyCommands()
        self.commands: Any = self._lazy

    def get_params(self, ctx: Any) -> list[Any]:
        """The options."""
        return quick(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands."""
        return list(self._lazy)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page without Rich, whose import takes longer than everything else."""
        self.format_usage(ctx, formatter)
        formatter.write(EXAMPLES)
        options = [record for option in self.get_params(ctx) if (record := option.get_help_record(ctx)) is not None]
        for title, rows in (("Options", options), ("Commands", [*self._lazy.about().items()])):
            with formatter.section(title):
                formatter.write_dl([(typer.style(name, bold=True), about) for name, about in rows])

    def invoke(self, ctx: Any) -> Any:
        """Run the named command."""
        with readable_errors():
            ctx.obj = read_env_file(Path(".env"))
            return super().invoke(ctx)


app = typer.Typer(
    name="simkit",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        import simkit
        from simkit.cli.output import say

        say(f"simkit {simkit.__version__}")
        raise typer.Exit


@app.callback()
def simkit_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of simkit itself, before any command."""
