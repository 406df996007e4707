"""`simkit run RECIPE`: a command per recipe, with flags made from the recipe's signature on demand."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast, get_args, get_origin

import typer
import typer.main
from rich.markup import escape

from simkit.cli.envfile import FLAG, EnvFile
from simkit.cli.help import FittingCommand
from simkit.core.limits import ASK_TIMEOUT
from simkit.core.safe_text import visible
from simkit.errors import RecipeError, UsageError
from simkit.plugins.component_paths import BaseFolders
from simkit.plugins.recipe import Recipe, RecipeFlag

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from simkit.cli.run import CommonFlags
    from simkit.models.config import ModelConfig
    from simkit.models.options import OptionFlag

Flags: TypeAlias = Mapping[str, tuple[Any, Any, typer.models.OptionInfo]]
"""Type, default and option of each parameter."""

PANEL = "Every run"
MODEL_PANEL = "Models (also SIMKIT_MODEL, SIMKIT_BASE_URL, ...; OPENAI_API_KEY)"

COMMON: Flags = {
    "concurrency": (
        int | None,
        None,
        typer.Option(min=1, envvar="SIMKIT_CONCURRENCY", help="Episodes played at once.", show_default="16"),
    ),
    "workers": (
        str | None,
        None,
        typer.Option(
            envvar="SIMKIT_WORKERS",
            help="Processes that play the episodes; `auto`: one per core if the concurrency is high. Results do not "
            "depend on it.",
            show_default="1",
        ),
    ),
    "engine": (
        str | None,
        None,
        typer.Option(
            envvar="SIMKIT_ENGINE",
            help="What plays the episodes: `processes` (--workers), `ray` (starts Ray here) or `ray=ADDRESS` (joins a "
            "cluster), with as many actors as --workers says, or one per core. Results do not depend on it.",
            show_default="processes",
        ),
    ),
    "shard": (
        str | None,
        None,
        typer.Option(
            help="Play one share of the tasks: 3/16 is the third of sixteen; `simkit store merge` joins them. Given "
            "again, it continues.",
            show_default="all tasks",
        ),
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
    "shared": (
        bool,
        False,
        typer.Option("--shared", help="Let the store's group read and write it; it is private otherwise."),
    ),
    "name": (str, "", typer.Option(help="A name for the run, which commands accept instead of its id.")),
    "fail_fast": (bool, False, typer.Option("--fail-fast", help="Stop at the first faulted episode (exit 1).")),
    "max_faults": (
        float,
        0.1,
        typer.Option(min=0, max=1, help="Share of faulted episodes above which the run has failed (exit 1)."),
    ),
    "json": (bool, False, typer.Option("--json", help="Print a machine-readable summary as the last line.")),
    "quiet": (bool, False, typer.Option("--quiet", help="No progress and no hints.")),
    "view": (
        bool,
        False,
        typer.Option("--view", help="Watch the run in the browser; the viewer stays until Ctrl-C after it."),
    ),
    "log": (Path | None, None, typer.Option(help="Append events of the run to this file, as JSON lines.")),
    "durable": (
        bool,
        False,
        typer.Option("--durable", help="Sync each answer to the disk before it is used, to survive a power cut."),
    ),
    "otel": (
        bool,
        False,
        typer.Option("--otel", help="Send OpenTelemetry spans and metrics (extra `otel`) as OTEL_* configure."),
    ),
    "ask_timeout": (
        float,
        ASK_TIMEOUT,
        typer.Option(
            min=0,
            help="Seconds a component may take for one answer, without its waits for models; 0 for no limit.",
        ),
    ),
    "trust_env_file": (
        bool,
        False,
        typer.Option(FLAG, help="Let ./.env set the destination of an exported key, or the code to run."),
    ),
    "replay": (
        str | None,
        None,
        typer.Option(help="Answer every model call from this run, without network requests."),
    ),
}


def recipe_command(
    recipe: Recipe,
    target: str,
    *,
    name: str = "",
    cls: type[FittingCommand] = FittingCommand,
    argument: str | None = None,
) -> Any:
    """A recipe as a command.

    `target` is the name that the user gave, `name` that of the command if it differs, `argument` a flag that is given
    without its name.
    """
    own = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    shown, title = _shown(flowing(recipe.help)), _shown(recipe.title)
    settings = {"allow_extra_args": True, "ignore_unknown_options": True} if recipe.others else {}
    command = own.command(name or target, cls=cls, help=shown, short_help=title, context_settings=settings)
    command(_callback(recipe, target, argument))
    return typer.main.get_command(own)


def _shown(text: str) -> str:
    """A text of a recipe for its help page, without control characters or markup."""
    return escape(visible(text))


def flowing(text: str) -> str:
    """A docstring with the lines of each paragraph joined, so that they fill any terminal.

    The lines of paragraphs with an indented line (examples) stay; long commands continue on the next line after a
    backslash, so that they can be copied from a terminal of 80 columns.
    """
    return "\n\n".join(
        "\n".join(map(_continued, one.split("\n"))) if "\n " in f"\n{one}" else one.replace("\n", " ")
        for one in text.split("\n\n")
    )


def _continued(line: str) -> str:
    """An indented command in lines of at most `COMMAND_WIDTH` characters, broken between its arguments."""
    words = _ARGUMENTS.findall(line)
    indent = " " * (len(line) - len(line.lstrip()))
    if not indent or len(line) <= COMMAND_WIDTH or not words:
        return line
    lines = [f"{indent}{words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > COMMAND_WIDTH:
            lines[-1] += " \\"
            lines.append(f"{indent}    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


TRAINED = "Model to train: a folder, or a name at Hugging Face, or local/smollm2. Default: that of --config."

COMMAND_WIDTH = 74
"""Maximum characters in a line of an example command."""

_ARGUMENTS = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")


def model_flags(*, on_resume: bool = False) -> Flags:
    """The flags of `ModelConfig`, with `on_resume` only those that may change when a run is resumed."""
    from simkit.models.config import ModelConfig

    return {
        name: (_flag_type(field.annotation), None, _model_flag(name, field, flag))
        for name, field, flag in ModelConfig.flags()
        if flag.on_resume or not on_resume
    }


def _flag_type(annotation: Any) -> Any:
    """The type of a flag: plain types unchanged, a list for a tuple, and text for types that the option parses."""
    kinds = [each for each in get_args(annotation) or (annotation,) if each is not type(None)]
    if get_origin(annotation) is tuple:
        return list[str] | None
    return next((each for each in (float, int, bool, Path, str) if kinds[0] is each), str) | None


def _model_flag(name: str, field: FieldInfo, flag: OptionFlag) -> typer.models.OptionInfo:
    bounds = {
        name: getattr(each, name) for each in field.metadata for name in ("ge", "gt", "le") if hasattr(each, name)
    }
    words = ("--" + name.replace("_", "-"),) if field.annotation is bool else ()  # without a --no- form
    return typer.Option(
        *words,
        help=flag.help,
        min=bounds.get("ge", bounds.get("gt")),
        max=bounds.get("le"),
        show_default=flag.default or True,
    )


def take_models(values: dict[str, Any]) -> ModelConfig:
    """Take the model flags out of a command's values."""
    from simkit.models.config import ModelConfig

    return ModelConfig.of({name: values.pop(name) for name, _, _ in ModelConfig.flags() if name in values})


