"""Files of training examples, as `simkit export` writes them, and the dataset that TRL reads.

JSON lines hold each message as an object in the OpenAI chat form. Parquet and `datasets` hold lists of JSON values: as
structs, each message would get every field of all others, as nulls that chat templates take for values. `datasets` >=
4.7, which TRL requires, hands the trainer the same objects as before.

Arguments of calls are objects in what TRL reads: most chat templates write them with `tojson`, which would quote the
text that the model wrote once more. Text that is not a JSON object stays text.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb
import orjson

from simkit.core.messages import AssistantMessage, ToolCall, parse_call
from simkit.core.out_files import check_out_file
from simkit.data.examples import DpoExample, Example, ExampleSet, Kind, SftExample
from simkit.data.origins import NOWHERE, origin_file, origin_line
from simkit.data.reasoning import holds_field, reasoning_counts
from simkit.data.selection import Selection, select
from simkit.errors import StoreError, UsageError, reason
from simkit.plugins.extras import require
from simkit.store.files import scratch_folder
from simkit.store.store import Store

MESSAGES = frozenset({"messages", "prompt", "completion", "chosen", "rejected"})
_MAX_ROW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """Options of rows: a column `origin`, and `arguments` as objects (for TRL) or as the recorded text."""

    origin: bool = True
    arguments: Literal["object", "text"] = "object"


PLAIN = ColumnOptions(origin=False)


def write(examples: ExampleSet, path: Path | str, columns: ColumnOptions | None = None) -> Path:
    """Write a `.jsonl` or `.parquet` file and return its path; an existing file is replaced at the end.

    Columns: `messages` (sft; `prompt` and `completion` if an example has answers that are only context), `prompt`,
    `completion`, `label` (kto) or `prompt`, `chosen`, `rejected` (dpo), `tools`, null for an agent without tools, and
    `origin` (`ExampleOrigin.to_json`) unless `columns` leaves it out or no example has one.

    Raises:
        UsageError: another file extension, or a folder that does not exist.
        StoreError: the file cannot be written.
    """
    path, columns = Path(path), columns or ColumnOptions()
    columns = replace(columns, origin=columns.origin and any(example.origin != NOWHERE for example in examples))
    check_out_file(path, EXAMPLES)
    with replacing(path) as unfinished:
        if path.suffix == ".parquet":
            _write_parquet(examples, unfinished, columns)
        else:
            _write_rows(_rows(examples, columns), unfinished)
    return path


def _rows(examples: ExampleSet, columns: ColumnOptions = PLAIN) -> Iterator[dict[str, Any]]:
    """The rows of a set, which all have the same columns."""
    split = _messages_of(examples) == SftExample.columns
    return (row_of(_split(example) if split else example, columns) for example in examples)


def _split(example: Example) -> Example:
    """A demonstration divided before its first answer if the whole conversation is learned."""
    if not isinstance(example, SftExample) or example.context:
        return example
    answers = (n for n, message in enumerate(example.messages) if isinstance(message, AssistantMessage))
    return replace(example, context=next(answers, len(example.messages)))


def _messages_of(examples: ExampleSet) -> tuple[str, ...]:
    """The columns of messages in the rows of a set."""
    if examples.kind == "dpo":
        return DpoExample.columns
    whole = examples.kind == "sft" and not any(example.context for example in examples.demonstrations)
    return ("messages",) if whole else SftExample.columns


def write_lines(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as JSON lines; an existing file is replaced at the end.

    Raises:
        UsageError: another file extension than .jsonl, or a folder that does not exist.
        StoreError: the file cannot be written.
    """
    check_out_file(path, (".jsonl",))
    with replacing(path) as unfinished:
        _write_rows(rows, unfinished)


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A file beside `path` that replaces it when the body succeeds, and is removed when the body fails.

    Raises:
        StoreError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name[:100]}.{os.getpid()}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)  # left by a killed process, or a planted link
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        yield unfinished
        unfinished.replace(path)
    except (OSError, duckdb.IOException) as error:
        raise StoreError(
            f"{path} cannot be written: {reason(error)}. Check the disk and the permissions, or name another file"
        ) from error
    finally:
        with suppress(OSError):  # on a read-only disk even removing a missing file fails
            unfinished.unlink(missing_ok=True)


def row_of(example: Example, columns: ColumnOptions = PLAIN) -> dict[str, Any]:
    """Columns of an example, as JSON values."""
    row = example.row()
    for message in (each for name in MESSAGES & row.keys() for each in row[name] if columns.arguments == "object"):
        for call in message.get("tool_calls") or ():
            arguments = parse_call(ToolCall.model_validate(call))
            call["function"]["arguments"] = call["function"]["arguments"] if arguments is None else arguments
    return {**row, "origin": example.origin.to_json()} if columns.origin else row


