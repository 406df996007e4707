"""Recipes: whole experiments as one async function, whose typed signature is also its command line.

    async def josh(run: Run, *, world: flags.World = "builtin", beam: Annotated[int, "Maximum live leaves."] = 8): ...

A string in `Annotated` is the flag's help, a `Literal` lists its choices, a default is shown. A parameter whose type is
a frozen dataclass is a group: each of its fields becomes a flag (`simkit.TaskChoice`). The first paragraph of the
docstring is the title in `simkit run --help`; `simkit run RECIPE --help` shows all of it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from simkit.errors import RecipeError, UsageError
from simkit.plugins.component_paths import folder_of_module
from simkit.plugins.loading import find_object

GROUP = "simkit.recipes"
RecipeFunction: TypeAlias = Callable[..., Awaitable[object]]
RecipeT = TypeVar("RecipeT", bound=RecipeFunction)

UNUSED, SHARDABLE, OTHERS = "__simkit_unused_flags__", "__simkit_shardable__", "__simkit_other_flags__"

MOVED = {
    **{f"train_{method}": f"simkit train {method}" for method in ("sft", "kto", "dpo")},
    "grpo": "simkit train grpo",
}
"""Former recipes, and the commands that took their place."""

RESERVED = (
    *("run", "concurrency", "seed", "store", "name", "json", "quiet", "fail_fast", "max_faults"),
    *("replay", "otel", "log", "trust_env_file", "shared", "target", "files", "started_in", "named_in"),
    *("workers", "engine", "shard"),
)
"""Flags of every run; a recipe gets their values through its `run`."""

REQUIRED = inspect.Parameter.empty
PLAIN = (str, int, float, bool, Path)


@dataclass(frozen=True, slots=True)
class RecipeFlag:
    """One flag of a recipe.

    Attributes:
        default: default value; `REQUIRED` if the flag must be given.
        group: the parameter whose field it is; None if it is a parameter itself.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    group: str | None = None

    @property
    def required(self) -> bool:
        """Whether the flag must be given."""
        return self.default is REQUIRED


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe ready to run: `await recipe.play(run, values)`, with a value for each of its flags.

    `groups` has the dataclass of each parameter that is a group; `unused` are flags of every run without effect in it;
    `shardable` says that shares of its tasks can be played apart. `others` is the parameter that takes all flags which
    simkit does not know, and `omitted` are flags of every run among these.
    """

    name: str
    function: RecipeFunction
    flags: tuple[RecipeFlag, ...]
    help: str
    groups: Mapping[str, type] = field(default_factory=dict[str, type])
    unused: frozenset[str] = frozenset()
    shardable: bool = False
    others: str | None = None
    omitted: frozenset[str] = frozenset()

    def play(self, run: object, values: Mapping[str, Any]) -> Awaitable[object]:
        """Call the function with groups built from their flags."""
        given = {flag.name: values[flag.name] for flag in self.flags if flag.group is None and flag.name in values}
        for name, kind in self.groups.items():
            own = [flag.name for flag in self.flags if flag.group == name and flag.name in values]
            given[name] = kind(**{each: values[each] for each in own})
        return self.function(run, **given)

    @property
    def folder(self) -> Path | None:
        """Folder of its file, the base of relative file names in it."""
        return folder_of_module(self.function.__module__)

    @property
    def title(self) -> str:
        """The first paragraph of its help, on one line."""
        return " ".join(self.help.split("\n\n")[0].split())


def load_recipe(target: str) -> Recipe:
    """Load a recipe by name: an entry point, `path/to/recipe.py[:function]` or `package.module:function`.

    A file named alone holds an async function named like the file, or exactly one public async function that takes
    `run`.

    Raises:
        ComponentNotFound: there is no such recipe; the message lists the available ones.
        UsageError: its file fails to import, or it has become a command.
        RecipeError: the object found is not a valid recipe.
    """
    if target in MOVED:
        raise UsageError(f"the recipe `{target}` is a command of its own now: {MOVED[target]}")
    found = find_object("recipe", GROUP, target, partial(_only_recipe, target))
    return read_recipe(found, target)


def read_recipe(function: object, where: str) -> Recipe:
    """Create a recipe from a function.

    Raises:
        RecipeError: it is not async, does not take `run` first, or has a parameter that cannot be a flag.
    """
    if not inspect.iscoroutinefunction(function):
        raise RecipeError(f"{where} is not a recipe: it must be an `async def` whose first parameter is `run`")
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "run":
        raise RecipeError(f"{where}: the first parameter of a recipe is `run`; {function.__name__} does not take it")
    hints = _hints(function, where)
    groups = {name: hint for name, hint in hints.items() if name != "return" and _is_group(hint)}
    flags: list[RecipeFlag] = []
    for parameter in parameters[1:]:
        if parameter.name in groups:
            flags += _group(parameter, groups[parameter.name], where)
        else:
            flags.append(_flag(parameter, hints.get(parameter.name), where))
    _check_distinct(flags, where)
    return Recipe(
        name=function.__name__,
        function=cast("RecipeFunction", function),
        flags=tuple(flags),
        help=inspect.getdoc(function) or "",
        groups=groups,
        unused=getattr(function, UNUSED, frozenset()),
        shardable=getattr(function, SHARDABLE, False),
        **getattr(function, OTHERS, {}),
    )


def without_flags(*names: str) -> Callable[[RecipeT], RecipeT]:
    """Hide flags of every run that have no effect in a recipe: `@without_flags("rpm", "tpm")`. They stay accepted."""

    def hidden(function: RecipeT) -> RecipeT:
        setattr(function, UNUSED, frozenset(names))
        return function

    return hidden


def with_other_flags(parameter: str, *omitted: str) -> Callable[[RecipeT], RecipeT]:
    """Give a recipe all flags that simkit does not know, as a list of texts in one of its parameters.

    Args:
        parameter: the parameter, a `list[str]`; it is no flag itself.
        omitted: flags of every run that are among these, because they mean something else there.
    """

    def extended(function: RecipeT) -> RecipeT:
        setattr(function, OTHERS, {"others": parameter, "omitted": frozenset(omitted)})
        return function

    return extended


def shardable(function: RecipeT) -> RecipeT:
    """Let shares of a recipe's tasks be played apart (`--shard`): `@shardable` above the function.

    It suits a recipe whose results are those of its episodes: merged runs have the episodes of all shards and the
    summary that follows from them, and no other values that the recipe returns.
    """
    setattr(function, SHARDABLE, True)
    return function


def _is_group(hint: object) -> bool:
    return inspect.isclass(hint) and is_dataclass(hint)


def _group(parameter: inspect.Parameter, kind: Any, where: str) -> list[RecipeFlag]:
    """Flags of a group: its fields, with defaults from the parameter's default value if it has one."""
    place = f"{where}: the parameter `{parameter.name}`"
    if not kind.__dataclass_params__.frozen:
        raise RecipeError(f"{place} is a group of flags, and {kind.__name__} can be changed; make it frozen")
    hints, found = _hints(kind, where), list[RecipeFlag]()
    for each in fields(kind):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if parameter.default is not REQUIRED:
            default = getattr(parameter.default, each.name)
        one = inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=REQUIRED if default is MISSING else default
        )
        found.append(replace(_flag(one, hints.get(each.name), where), group=parameter.name))
    return found


