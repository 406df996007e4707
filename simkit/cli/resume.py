"""`simkit resume RUN`: continues a run that was killed, interrupted or stopped."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand

from simkit.cli.commands import RESUME
from simkit.cli.output import say
from simkit.cli.program import print_notes
from simkit.cli.recipes import (
    COMMON,
    PANEL,
    check_env_file,
    flag_parameters,
    flowing,
    model_flags,
    recipe_command,
    take_models,
)
from simkit.core.limits import ASK_TIMEOUT
from simkit.errors import UsageError
from simkit.plugins.component_paths import STARTED_IN, BaseFolders, python_file, same_file
from simkit.plugins.loading import current_folder

if TYPE_CHECKING:
    from simkit.cli.run import CommonFlags
    from simkit.plugins.recipe import Recipe
    from simkit.run.resume import RunStart

HELP = f"""{RESUME}

Finished episodes are kept. The others are played from their beginning; model calls that were answered before are
answered from the journal, so nothing is paid twice. The configuration does not change, and file names stay relative to
the original folder. The flags shown here may change; any other flag of the run is refused if it differs.

Episodes that ended by a fault are kept, too. With --retry-faulted they are played again, after their cause is gone.

Examples:

    simkit resume last
    simkit resume last --max-cost 1.00
    simkit resume last --retry-faulted
    simkit resume josh-20261122-143015-3f2a --api-concurrency 16
"""

CHANGEABLE = (
    "concurrency",
    "workers",
    "engine",
    "fail_fast",
    "max_faults",
    "ask_timeout",
    "store",
    "json",
    "quiet",
    "view",
    "log",
    "durable",
    "otel",
    "trust_env_file",
)


RETRY = (bool, False, typer.Option("--retry-faulted", help="Play episodes again that ended by a fault."))
"""The flag that a run's start does not have."""

FORMER: Mapping[str, Mapping[str, str]] = {"selftrain": {"seeds_at_once": "workers"}}
"""Former names of recipes' flags in the configuration of runs of earlier versions."""


class ResumeCommand(TyperCommand):
    """The command. Its flags are derived from those of a run when it is called, not for `simkit --help`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command with its flags."""
        return _with_flags().make_context(info_name, args, parent, **extra)


def resume_command() -> ResumeCommand:
    """The command, both for lists of commands and for calls."""
    return ResumeCommand("resume", help=flowing(HELP), rich_markup_mode="rich")


def _with_flags() -> Any:
    own = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    own.command("resume", help=flowing(HELP), context_settings=settings)(_callback())
    return typer.main.get_command(own)


def _callback() -> Any:
    def resume(ctx: typer.Context, run: str, **values: Any) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        resume_run(ctx, run, given, list(ctx.args))

    where = typer.Argument(help="Run: id, unique beginning of it, name, or `last`.", show_default=False)
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = [
        inspect.Parameter("ctx", place, annotation=typer.Context),
        inspect.Parameter("run", place, annotation=Annotated[str, where]),
        *flag_parameters(model_flags(on_resume=True), "How models are reached, and what they may use"),
        *flag_parameters({"retry_faulted": RETRY}, "What is played again"),
        *flag_parameters({name: _recorded_default(name, COMMON[name]) for name in CHANGEABLE}, PANEL),
    ]
    resume.__signature__ = inspect.Signature(signature)  # pyright: ignore[reportFunctionMemberAccess]
    resume.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    return resume


