"""`simkit export`: a selection of examples, checked against held-out tasks, as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from simkit.data.examples import ExampleSet, Kind
from simkit.data.files import Columns, check_place, write, write_lines
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.store.store import Store

Format: TypeAlias = Literal["trl", "openai", "raw"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: rows in the file, and what was removed before, by reason (see `select`)."""

    path: Path
    kind: Kind
    written: int
    removed: Mapping[str, int]


def export(
    store: Store,
    kind: Kind,
    out: Path | str,
    selection: Selection | None = None,
    *,
    format: Format = "trl",
    origin: bool = False,
) -> Exported:
    """Write the examples of a selection to a file, replacing it once everything is written.

    Args:
        store: where the runs are.
        kind: `sft`, `kto` or `dpo`.
        out: a `.jsonl` or `.parquet` file in an existing folder; OpenAI takes `.jsonl` alone.
        selection: which examples; by default the harvest of the last run.
        format: `trl` for TRL's trainers (arguments of calls are objects), `openai` for files of the fine-tuning API,
            `raw` for the columns of `trl` with arguments as the text that the model wrote.
        origin: whether a further column says which run and task each row is from.

    Raises:
        UsageError: unknown kind, run or ending, a wrong condition, or a folder that is not there.
        StoreError: the file cannot be written.
    """
    path = Path(out)
    check_out(path, format)
    return save(select(store, kind, selection), path, format=format, origin=origin)


def check_out(path: Path, format: Format) -> None:
    """Make sure that a file of that format can be written there.

    Raises:
        UsageError: another ending, or a folder that is not there.
    """
    check_place(path, (".jsonl",) if format == "openai" else (".jsonl", ".parquet"))


def save(examples: ExampleSet, out: Path, *, format: Format = "trl", origin: bool = False) -> Exported:
    """Write examples in one of the formats.

    Raises:
        UsageError: the format has no such examples (KTO for OpenAI), or they break its limits.
        StoreError: the file cannot be written.
    """
    match format:
        case "trl":
            write(examples, out, Columns(origin))
        case "raw":
            write(examples, out, Columns(origin, "text"))
        case "openai":
            from simkit.data.openai_files import accepted, openai_rows

            if origin:
                raise UsageError("the fine-tuning API takes no column for the origin; leave it out, or write for TRL")
            examples = accepted(examples)
            write_lines(openai_rows(examples), out)
    return Exported(out, examples.kind, len(examples), examples.removed)
