"""The folder that a new world begins with."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from simkit.errors import UsageError, reason

FILES: Final = ("tasks.yaml", "tools.py", "data/start.sql", "policy.md", "test_world.py")
"""The files of the template, in the order in which to read them."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def init_world(folder: Path) -> tuple[Path, ...]:
    """Write a small world that can be played, and return its files. Its name is that of the folder.

    Raises:
        UsageError: the folder exists and is not empty, has a name that no world can have, or cannot be written.
    """
    name = folder.resolve().name
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"`{name}` cannot be the name of a world; use letters, digits, `-` and `_`")
    template = files("simkit.authoring") / "template"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} exists and is not empty; choose another name")
        for file in FILES:
            target = folder / _renamed(file, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(template.joinpath(*file.split("/")).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {reason(error)}") from error
    return tuple(folder / _renamed(file, name) for file in FILES)


def _renamed(file: str, name: str) -> str:
    """The test is named for the world, because pytest wants names of tests to differ."""
    return f"test_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.py" if file == "test_world.py" else file
