"""The first state of a world from files: an SQL script, an SQLite database, or JSON documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson

from simkit.errors import DataMissing, UsageError, reason
from simkit.tools.database import Database
from simkit.tools.documents import Documents
from simkit.tools.drafts import DraftedState

DATABASES: Final = (".sqlite", ".sqlite3", ".db")


def read_data(place: Path, name: str, *, required: bool) -> DraftedState | None:
    """The state in a folder or a file, which is called `name` in messages; None if there is none.

    Raises:
        DataMissing: there is none, and it is required.
        DataCorrupt: a file is no SQLite database.
        UsageError: a file cannot be used, or it is not clear which one is the state.
    """
    if place.is_file():
        return _state([place], str(Path(name).parent))
    if not place.is_dir():
        if required:
            raise DataMissing(f"there is no {name}, which tasks.yaml names as the world's data")
        return None
    files = sorted(file for file in place.iterdir() if file.suffix.lower() in (".sql", ".json", *DATABASES))
    return _state(files, name) if files else None


def _state(files: list[Path], folder: str) -> DraftedState:
    """The state in files of a folder."""
    tabular = [file for file in files if file.suffix.lower() != ".json"]
    if tabular and len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UsageError(
            f"{folder} has {names}; a world's state is one database, one SQL script or some JSON documents: keep "
            "one kind"
        )
    if not tabular:
        return Documents.of(dict(_documents(files, folder)))
    file = tabular[0]
    if file.suffix.lower() in DATABASES:
        return Database.read(file)
    return Database.made_by(_text(file, folder), str(Path(folder) / file.name))


def _documents(files: Iterable[Path], folder: str) -> Iterable[tuple[str, Any]]:
    for file in files:
        try:
            text = _text(file, folder)
            orjson.loads(text)  # it is stricter, and says where a mistake is; but it rounds long numbers
            yield file.stem, json.loads(text, object_pairs_hook=_object)
        except orjson.JSONDecodeError as error:
            raise UsageError(
                f"{Path(folder) / file.name}:{error.lineno}:{error.colno} is not JSON: {error.msg}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{Path(folder) / file.name} cannot be used: {reason(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ.

    Raises:
        ValueError: a key occurs twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"an object has the key `{twice}` twice; remove one")
    return made


def _text(file: Path, folder: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{Path(folder) / file.name} cannot be read: {reason(error)}") from error
