"""The file `tools.py` of a world: functions that are the tools, or a function that makes a tool server."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast, get_origin, get_type_hints

from simkit.components.tools import ToolServer
from simkit.errors import SimkitError, UsageError
from simkit.plugins.loading import import_file

Maker: TypeAlias = Callable[..., object]


@dataclass(frozen=True, slots=True)
class ToolsFile:
    """What a file has: `functions` that are the tools, or a function `maker` that makes a tool server."""

    shown: str
    functions: tuple[Callable[..., Any], ...] = ()
    maker: Maker | None = None

    def server(self, policy: str) -> ToolServer[Any]:
        """A new tool server of `maker`, with the world's rules.

        Raises:
            UsageError: it makes none, or would not pass the rules on.
        """
        assert self.maker is not None
        name, parameters = f"{self.shown}: `{self.maker.__name__}`", inspect.signature(self.maker).parameters
        if set(parameters) - {"policy"}:
            raise UsageError(f"{name} makes the tool server and may have one parameter, `policy`")
        if policy and not parameters:
            raise UsageError(
                f"{name} would keep the rules of policy.md from agents; give it a parameter `policy`, and hand that on"
            )
        try:
            made = self.maker(policy) if parameters else self.maker()
        except SimkitError:
            raise
        except Exception as error:
            from simkit.core.boundary import described

            raise UsageError(f"{name} makes no tool server: {described(error)}") from error
        if not isinstance(made, ToolServer):
            raise UsageError(f"{name} returns a {type(made).__name__}, which is no tool server")
        return cast("ToolServer[Any]", made)


def read_tools(home: Path, name: str, shown: str) -> ToolsFile:
    """Read the file `name` in the folder of a world; `shown` stands for it in messages.

    Raises:
        UsageError: there is no such file, it fails to import, or it is not clear what the tools are.
    """
    found = tuple(_functions(import_file(Path(name), home)))
    makers = [function for function in found if _makes_a_server(function)]
    if not found:
        raise UsageError(f"{shown} has no public function, so there are no tools; add one")
    if not makers:
        return ToolsFile(shown, functions=found)
    if len(found) > 1:
        other = next(function.__name__ for function in found if function is not makers[0])
        raise UsageError(
            f"{shown}: `{makers[0].__name__}` makes the tool server, so `{other}` cannot be a tool beside it; remove "
            "one, or begin its name with `_`"
        )
    return ToolsFile(shown, maker=makers[0])


def _functions(module: ModuleType) -> Iterator[Callable[..., Any]]:
    for name, value in vars(module).items():
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__:
            yield value


def _makes_a_server(function: Callable[..., Any]) -> bool:
    """Whether a function says that it returns a tool server."""
    try:
        said: Any = get_type_hints(function).get("return")
    except Exception:  # annotations of an author, about which `FunctionTools` complains better
        return False
    kind = get_origin(said) or said
    return inspect.isclass(kind) and issubclass(kind, ToolServer)
