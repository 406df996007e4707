"""Rows of data files: JSON lines, JSON lists, parquet and folders of `datasets`, in the encodings that programs write.

Text may begin with a byte order mark (UTF-8, UTF-16 or UTF-32), have any line ends, and be compressed with gzip.
Integers keep all their digits. Lone surrogates, as models write them when they are cut off inside an emoji, become the
replacement character, because no tokenizer accepts them; such rows are marked.
"""

from __future__ import annotations

import codecs
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import orjson

from simkit.core.values import without_surrogates
from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.plugins.extras import require

_LONG = re.compile(rb"\d{19}")  # a number that may not fit into 64 bits: orjson would make a float of it


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file.

    Attributes:
        place: its location in the file: `line 3`, `item 0` (of a JSON list) or `row 0` (of a table).
        value: its JSON value.
        repaired: it contained lone surrogates, which were replaced.
    """

    place: str
    value: Any
    repaired: bool = False


def file_rows(path: Path) -> Iterator[FileRow]:
    """Rows of a `.jsonl`, `.json` (each also `.gz`) or `.parquet` file, or of a folder that `datasets` saved.

    Raises:
        DataMissing: there is no such file.
        DataCorrupt: a row cannot be read; the message says which and why.
        UsageError: another kind of file, or a folder without the extra that reads it.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataMissing(f"{path} does not exist; `simkit export` writes such a file from a run")
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _parquet(path)
    if not name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json")):
        raise UsageError(
            f"{path} has the extension {path.suffix!r}; give a .jsonl, .json (also .gz), .parquet, .zip or .whl file"
        )
    return _text(path, whole=".json" in path.suffixes[-2:])


def _text(path: Path, *, whole: bool) -> Iterator[FileRow]:
    """Rows of a text file: one per line, the items of one JSON list, or (`whole`) one object over several lines."""
    data = utf8(_bytes(path), path)
    if data.lstrip().startswith(b"["):
        items, repaired = parsed(data, f"{path}")
        yield from (FileRow(f"item {number}", row, repaired) for number, row in enumerate(items))
        return
    single: tuple[Any, bool] | None = None
    with suppress(DataCorrupt):
        single = parsed(data, "") if whole else None
    if single is not None:
        yield FileRow("item 0", *single)
        return
    for number, line in enumerate(data.splitlines(), 1):
        if text := line.removeprefix(codecs.BOM_UTF8).strip():  # a mark in the middle: files were concatenated
            yield FileRow(f"line {number}", *parsed(text, f"line {number} of {path}"))


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if path.name.lower().endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataCorrupt(f"{path} is damaged or not compressed with gzip ({error}); write it again") from error


def utf8(data: bytes, path: Path) -> bytes:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        DataCorrupt: it is in another encoding that no mark names, or not what its mark says.
    """
    name = json.detect_encoding(data)
    if name.startswith("utf-8"):
        return data.removeprefix(codecs.BOM_UTF8)
    if name not in ("utf-16", "utf-32"):
        raise DataCorrupt(f"{path} looks like UTF-16 or UTF-32 text without a byte order mark; save it as UTF-8")
    try:
        return data.decode(name, "surrogatepass").encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DataCorrupt(f"{path} is damaged {name.upper()} text ({error}); save it as UTF-8") from error


def parsed(data: bytes | str, place: str) -> tuple[Any, bool]:
    """A JSON text with exact integers, and whether lone surrogates had to be replaced in it.

    Raises:
        DataCorrupt: it is not JSON in UTF-8.
    """
    text = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    try:
        if not _LONG.search(text):
            return orjson.loads(text), False
    except orjson.JSONDecodeError:
        pass  # lone surrogates, or an error that the slower parser describes as well
    try:
        value = json.loads(text.decode("utf-8", "surrogatepass"), parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise DataCorrupt(
            f"{place} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataCorrupt(f"{place} is not valid JSON ({error}); write one JSON object per line") from error
    repaired = without_surrogates(value)
    return repaired, repaired != value


def unpacked(value: Any, place: str, start: str = "") -> Any:
    """A JSON value that may be given as its text, as in JSON columns; texts with another `start` stay.

    Raises:
        DataCorrupt: the text is not JSON.
    """
    return parsed(value, place)[0] if isinstance(value, str) and value.lstrip().startswith(start) else value


def as_object(value: Any, *names: str) -> Mapping[str, Any]:
    """A JSON value, or the part of it at a path of names, as an object; empty if it is another value."""
    found: Mapping[str, Any] = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
    return as_object(found.get(names[0]), *names[1:]) if names else found


def as_list(value: Any) -> Sequence[Any]:
    """A JSON value as a list; empty if it is another value."""
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()


def as_objects(value: Any) -> list[Mapping[str, Any]]:
    """The items of a JSON list as objects; see `as_object`."""
    return [as_object(each) for each in as_list(value)]


def as_number(value: Any) -> float | None:
    """A JSON number or boolean as a finite number; None if it is another value."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a JSON number")
    return number


def _parquet(path: Path) -> Iterator[FileRow]:
    try:
        with duckdb.connect() as connection:
            found = connection.execute("SELECT CAST(to_json(t) AS VARCHAR) FROM read_parquet(?) t", [str(path)])
            rows = found.fetchall()
    except duckdb.Error as error:
        raise DataCorrupt(f"{path} cannot be read as parquet ({str(error).splitlines()[0]})") from error
    for number, (text,) in enumerate(rows):
        yield FileRow(f"row {number}", *parsed(text, f"row {number} of {path}"))


def _folder(path: Path) -> Iterator[FileRow]:
    """Rows of a folder that `Dataset.save_to_disk` of the package `datasets` wrote."""
    if (path / "dataset_dict.json").is_file():
        names = ", ".join(sorted(each.name for each in path.iterdir() if each.is_dir()))
        raise UsageError(f"{path} holds several data sets; give the folder of one of them: {names}")
    if not (path / "dataset_info.json").is_file():
        raise UsageError(f"{path} is a folder, but not one that `datasets` saved; give a file in it")
    datasets = require("datasets", "train")
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # pyarrow's errors, which are no dependency
        raise DataCorrupt(f"{path} cannot be read as a data set ({error})") from error
    for number, row in enumerate(saved):
        yield FileRow(f"row {number}", row)
