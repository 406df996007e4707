"""Resolution of relative file names of components: each name is relative to the place where it was written.

Names on the command line are relative to the current folder. Names in a file (the default component of a world, the
default of a recipe's flag) are relative to the folder of that file. Names that a run has recorded are relative to the
folder where the run was started.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from simkit.errors import UsageError
from simkit.plugins.loading import current_folder, parse_reference

STARTED_IN, NAMED_IN = "started_in", "named_in"
"""Configuration keys of the folder where a run was started, and of the folders of names relative to another one."""

FILES = "files"
"""Configuration key of the digests of the Python files and folders that it names."""

TASKS = "tasks.yaml"
"""The file by which the folder of a world is known."""

WORLD_SUFFIXES = frozenset({".py", ".md", ".yaml", ".sql", ".json", ".sqlite", ".sqlite3", ".db"})
"""Endings of the files that a world in a folder may be made of."""


@dataclass(frozen=True, slots=True)
class BaseFolders:
    """Base folders of relative file names.

    Attributes:
        named: base folder by name, for names with a known one.
        folder: base folder of all other names; None for the current folder.
    """

    named: Mapping[str, Path] = field(default_factory=dict[str, Path])
    folder: Path | None = None

    @classmethod
    def recorded(cls, config: Mapping[str, Any], folder: Path | None = None) -> BaseFolders:
        """Base folders of the names in the configuration of a run; `folder` applies to names that are not in it.

        A folder that no longer exists is left out: if the project was moved, its files are found from its new folder.
        """
        home = _folder(config.get(STARTED_IN)) or Path()
        elsewhere = cast("Mapping[str, object]", config.get(NAMED_IN) or {})
        named = dict.fromkeys(_texts(config), home)
        named |= {name: found for name, place in elsewhere.items() if (found := _folder(place)) is not None}
        return cls(named, folder)

    @classmethod
    def given(cls, given: Iterable[str], written: Iterable[str], folder: Path | None) -> BaseFolders:
        """Base folders for a command: names given on the command line, and names written in a recipe file in `folder`.

        Raises:
            UsageError: a given name and a written name denote two different files, so one of them would not be found;
                or the current folder no longer exists.
        """
        here, given = current_folder(), tuple(given)
        defaults = {name: folder for name in written if folder is not None}
        for name in filter(python_file, given):
            file = python_file(name)
            twins = [place / file for other, place in defaults.items() if python_file(other) == file]
            own = here / file
            if os.path.isfile(own) and any(os.path.isfile(twin) and not twin.samefile(own) for twin in twins):
                raise UsageError(
                    f"`{name}` is a file of the current folder, and the recipe means {twins[0]} by the same name; give "
                    f"the whole path: {own}"
                )
        return cls({**defaults, **dict.fromkeys(given, here)}, folder)

    def of(self, name: str) -> Path | None:
        """Base folder of a name; None for the current folder. Added options make no difference."""
        found = self.named.get(name)
        if found is not None:
            return found
        target = _target(name)
        return next((place for other, place in self.named.items() if _target(other) == target), self.folder)

    def absolute(self, name: str) -> str:
        """A name with the full path of its file; a name without a file is returned unchanged."""
        folder, options = self.of(name), name.partition(",")[1:]
        return name if folder is None or not python_file(name) else f"{folder / _target(name)}{''.join(options)}"

    def digests(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Digests of the Python files and the folders of worlds that a configuration names, by path.

        They are named as in `my_agent.py:Agent,option=1` and `./shop`.
        """
        found: dict[str, str] = {}
        for name in _texts(config):
            file = python_file(name)
            path = (self.of(name) or Path()) / file
            if file and os.path.isfile(path):
                found[str(Path(file))] = sha256(path.read_bytes()).hexdigest()[:16]
            elif files := world_files((self.of(name) or Path()) / _target(name)):
                found[str(Path(_target(name)))] = _digest_of(files)
        return found

    def to_json(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Configuration entries with which `recorded` finds the files of a run from any folder.

        Raises:
            UsageError: the current folder no longer exists.
        """
        here = current_folder()
        elsewhere = {name: str(place) for name in _texts(config) if (place := self.named.get(name)) not in (None, here)}
        return {STARTED_IN: str(here), **({NAMED_IN: elsewhere} if elsewhere else {})}


def world_files(folder: Path) -> list[Path]:
    """The files that a world in a folder is made of, sorted; empty for any other folder."""
    try:
        if not (folder / TASKS).is_file():
            return []
    except (OSError, ValueError):  # no name of a file at all
        return []
    found = [path for path in (*folder.iterdir(), *folder.glob("[!._]*/*")) if path.suffix in WORLD_SUFFIXES]
    return sorted(path for path in found if path.is_file() and not (path.parent / "simkit.duckdb").exists())


def _digest_of(files: Iterable[Path]) -> str:
    found = sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def folder_of(owner: object, attribute: str) -> Path | None:
    """Folder of the file that defines an attribute of an object; None if there is no file.

    For an inherited attribute, it is the file of the class that defines it.
    """
    classes = type(owner).__mro__
    own = attribute in getattr(owner, "__dict__", {})
    writer = classes[0] if own else next((each for each in classes if attribute in vars(each)), classes[0])
    return folder_of_module(writer.__module__)


def folder_of_module(name: str) -> Path | None:
    """Folder of a module's file; None if the module has no file."""
    module = sys.modules.get(name)
    file = None if module is None else inspect.getattr_static(module, "__file__", None)
    return Path(file).absolute().parent if isinstance(file, str) else None


def python_file(name: str) -> str:
    """The Python file in `path/to/file.py:Class,option=1` as written; empty if the name contains none."""
    target = _target(name) if ".py" in name else ""
    place = target if target.endswith(".py") else target.rpartition(":")[0]
    return place if place.endswith(".py") else ""


def _target(name: str) -> str:
    try:
        return parse_reference(name).target
    except UsageError:
        return name


def _texts(config: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in config.values() if isinstance(value, str))


def same_file(one: str, here: Path, other: str, there: Path) -> bool:
    """Whether two names, each relative to a folder, denote the same file and, for components, the same object in it."""
    files = [
        Path(os.path.normpath(folder / (python_file(name) or name))) for name, folder in ((one, here), (other, there))
    ]
    rests = [name[len(python_file(name)) :] if python_file(name) else "" for name in (one, other)]
    return files[0] == files[1] and rests[0] == rests[1]


def _folder(place: object) -> Path | None:
    return Path(place) if isinstance(place, str) and Path(place).is_dir() else None