def check_env_file(ctx: typer.Context, common: CommonFlags) -> None:
    """Refuse a `.env` that sets the destination of a key from elsewhere; see `EnvFile.check`.

    Raises:
        UsageError: it does so without the flag that allows it.
    """
    if isinstance(ctx.obj, EnvFile):  # None if a recipe's command is used alone
        given = frozenset(common.models.chosen())
        named = {common.models.api_key_env, common.models.user_api_key_env}
        keys = frozenset(name for name in named if name)
        ctx.obj.check(trusted=common.trust_env_file, given=given, traces=common.otel, keys=keys)


def check_shard(recipe: Recipe, common: CommonFlags) -> None:
    """Refuse to shard a recipe that does not say that its tasks can be played apart.

    Raises:
        UsageError: it does not.
    """
    if common.shard is not None and not recipe.shardable:
        raise UsageError(
            f"`{recipe.name}` cannot be played in shards: it does more than play tasks that do not depend on each "
            "other, and shares of the rest cannot be joined. Leave --shard out; a recipe of your own that only plays "
            "tasks says so with @simkit.shardable"
        )


def _callback(recipe: Recipe, target: str, argument: str | None) -> Callable[..., None]:
    def run(ctx: typer.Context, **values: Any) -> None:
        from simkit.cli.run import CommonFlags, execute, open_run

        common = CommonFlags(**{name: values.pop(name) for name in COMMON}, models=take_models(values))
        check_env_file(ctx, common)
        check_shard(recipe, common)
        if recipe.others:
            values[recipe.others] = list(ctx.args)
        folders = _base_folders(recipe, {name for name in values if _is_default(ctx, name)}, values, common.models)
        execute(open_run(recipe, target, common, values, folders), recipe, common, values)

    models = {name: flag for name, flag in model_flags().items() if name not in recipe.omitted}
    if recipe.others:
        models["model"] = (str | None, None, typer.Option(help=TRAINED))
    signature = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *_recipe_parameters(recipe, models, argument),
        *flag_parameters(models, MODEL_PANEL, recipe.unused),
        *flag_parameters(COMMON, PANEL, recipe.unused),
    ]
    cast("Any", run).__signature__ = inspect.Signature(signature)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    return run


def _is_default(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name in ("DEFAULT", "DEFAULT_MAP")


def _base_folders(recipe: Recipe, defaults: Set[str], values: Mapping[str, Any], models: ModelConfig) -> BaseFolders:
    given = [*models.chosen().values(), *(value for name, value in values.items() if name not in defaults)]
    written = [values[name] for name in defaults]
    return BaseFolders.given(_names(given), _names(written), recipe.folder)


def _names(values: Iterable[Any]) -> Iterator[str]:
    """The texts among values and lists of values."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _names(cast("list[Any]", value))


def _recipe_parameters(recipe: Recipe, models: Flags, argument: str | None) -> list[inspect.Parameter]:
    for flag in recipe.flags:
        if flag.name in models:
            raise RecipeError(
                f"{recipe.name}: the parameter `{flag.name}` is a flag of every run already; use "
                f"`run.models.{flag.name}` or another name"
            )
    return [
        _parameter(
            flag.name,
            flag.annotation,
            flag.default,
            _argument_or_option(flag, argument),
        )
        for flag in recipe.flags
        if flag.name != recipe.others
    ]


def _argument_or_option(flag: RecipeFlag, argument: str | None) -> Any:
    text = _shown(flag.help) or None
    return typer.Argument(help=text, metavar="RUN") if flag.name == argument else typer.Option(help=text)


def flag_parameters(flags: Flags, panel: str, hidden: Set[str] = frozenset()) -> list[inspect.Parameter]:
    """Flags as parameters of a command, under a heading of its help; `hidden` ones are accepted but not shown."""
    found: list[inspect.Parameter] = []
    for name, (annotation, default, shown) in flags.items():
        option = copy(shown)
        option.rich_help_panel, option.hidden = panel, name in hidden
        found.append(_parameter(name, annotation, default, option))
    return found


def _parameter(name: str, annotation: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )
