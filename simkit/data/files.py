"""Files of training examples, and TRL's dataset of them, in which no field is ever filled up with nulls.

JSON lines hold each message as an object in the OpenAI chat form; parquet and `datasets` hold lists of JSON values (not
structs, which would give each message every field of all the others, as nulls that chat templates take for values).
`datasets` >= 4.7, which TRL requires, hands the trainer the same objects as before.

Arguments of calls are objects in what TRL reads: most chat templates write them with `tojson`, which would put the text
that the model wrote into quotes once more. Text that is no JSON object stays text.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import orjson

from simkit.core.messages import ToolCall
from simkit.data.examples import Example, ExampleSet, Kind
from simkit.errors import InvalidArguments, StoreError, UsageError
from simkit.plugins.extras import require
from simkit.store.files import scratch_folder

LISTS: dict[Kind, tuple[str, ...]] = {
    "sft": ("messages",),
    "kto": ("prompt", "completion"),
    "dpo": ("prompt", "chosen", "rejected"),
}

MESSAGES = frozenset({"messages", "prompt", "completion", "chosen", "rejected"})
MAX_ROW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Columns:
    """What rows hold besides the examples: `origin`, and `arguments` as objects (for TRL) or as the text they were."""

    origin: bool = False
    arguments: Literal["object", "text"] = "object"


PLAIN = Columns()


def write(examples: ExampleSet, path: Path | str, columns: Columns = PLAIN) -> Path:
    """Write a `.jsonl` or `.parquet` file, replacing it once everything is written, and return its path.

    Columns: `messages` (sft), `prompt`, `completion`, `label` (kto) or `prompt`, `chosen`, `rejected` (dpo), and
    `tools`, null for an agent without tools; with an origin another one, which says run, task, trial, world and split.

    Raises:
        UsageError: another ending, or a folder that is not there.
        StoreError: the file cannot be written.
    """
    path = Path(path)
    check_place(path)
    with replacing(path) as unfinished:
        if path.suffix == ".parquet":
            _write_parquet(examples, unfinished, columns)
        else:
            _write_rows((row_of(example, columns) for example in examples), unfinished)
    return path


def write_lines(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as JSON lines, replacing the file once everything is written.

    Raises:
        UsageError: another ending than .jsonl, or a folder that is not there.
        StoreError: the file cannot be written.
    """
    check_place(path, (".jsonl",))
    with replacing(path) as unfinished:
        _write_rows(rows, unfinished)


def check_place(path: Path, endings: tuple[str, ...] = (".jsonl", ".parquet")) -> None:
    """Make sure that a file can be written there, before any work is done.

    Raises:
        UsageError: another ending, or a folder that is not there.
    """
    if path.suffix not in endings:
        known = " or ".join(endings)
        raise UsageError(f"{path} has the ending {path.suffix!r}; name a file that ends in {known}")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; make it first, or write {path.name} elsewhere")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another file") from error


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A file beside `path` that takes its place when the body is done, and is removed when it fails.

    Raises:
        StoreError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name[:100]}.{os.getpid()}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)  # what a killed process left, or a link that somebody has planted
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        yield unfinished
        unfinished.replace(path)
    except (OSError, duckdb.IOException) as error:
        raise StoreError(
            f"{path} cannot be written: {error}. Check the disk and rights, or name another file"
        ) from error
    finally:
        with suppress(OSError):  # on a read-only disk even removing what is not there fails
            unfinished.unlink(missing_ok=True)


def row_of(example: Example, columns: Columns = PLAIN) -> dict[str, Any]:
    """The columns of an example, as values that JSON has."""
    row = example.row()
    if columns.arguments == "object":
        row = {name: _with_objects(value) if name in MESSAGES else value for name, value in row.items()}
    return {**row, "origin": example.origin.to_json()} if columns.origin else row


def _with_objects(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    try:
        arguments = ToolCall.model_validate(call).parse_arguments()
    except InvalidArguments:
        return call
    return {**call, "function": {**call["function"], "arguments": arguments}}


def dataset_of(examples: ExampleSet) -> Any:
    """The set as a `datasets.Dataset` whose messages and tools are JSON values: nothing is filled up.

    Raises:
        UsageError: `datasets` is not installed, or is too old to know JSON.
    """
    datasets = require("datasets", "train")
    if not hasattr(datasets, "Json"):
        raise UsageError(
            f"datasets {datasets.__version__} has no columns of JSON and would fill missing arguments with nulls; "
            "pip install 'datasets>=4.7'"
        )
    rows = [row_of(example) for example in examples]
    names = tuple(dict.fromkeys(name for row in rows for name in row)) or (*LISTS[examples.kind], "tools")
    of_json = datasets.List(datasets.Json())
    features = {name: datasets.Value("bool") if name == "label" else of_json for name in names}
    columns = {name: [row.get(name) for row in rows] for name in names}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _write_rows(rows: Iterable[dict[str, Any]], out: Path) -> None:
    with out.open("wb") as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _write_parquet(examples: ExampleSet, out: Path, columns: Columns) -> None:
    """By way of JSON lines, which DuckDB reads with the types that are told to it."""
    types = dict.fromkeys((*LISTS[examples.kind], "tools"), "JSON[]")
    types |= {"label": "BOOLEAN"} if examples.kind == "kto" else {}
    types |= {"origin": "JSON"} if columns.origin else {}
    named = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    options = f"format='newline_delimited', columns={{{named}}}, maximum_object_size={MAX_ROW_BYTES}"
    with scratch_folder() as scratch, duckdb.connect() as connection:
        lines, made = scratch / "lines", scratch / "rows.parquet"
        _write_rows((row_of(example, columns) for example in examples), lines)
        source = f"read_json('{_quoted(lines)}', {options})"
        connection.execute(f"COPY (FROM {source}) TO '{_quoted(made)}' (FORMAT parquet, COMPRESSION zstd)")
        shutil.copyfile(made, out)  # DuckDB reads some names of files as patterns and addresses


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
