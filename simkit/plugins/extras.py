"""Libraries that come with an extra of simkit: imported on demand, with a helpful error if they are missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from simkit.errors import UsageError

CPU_TORCH = "pip install torch==2.13.0+cpu --index-url https://download.pytorch.org/whl/cpu"
"""Install command for the CPU build; by default pip installs the GPU build, which has several gigabytes."""


def require(module: str, extra: str) -> Any:
    """Import a module; untyped, because type checkers need not have it installed either.

    Raises:
        UsageError: the module or one of its dependencies is not installed; the message names the extra to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(error.name or module, extra) from error


def check_installed(extra: str, *modules: str) -> None:
    """Check that modules are installed, without importing them, before another process starts work that needs them.

    Raises:
        UsageError: a module is not installed; the message names the extra to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise _missing(module, extra)


def _missing(name: str, extra: str) -> UsageError:
    torch = f" (without a GPU, first: {CPU_TORCH})" if name == "torch" else ""
    return UsageError(
        f"this needs the package `{name}`, which is not installed; pip install 'josh-simkit[{extra}]'{torch}"
    )
