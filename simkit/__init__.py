"""simkit: a conversation simulator for people who evaluate and train tool-using dialogue agents.

The public names are listed once, in `__init__.pyi`. Each is imported on first use, so that `import simkit` and the
command line start quickly.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

# In a checkout the rooms (agents, users, ...) stand beside this folder; installed, they are inside it.
_checkout = Path(__file__).parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "agents" / "__init__.py").is_file():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = _version()
    elif name == "__all__":
        value = sorted(_modules())
    elif name.startswith("_") or name not in (modules := _modules()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__))
    else:
        value = getattr(import_module(modules[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_modules(), "__version__"])


def _modules() -> dict[str, str]:
    """The module of each public name, from the stub file that type checkers read."""
    import re

    stub = Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
    lines = re.findall(r"^from (\S+) import (\w+) as \2$", stub, re.MULTILINE)
    return {name: module for module, name in lines}


def _version() -> str:
    """The version of the installed distribution, `unknown` in a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("josh-simkit")
    except PackageNotFoundError:
        return "unknown"
