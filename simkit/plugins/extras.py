"""Libraries that come with an extra of simkit: imported on demand, with a helpful error if they are missing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from simkit.errors import UsageError

DISTRIBUTION = "josh-simkit"
EXTRA_OF = {
    "agents": "openai-agents",
    "langchain": "langgraph",
    "langchain_openai": "langgraph",
    "langgraph": "langgraph",
    "matplotlib": "plots",
    "mcp": "mcp",
    "openai": "finetune",
    "pandas": "frames",
    "peft": "train",
    "polars": "frames",
    "pyarrow": "frames",
    "pydantic_ai": "pydantic-ai",
    "torch": "local",
    "transformers": "local",
    "trl": "train",
}
"""The extra that brings a module which components of users import."""

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


@contextmanager
def without_bars() -> Generator[None]:
    """Suppress the progress bars that libraries draw on stderr.

    Everything else written to stderr is passed on. The display of a run does not go through `sys.stderr`.
    """
    with redirect_stderr(_WithoutBars(sys.stderr)):
        yield


class _WithoutBars(io.TextIOBase):
    """Drops the output of tqdm: each update begins with a carriage return, and the last ends with an empty line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        if text.strip() and not text.startswith("\r"):
            self._stream.write(text if text.endswith("\n") else f"{text}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False


def check_installed(extra: str, *modules: str) -> None:
    """Check that modules are installed, without importing them, before another process starts work that needs them.

    Raises:
        UsageError: a module is not installed; the message names the extra to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise _missing(module, extra)


def install_command(extra: str) -> str:
    """The command that installs an extra from the place where simkit itself was installed from (PEP 610)."""
    try:
        origin: dict[str, Any] = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, OSError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    if url.startswith("file://"):
        folder = url2pathname(urlsplit(url).path)
        place = folder if Path(folder, "pyproject.toml").is_file() else "."
        return f"pip install '{place}[{extra}]'" + (" in the clone of simkit" if place == "." else "")
    system = origin.get("vcs_info", {}).get("vcs")
    return f"pip install '{DISTRIBUTION}[{extra}]" + (f" @ {system}+{url}'" if system else "'")


def advice_on(error: BaseException) -> str:
    """What to do about a module that a user's file cannot import; empty for other errors."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    module = error.name.partition(".")[0]
    if module in sys.modules or find_spec(module) is not None:  # a part of something installed
        return ""
    extra = EXTRA_OF.get(module)
    return f"; {install_command(extra) if extra else f'install `{module}` beside simkit, with {sys.executable} -m pip'}"


def _missing(name: str, extra: str) -> UsageError:
    torch = f" (without a GPU, first: {CPU_TORCH})" if name == "torch" else ""
    return UsageError(f"this needs the package `{name}`, which is not installed; {install_command(extra)}{torch}")