def _recorded_default(name: str, flag: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """A flag that defaults to the recorded value."""
    annotation, _, option = flag
    return (
        annotation | None,
        None,
        typer.Option("--" + name.replace("_", "-"), min=option.min, max=option.max, help=option.help),
    )


def resume_run(ctx: typer.Context, name: str, given: Mapping[str, Any], more: list[str]) -> None:
    """Continue a run: `given` flags are new, `more` is the rest of the command line.

    Raises:
        UsageError: the run does not exist, was not started by the command line, or would not be the same run.
    """
    from simkit.cli.program import open_store
    from simkit.cli.run import execute, open_run, standing_in
    from simkit.plugins.recipe import load_recipe
    from simkit.run.resume import read_start

    store = open_store(given.get("store"))
    with store.reading() as reader:
        run_id = reader.resolve(name).run_id
        print_notes(reader.state.of([run_id]).warnings)
    start = read_start(store.path, run_id)
    home = _home(start)
    if home is not None:
        say(f"{run_id} continues in {home}, where it was started; its file names are relative to it", err=True)
        given = {flag: value.absolute() if isinstance(value, Path) else value for flag, value in given.items()}
        given["store"] = store.path.absolute()
    here = current_folder()
    with standing_in(home):
        recipe = load_recipe(_target(run_id, start))
        folders = BaseFolders.recorded(start.config, recipe.folder)
        flags = _given_flags(recipe, more)
        if home is not None:
            flags = {flag: _as_recorded(flag, value, here, start, folders) for flag, value in flags.items()}
        values, common = _values(run_id, recipe, start, flags), _common(start, flags, given)
        check_env_file(ctx, common)
        run = open_run(recipe, start.config["target"], common, values, folders, resume=run_id)
    execute(run, recipe, common, values, folder=home, run_id=run_id)


def _home(start: RunStart) -> Path | None:
    """The folder in which a run was started; None if it is the current one or no longer exists."""
    folder = Path(str(start.config.get(STARTED_IN) or ""))
    return folder if folder.is_absolute() and folder.is_dir() and not folder.samefile(current_folder()) else None


def _as_recorded(flag: str, value: Any, here: Path, start: RunStart, folders: BaseFolders) -> Any:
    """The value of a flag given from another folder than the run was started in: the recorded one if it names the same
    file.

    Raises:
        UsageError: it has the recorded name but names another file.
    """
    from simkit.models.options import flag_of

    was, text = start.config.get(flag), str(value)
    is_file = isinstance(value, Path) or (isinstance(value, str) and bool(python_file(text)))
    if not is_file or not isinstance(was, str):
        return value
    folder = folders.of(was) or current_folder()
    if same_file(text, here, was, folder):
        return type(value)(was)
    if text == was:
        raise UsageError(
            f"{flag_of(flag)} {text} was a file of {folder}, and is given from {here}; omit the flag, or give the "
            "whole path"
        )
    return value


def _common(start: RunStart, flags: Mapping[str, Any], given: Mapping[str, Any]) -> CommonFlags:
    """The flags of every run: as given now, else as recorded."""
    from simkit.cli.run import CommonFlags

    was = start.config
    return CommonFlags(
        concurrency=given.get("concurrency", was.get("concurrency")),
        workers=given.get("workers", _workers(start)),
        engine=given.get("engine", was.get("engine")),
        shard=flags.get("shard"),
        seed=flags.get("seed"),
        store=given.get("store"),
        name=start.name,
        fail_fast=given.get("fail_fast", was.get("fail_fast", False)),
        max_faults=given.get("max_faults", was.get("max_faults", 0.1)),
        json=given.get("json", False),
        quiet=given.get("quiet", False),
        view=given.get("view", False),
        log=given.get("log"),
        otel=given.get("otel", False),
        ask_timeout=given.get("ask_timeout", was.get("ask_timeout", ASK_TIMEOUT)),
        durable=given.get("durable", was.get("durable", False)),
        trust_env_file=given.get("trust_env_file", False),
        retry_faulted=given.get("retry_faulted", False),
        models=take_models({**flags, **given}),
    )


def _workers(start: RunStart) -> str | None:
    """The recorded number of workers; in runs of earlier versions `workers` was a flag of selftrain."""
    workers = None if FORMER.get(start.recipe, {}).keys() - start.config.keys() else start.config.get("workers")
    return None if workers is None else str(workers)


def _target(run_id: str, start: RunStart) -> str:
    target = start.config.get("target")
    if not isinstance(target, str):
        raise UsageError(
            f"{run_id} was not started by `simkit run`, so only its own program can continue it: "
            f"simkit.Run.resume({run_id!r})"
        )
    return target


def _values(run_id: str, recipe: Recipe, start: RunStart, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's flags: as given now, else as recorded; flags added to the recipe since have their default."""
    values: dict[str, Any] = {}
    for flag in recipe.flags:
        former = FORMER.get(recipe.name, {}).get(flag.name, flag.name)
        recorded = flag.name if flag.name in start.config else former
        if flag.name in flags:
            values[flag.name] = flags[flag.name]
        elif recorded in start.config:
            values[flag.name] = _restored(flag.annotation, start.config[recorded])
        elif flag.required:
            raise UsageError(
                f"the recipe `{recipe.name}` needs --{flag.name.replace('_', '-')} now, which did not exist when "
                f"{run_id} was started; start a new run"
            )
        else:
            values[flag.name] = flag.default
    return values


def _restored(annotation: Any, value: Any) -> Any:
    """A recorded flag with its type; paths and enumerations were recorded as text."""
    from pydantic import TypeAdapter

    return TypeAdapter(annotation).validate_python(value)


def _given_flags(recipe: Recipe, more: list[str]) -> dict[str, Any]:
    """The flags on the rest of the command line, as the recipe's own command understands them."""
    if not more:
        return {}
    command = recipe_command(recipe, "resume")
    context = command.make_context("resume", list(more))
    source = context.get_parameter_source
    others = {recipe.others: list(context.args)} if recipe.others and context.args else {}
    return others | {name: value for name, value in context.params.items() if source(name).name == "COMMANDLINE"}
