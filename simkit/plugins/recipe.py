"""Recipes: whole experiments as one async function, whose typed signature is also its command line.

    async def josh(run: Run, *, world: flags.World = "builtin", beam: Annotated[int, "live leaves at most"] = 8): ...

A string in `Annotated` is the flag's help, a `Literal` lists its choices, a default is shown. The first paragraph of
the docstring is what `simkit run --help` says of it, all of it what `simkit run RECIPE --help` says.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

from simkit.errors import RecipeError
from simkit.plugins.component_paths import folder_of_module
from simkit.plugins.loading import find_object

GROUP = "simkit.recipes"
RecipeFunction: TypeAlias = Callable[..., Awaitable[object]]

RESERVED = (
    *("run", "concurrency", "seed", "store", "name", "json", "quiet", "fail_fast", "max_faults"),
    *("replay", "otel", "log", "trust_env_file", "shared", "target", "files", "started_in", "named_in"),
)
"""Flags of every run; a recipe finds them in its `run`."""

REQUIRED = inspect.Parameter.empty
PLAIN = (str, int, float, bool, Path)


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a recipe. `default` is `REQUIRED` for a flag that must be given."""

    name: str
    annotation: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe ready to be run: `await recipe.function(run, **flags)`."""

    name: str
    function: RecipeFunction
    flags: tuple[Flag, ...]
    help: str

    @property
    def folder(self) -> Path | None:
        """The folder of its file, from which the names written in it count."""
        return folder_of_module(self.function.__module__)

    @property
    def title(self) -> str:
        """The first paragraph of its help, on one line."""
        return " ".join(self.help.split("\n\n")[0].split())


def load_recipe(target: str) -> Recipe:
    """The recipe of that name: an entry point, `path/to/recipe.py[:function]` or `package.module:function`.

    A file named alone holds an async function named like the file, or exactly one public async function that takes
    `run`.

    Raises:
        ComponentNotFound: there is none; the message lists what there is.
        UsageError: its file fails to import.
        RecipeError: what was found cannot be used as a recipe.
    """
    found = find_object("recipe", GROUP, target, partial(_only_recipe, target))
    return read_recipe(found, target)


def read_recipe(function: object, where: str) -> Recipe:
    """A function as a recipe.

    Raises:
        RecipeError: it is not async, does not take `run` first, or has a parameter that cannot be a flag.
    """
    if not inspect.iscoroutinefunction(function):
        raise RecipeError(f"{where} is no recipe: it must be an `async def` whose first parameter is `run`")
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "run":
        raise RecipeError(f"{where}: the first parameter of a recipe is `run`; {function.__name__} does not take it")
    hints = _hints(function, where)
    flags = tuple(_flag(parameter, hints.get(parameter.name), where) for parameter in parameters[1:])
    return Recipe(function.__name__, cast("RecipeFunction", function), flags, inspect.getdoc(function) or "")


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
        if str(error.name) == "Run":  # imported for type checkers only, which is good style
            return get_type_hints(function, localns={"Run": object}, include_extras=True)
        raise RecipeError(f"{where}: a type in its signature cannot be found: {error}; import it") from error


def _flag(parameter: inspect.Parameter, hint: Any, where: str) -> Flag:
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
            "use str, int, float, bool, Path, Literal, Enum, a list of these, or one of them | None"
        )
    return Flag(parameter.name, annotation, parameter.default, notes)


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
