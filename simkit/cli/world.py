"""`simkit init world` and `simkit world check`: worlds from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

from simkit.cli.commands import INIT, WORLD
from simkit.cli.envfile import EnvFile
from simkit.cli.options import JsonFlag, StoreFlag
from simkit.cli.output import say, say_json
from simkit.cli.program import program
from simkit.cli.tables import print_table
from simkit.core.text_table import Column, Table
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.authoring.world_play import Difficulty
    from simkit.components.findings import Finding
    from simkit.components.world import World


def init_command() -> Any:
    """The group `simkit init`, built when it is called."""
    group = typer.Typer(name="init", help=INIT, no_args_is_help=True, add_completion=False)
    group.callback()(_nothing)  # keeps the group a group although it has one command
    group.command("world", no_args_is_help=True)(init_world)
    return typer.main.get_command(group)


def world_command() -> Any:
    """The group `simkit world`, built when it is called."""
    group = typer.Typer(name="world", help=WORLD, no_args_is_help=True, add_completion=False)
    group.callback()(_nothing)
    group.command("check", no_args_is_help=True)(check_world)
    return typer.main.get_command(group)


def _nothing() -> None:
    pass


def init_world(name: Annotated[Path, typer.Argument(help="Folder to make; the world gets its name.")]) -> None:
    """Write a small world into a new folder: tasks, tools, a database, rules and a test.

    It can be played at once, without a model. Change its files into your own world.

    simkit init world shop
    """
    from simkit.authoring.scaffold import init_world

    for file in init_world(name):
        say(str(file))
    shown = named_folder(name)
    say("Next:")
    say(f"  {program()} world check {name}")
    say(f"  {program()} run rollout --world {shown} --split train")
    say(f"  {program()} run josh --world {shown}")


def named_folder(folder: Path) -> str:
    """A folder as `--world` takes it: `./shop`."""
    text = str(folder)
    return text if "/" in text or "\\" in text or text in (".", "..") else f"./{text}"


@dataclass(frozen=True, slots=True)
class CheckFlags:
    """Which model is tried, how often, and who judges it."""

    model: str | None
    base_url: str | None
    judge_model: str | None
    tasks: int
    trials: int


def check_world(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of the world.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Model that tries the tasks: openai/NAME.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Endpoint of the models.")] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Model that judges rubrics then. Default: they are left out.")
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of each split that the model tries.")] = 10,
    trials: Annotated[int, typer.Option(min=1, help="Times that it tries each.")] = 2,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Check that the tasks of a world can be solved, are not solved at the start, and can be told apart.

    The solution of each task is played, and so is a conversation in which the user says the lines of its agenda. With
    --model, a model tries the tasks. Every problem is printed with its file and line; the exit code is then 1.

    simkit world check shop

    simkit world check shop --model openai/gpt-4.1-mini
    """
    from simkit.authoring.world_play import all_findings, checked_world
    from simkit.components.findings import CheckedWorld
    from simkit.components.world import World

    world = checked_world(folder)
    if not isinstance(world, World):
        _report(world, [], json, ())
        raise typer.Exit(1)
    if judge_model is not None and model is None:
        raise UsageError("--judge-model judges what a model does with the tasks; give --model openai/NAME with it")
    found = all_findings(world)
    flags = CheckFlags(model, base_url, judge_model, tasks, trials)
    tried = [] if found or model is None else _difficulties(ctx, world, store, flags)
    unread = any(each.kind == "file" for each in found)
    described = world.described() if isinstance(world, CheckedWorld) and not unread else ()
    _report(found, tried, json, described)
    _end(found, tried)


def _difficulties(ctx: typer.Context, world: World, store: Path | None, flags: CheckFlags) -> list[Difficulty]:
    import anyio

    from simkit.authoring.world_play import Amount, difficulties
    from simkit.models.config import ModelConfig

    given = {"model": flags.model, "base_url": flags.base_url}
    models = ModelConfig.of({name: value for name, value in given.items() if value is not None})
    if isinstance(ctx.obj, EnvFile):
        ctx.obj.check(trusted=False, given=frozenset(models.chosen()), traces=False, keys=frozenset())
    amount = Amount(flags.tasks, flags.trials)
    return anyio.run(partial(difficulties, world, models, store, amount, judge=flags.judge_model))


def _report(found: list[Finding], tried: list[Difficulty], as_json: bool, described: Sequence[str]) -> None:
    if as_json:
        say_json({"findings": [asdict(each) for each in found], "difficulty": [asdict(each) for each in tried]})
        return
    for finding in found:
        say(str(finding))
    for line in described:
        say(line)
    count = len(found)
    say(f"{count} problem{'s' if count > 1 else ''}" if found else "no problems found")
    if tried:
        columns = (Column("task"), Column("split"), Column("solved"), Column("reward", right=True))
        rows = tuple((one.task, one.split, f"{one.solved} of {one.trials}", _reward(one)) for one in tried)
        print_table(Table(columns, rows))


def _reward(tried: Difficulty) -> str:
    return "-" if tried.reward is None else f"{tried.reward:.2f}"


def _end(found: Sequence[Finding], tried: Sequence[Difficulty]) -> None:
    """The exit code: 1 after problems, and after conversations that failed by no fault of the model."""
    if faulted := sum(one.faulted for one in tried):
        total = faulted + sum(one.trials for one in tried)
        say(
            f"{faulted} of {total} conversations with the model faulted and have no score: "
            f"{program()} doctor last (with --store, if it was given) names the reasons",
            err=True,
        )
    if found or faulted:
        raise typer.Exit(1)