def dataset_of(examples: ExampleSet) -> Any:
    """The set as a `datasets.Dataset` whose messages and tools are JSON values, so that no field is filled with null.

    Raises:
        UsageError: `datasets` is not installed, or its version has no JSON columns.
    """
    datasets = require("datasets", "train")
    if not hasattr(datasets, "Json"):
        raise UsageError(
            f"datasets {datasets.__version__} has no JSON columns and would fill missing arguments with null; "
            "pip install 'datasets>=4.7'"
        )
    rows = list(_rows(examples))
    names = [*rows[0]] if rows else [*_messages_of(examples), "tools"]
    of_json = datasets.List(datasets.Json())
    features = {name: datasets.Value("bool") if name == "label" else of_json for name in names}
    columns = {name: [row.get(name) for row in rows] for name in names}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _write_rows(rows: Iterable[dict[str, Any]], out: Path) -> None:
    with out.open("wb") as file:
        file.writelines(_line(row) for row in rows)


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits, or half of a character that a model wrote
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode() + b"\n"


def _write_parquet(examples: ExampleSet, out: Path, columns: ColumnOptions) -> None:
    """Write JSON lines first, which DuckDB reads with the given column types."""
    types = dict.fromkeys((*_messages_of(examples), "tools"), "JSON[]")
    types |= {"label": "BOOLEAN"} if examples.kind == "kto" else {}
    types |= {"origin": "JSON"} if columns.origin else {}
    named = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    options = f"format='newline_delimited', columns={{{named}}}, maximum_object_size={_MAX_ROW_BYTES}"
    with scratch_folder() as scratch, duckdb.connect() as connection:
        lines, made = scratch / "lines", scratch / "rows.parquet"
        _write_rows(_rows(examples, columns), lines)
        source = f"read_json('{_quoted(lines)}', {options})"
        connection.execute(f"COPY (FROM {source}) TO '{_quoted(made)}' (FORMAT parquet, COMPRESSION zstd)")
        shutil.copyfile(made, out)  # DuckDB interprets some file names as patterns and URLs


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


EXAMPLES = (".jsonl", ".parquet")
"""Extensions of a file of examples."""

Format: TypeAlias = Literal["trl", "openai", "raw"]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Result of an export.

    Attributes:
        written: rows in the file; `reasoning` of them have reasoning in their answers.
        removed: examples removed before, by reason (see `select`).
        reasoning_left_out: examples in whose answers reasoning was left out.
    """

    path: Path
    kind: Kind
    written: int
    removed: Mapping[str, int]
    reasoning: int = 0
    reasoning_left_out: int = 0


def export(
    store: Store,
    kind: Kind,
    out: Path | str,
    selection: Selection | None = None,
    *,
    format: Format = "trl",
    origin: bool = True,
) -> ExportResult:
    """Write the examples of a selection to a file; an existing file is replaced at the end.

    Args:
        store: the store of the runs.
        kind: `sft`, `kto` or `dpo`.
        out: a `.jsonl` or `.parquet` file in an existing folder; OpenAI accepts only `.jsonl`.
        selection: the examples to take; by default the harvest of the last run.
        format: `trl` for TRL's trainers (arguments of calls are objects), `openai` for files of the fine-tuning API,
            `raw` for the columns of `trl` with arguments as the text that the model wrote.
        origin: name run, episode, task, model, reward and more of each row (`ExampleOrigin`): in a column, or for
            `openai` in a file beside this one (`train.origin.jsonl`).

    Raises:
        UsageError: unknown kind, run or extension, an invalid condition, or a folder that does not exist.
        StoreError: the file cannot be written.
    """
    path = Path(out)
    check_out(path, format)
    return save(select(store, kind, selection), path, format=format, origin=origin)


def check_out(path: Path, format: Format) -> None:
    """Check that a file of this format can be written.

    Raises:
        UsageError: another file extension, or a folder that does not exist.
    """
    check_out_file(path, (".jsonl",) if format == "openai" else EXAMPLES)


def save(examples: ExampleSet, out: Path, *, format: Format = "trl", origin: bool = True) -> ExportResult:
    """Write examples in one of the formats.

    Raises:
        UsageError: the format does not support this kind (KTO for OpenAI), or the examples exceed its limits.
        StoreError: the file cannot be written.
    """
    if format != "openai":
        write(examples, out, ColumnOptions(origin, "object" if format == "trl" else "text"))
    else:
        from simkit.data.openai_files import accepted, openai_rows

        examples = accepted(examples)
        rows = list(openai_rows(examples))
        write_lines(rows, out)
        _write_origins(examples if origin else (), rows, origin_file(out))
    held, left_out = reasoning_counts(examples)
    lost = sum(map(holds_field, examples)) if format == "openai" else 0
    return ExportResult(out, examples.kind, len(examples), examples.removed, held - lost, left_out + lost)


def _write_origins(examples: Iterable[Example], rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write the file of origins; without any, remove the one of an earlier export."""
    lines = [origin_line(row, each.origin) for each, row in zip(examples, rows, strict=False) if each.origin != NOWHERE]
    if lines:
        write_lines(lines, path)
    else:
        path.unlink(missing_ok=True)
