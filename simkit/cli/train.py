"""`simkit train METHOD`: training recipes as commands, which take the flags of TRL's classes beside simkit's own."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from simkit.cli.help import FittingCommand
from simkit.cli.output import say

RECIPES = "simkit.training.recipes"

SAME = {"--output-dir": "--out", "--model-name-or-path": "--model"}
"""Flags of TRL that are flags of simkit."""

HELP_TRL = "--help-trl"


class TrainCommand(FittingCommand):
    """A training method; its page of help names the flag that lists TRL's flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; `--help-trl` prints TRL's flags and ends."""
        if HELP_TRL in args:
            from simkit.training.config_files import METHODS
            from simkit.training.trl_setup import settings_parser

            say(settings_parser(next(each for each in METHODS if each == self.name)).format_help())
            ctx.exit()
        return super().parse_args(ctx, [_named(each) for each in args])


def _named(argument: str) -> str:
    name, sign, value = argument.partition("=")
    return SAME.get(name.replace("_", "-"), name) + sign + value


class TrainGroup(TyperGroup):
    """The command `train`: one command for each method."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The methods."""
        from simkit.training.config_files import METHODS

        return list(METHODS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one method."""
        from simkit.cli.recipes import recipe_command
        from simkit.plugins.recipe import load_recipe

        if cmd_name not in self.list_commands(ctx):
            return None
        target = f"{RECIPES}:train_{cmd_name}"
        return recipe_command(load_recipe(target), target, name=cmd_name, cls=TrainCommand)
