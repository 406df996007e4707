"""Training files from the harvest: SFT, KTO and DPO examples in the columns that TRL's trainers take.

Both formats hold the same values, and what a message lacks stays absent. In JSON lines every message is an object in
the OpenAI chat form and tool-call arguments are the text the model wrote. In parquet every list of messages is a list
of JSON values (parquet's own JSON type), not of structs: a struct would give each message every field of all the
others, filled with nulls that chat templates take for values. `datasets` >= 4.7, which TRL requires, reads that type
as `List(Json())` and hands the trainer the same objects as before.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import duckdb

from simkit.errors import StoreError, UsageError
from simkit.store.store import Store

ExportKind: TypeAlias = Literal["sft", "kto", "dpo"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: rows in the file, and what was removed before.

    `duplicates` counts repeated examples, `contradictions` undesirable messages that are desirable elsewhere with the
    same prompt (both belong to the KTO examples that DPO pairs are made of).
    """

    path: Path
    kind: ExportKind
    written: int
    duplicates: int
    contradictions: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the examples of a kind come from. `lists` are columns of JSON lists, `plain` the others."""

    view: str
    lists: tuple[str, ...]
    plain: tuple[str, ...]
    order: str
    counts: str

    @property
    def selected(self) -> str:
        """The query of the examples of one run."""
        lists = [f"CAST({name} AS JSON[]) AS {name}" for name in (*self.lists, "tools")]
        columns = ", ".join([*lists[:-1], *self.plain, lists[-1]])
        return f"SELECT {columns} FROM {self.view} WHERE run_id = ? ORDER BY {self.order}"


_PLACE = "task_id, trial, episode_id"


def _plan(kind: ExportKind) -> _Plan:
    match kind:
        case "sft":
            return _Plan("sft_examples", ("messages",), (), _PLACE, "sft_duplicates, 0")
        case "kto":
            order = f"{_PLACE}, seq, label DESC, path, CAST(completion AS VARCHAR)"
            return _Plan(
                "kto_examples", ("prompt", "completion"), ("label",), order, "kto_duplicates, kto_contradictions"
            )
        case "dpo":
            order = f"{_PLACE}, seq, path, CAST(chosen AS VARCHAR), CAST(rejected AS VARCHAR)"
            return _Plan("dpo_pairs", ("prompt", "chosen", "rejected"), (), order, "kto_duplicates, kto_contradictions")


def export(store: Store, kind: ExportKind, run: str, out: Path | str) -> Exported:
    """Write the examples of a run to a `.jsonl` or `.parquet` file, replacing it once everything is written.

    Args:
        store: where the run is.
        kind: `sft` (`messages`), `kto` (`prompt`, `completion`, `label`) or `dpo` (`prompt`, `chosen`, `rejected`);
            each with `tools`, the tool definitions (null for an agent without tools).
        run: id, name or beginning of it, or `last`.
        out: the file to write; its folder must exist.

    Raises:
        UsageError: unknown kind, run or ending, or a folder that is not there.
        StoreError: the file cannot be written.
    """
    path = Path(out)
    _check(kind, path)
    run_id = store.resolve(run).run_id
    plan = _plan(kind)
    removed = store.query(f"SELECT {plan.counts} FROM harvest_counts WHERE run_id = ?", [run_id]).rows[0]
    with _replacing(path) as unfinished:
        if path.suffix == ".parquet":
            written = _write_parquet(store, plan, run_id, unfinished)
        else:
            written = _write_lines(store, plan, run_id, unfinished)
    return Exported(path, kind, written, int(removed[0]), int(removed[1]))


def _check(kind: str, path: Path) -> None:
    if kind not in get_args(ExportKind):
        raise UsageError(f"{kind!r} cannot be exported; take one of {', '.join(get_args(ExportKind))}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"{path} has the ending {path.suffix!r}; name a file that ends in .jsonl or .parquet")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; make it first, or write {path.name} elsewhere")


@contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """A file beside `path` that takes its place when the body is done, and is removed when it fails."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    except (OSError, duckdb.IOException) as error:
        raise StoreError(
            f"{path} cannot be written: {error}. Check the disk and rights, or name another file"
        ) from error
    finally:
        with suppress(OSError):  # on a read-only disk even removing what is not there fails
            unfinished.unlink(missing_ok=True)


def _write_lines(store: Store, plan: _Plan, run_id: str, out: Path) -> int:
    found = store.query(plan.selected, [run_id], fresh=False)
    names = [(name, name in plan.lists or name == "tools") for name in found.columns]
    with out.open("w", encoding="utf-8") as file:
        for row in found.rows:
            parts = (f'"{name}":{_json(value, is_list)}' for (name, is_list), value in zip(names, row, strict=True))
            file.write("{" + ",".join(parts) + "}\n")
    return len(found.rows)


def _json(value: Any, is_list: bool) -> str:
    """A column's value as JSON; the items of lists are JSON already and go through as they are."""
    if value is None:
        return "null"
    if is_list:
        return "[" + ",".join(value) + "]"
    return "true" if value else "false"


def _write_parquet(store: Store, plan: _Plan, run_id: str, out: Path) -> int:
    quoted = str(out).replace("'", "''")
    copy = f"COPY ({plan.selected}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)"
    row = store.borrow(lambda connection: connection.execute(copy, [run_id]).fetchone())
    return int(row[0]) if row else 0