def _check_distinct(flags: Sequence[RecipeFlag], where: str) -> None:
    names = [flag.name for flag in flags]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"{where}: the flag `{twice[0]}` is in the signature twice; rename one of them")


def _only_recipe(target: str, module: ModuleType) -> object:
    own = [value for value in vars(module).values() if _is_candidate(value, module)]
    same = [value for value in own if value.__name__ == Path(target).stem]
    if same:
        return same[0]
    if len(own) == 1:
        return own[0]
    names = ", ".join(value.__name__ for value in own)
    problem = f"holds several recipes ({names}); say which: {target}:NAME" if own else "holds no recipe"
    raise RecipeError(f"{target} {problem}; a recipe is an `async def {Path(target).stem}(run, *, ...)`")


def _is_candidate(value: object, module: ModuleType) -> bool:
    if not inspect.iscoroutinefunction(value) or value.__module__ != module.__name__:
        return False
    return not value.__name__.startswith("_") and "run" in inspect.signature(value).parameters


def _hints(function: Any, where: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        if str(error.name) == "Run":  # imported only for type checkers, which is good style
            return get_type_hints(function, localns={"Run": object}, include_extras=True)
        raise RecipeError(f"{where}: a type in its signature cannot be found: {error}; import it") from error


def _flag(parameter: inspect.Parameter, hint: Any, where: str) -> RecipeFlag:
    place = f"{where}: the parameter `{parameter.name}`"
    if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
        raise RecipeError(f"{place} cannot become a flag: name each parameter, after a `*`")
    if parameter.name in RESERVED:
        raise RecipeError(f"{place} is a flag of every run already; use `run.{parameter.name}` or another name")
    if hint is None:
        raise RecipeError(f"{place} has no type; annotate it, e.g. `{parameter.name}: int = 8`")
    annotation, notes = hint, ""
    if get_origin(hint) is Annotated:
        annotation, *extras = get_args(hint)
        notes = next((extra for extra in extras if isinstance(extra, str)), "")
    if not _possible(annotation):
        raise RecipeError(
            f"{place} has a type that cannot be a flag ({annotation}); "
            "use str, int, float, bool, Path, Literal, Enum, a list of these, one of them | None, or a frozen dataclass"
        )
    return RecipeFlag(parameter.name, annotation, parameter.default, notes)


def _possible(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal or annotation in PLAIN:
        return True
    if origin in (Union, types.UnionType):
        inner = [argument for argument in get_args(annotation) if argument is not type(None)]
        return len(inner) == 1 and _possible(inner[0])
    if origin is list:
        return all(_possible(argument) for argument in get_args(annotation))
    return inspect.isclass(annotation) and issubclass(annotation, Enum)
