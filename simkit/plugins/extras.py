"""Libraries that come with an extra of simkit: imported when they are needed, named when they are missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from simkit.errors import UsageError

CPU_TORCH = "pip install torch==2.13.0+cpu --index-url https://download.pytorch.org/whl/cpu"
"""Keeps pip from taking the build for GPUs, of several gigabytes."""


def require(module: str, extra: str) -> Any:
    """The module, imported now; untyped, because type checkers need not have it either.

    Raises:
        UsageError: it, or something that it needs, is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(error.name or module, extra) from error


def check_installed(extra: str, *modules: str) -> None:
    """Look for modules without importing them, before work begins that another process needs them for.

    Raises:
        UsageError: one is not installed; the message names the extra that brings it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise _missing(module, extra)


def _missing(name: str, extra: str) -> UsageError:
    torch = f" (without a GPU, first: {CPU_TORCH})" if name == "torch" else ""
    return UsageError(
        f"this needs the package `{name}`, which is not installed; pip install 'josh-simkit[{extra}]'{torch}"
    )
