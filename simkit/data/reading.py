"""Reading training examples from files: those of `simkit export`, TRL-style files, OpenAI's, and the JOSH release.

The columns of a row determine its kind. Messages are kept as written, with two changes that lose nothing: arguments
given as objects become JSON text, and null fields of a message (files of structs have them) are dropped, except a null
content.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import duckdb
import orjson
from pydantic import ValidationError

from simkit.core.messages import Message, ToolSpec, parse_message
from simkit.data.examples import Demonstration, Example, ExampleSet, Judged, Kind, Origin, Pair, kind_of
from simkit.errors import DataCorrupt, DataMissing, UsageError

Row = Mapping[str, Any]

SHAPES_KNOWN = (
    "messages; prompt and completion (and label); prompt, chosen and rejected; or input, preferred_output and "
    "non_preferred_output"
)


def read_examples(path: Path | str) -> ExampleSet:
    """Read a `.jsonl`, `.json` or `.parquet` file, or the JOSH release (its wheel, or the zip file in it).

    Raises:
        DataMissing: the file does not exist.
        DataCorrupt: a row cannot be read; the message says which and why.
        UsageError: another kind of file, a file without rows, or with rows of several kinds.
    """
    path = Path(path)
    if not path.is_file():
        raise DataMissing(f"{path} does not exist; `simkit export` writes such a file from a run")
    match path.suffix:
        case ".zip" | ".whl":
            from simkit.data.release import read_release

            return read_release(path)
        case ".parquet":
            rows = _parquet(path)
        case ".jsonl" | ".json":
            rows = _lines(path)
        case other:
            raise UsageError(f"{path} has the extension {other!r}; give a .jsonl, .json, .parquet, .zip or .whl file")
    return _set_of([(place, _example(row, place)) for place, row in rows], path)


def _set_of(found: Sequence[tuple[str, Example]], path: Path) -> ExampleSet:
    if not found:
        raise UsageError(f"{path} has no rows; give a file with at least one example")
    kinds: list[Kind] = [kind_of(example) for _, example in found]
    other = next((place for (place, _), kind in zip(found, kinds, strict=True) if kind != kinds[0]), None)
    if other is not None:
        raise UsageError(f"{other} is not of the same kind as the rows before ({kinds[0]}); split the file by kind")
    return ExampleSet(kinds[0], tuple(example for _, example in found))


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows with their locations: one per line, or the items of one JSON list."""
    data = path.read_bytes()
    if path.suffix == ".json" and data.lstrip().startswith(b"["):
        items = cast("list[Row]", _json(data, f"{path}"))
        yield from ((f"item {number} of {path}", row) for number, row in enumerate(items))
        return
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            place = f"line {number} of {path}"
            yield place, _json(line, place)


def _json(text: bytes, place: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataCorrupt(f"{place} is not valid JSON ({error}); write one JSON object per line") from error


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with duckdb.connect() as connection:
            found = connection.execute("SELECT CAST(to_json(t) AS VARCHAR) FROM read_parquet(?) t", [str(path)])
            rows = found.fetchall()
    except duckdb.Error as error:
        raise DataCorrupt(f"{path} cannot be read as parquet ({str(error).splitlines()[0]})") from error
    for number, (text,) in enumerate(rows):
        yield f"row {number} of {path}", orjson.loads(text)


def _example(row: Row, place: str) -> Example:
    if not isinstance(cast("object", row), Mapping):
        raise DataCorrupt(f"{place} is not a JSON object; each row is an object with the columns {SHAPES_KNOWN}")
    try:
        return _shaped(row, place)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in wrong["loc"])
        raise DataCorrupt(f"{place}: {field or 'a message'} is wrong ({wrong['msg']})") from error


def _shaped(row: Row, place: str) -> Example:
    tools, origin = _tools(row.get("tools"), place), _origin(row.get("origin"))
    if row.get("preferred_output") is not None:
        return _preference(row, place)
    if row.get("chosen") is not None and row.get("rejected") is not None:
        return _pair(row, tools, origin, place)
    if row.get("completion") is not None:
        prompt, completion = _messages(row, "prompt", place), _messages(row, "completion", place)
        if row.get("label") is None:
            both = (*prompt, *completion)
            return Demonstration(messages=both, context=len(prompt), tools=tools, origin=origin)
        return Judged(prompt=prompt, completion=completion, label=bool(row["label"]), tools=tools, origin=origin)
    if row.get("messages") is not None:
        return Demonstration(messages=_messages(row, "messages", place), tools=tools, origin=origin)
    raise DataCorrupt(f"{place} has the columns {', '.join(row) or 'none'}; it needs {SHAPES_KNOWN}")


def _pair(row: Row, tools: tuple[ToolSpec, ...], origin: Origin, place: str) -> Pair:
    """A pair; if it has no prompt, the common beginning of both conversations is the prompt, as in TRL."""
    chosen, rejected = _messages(row, "chosen", place), _messages(row, "rejected", place)
    if row.get("prompt") is not None:
        prompt = _messages(row, "prompt", place)
    else:
        prompt = tuple(a for a, _ in takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)))
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return Pair(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools, origin=origin)


def _preference(row: Row, place: str) -> Pair:
    """A row of OpenAI's preference format."""
    given = cast("Row", row.get("input") or {})
    return Pair(
        prompt=_messages(given, "messages", place),
        chosen=_messages(row, "preferred_output", place),
        rejected=_messages(row, "non_preferred_output", place),
        tools=_tools(given.get("tools"), place),
    )


def _messages(row: Row, column: str, place: str) -> tuple[Message, ...]:
    value = row.get(column)
    if isinstance(value, str):
        raise DataCorrupt(
            f'{place}: `{column}` is text; write a list of messages like [{{"role": "user", "content": "..."}}]'
        )
    if not isinstance(value, list):
        raise DataCorrupt(f"{place}: `{column}` is missing or not a list of messages")
    return tuple(parse_message(_normalised(cast("Row", each), place)) for each in _unpacked(cast("list[Any]", value)))


def _unpacked(items: Iterable[Any]) -> Iterator[Any]:
    """Items, parsed if they are JSON text, as in JSON columns."""
    for item in items:
        yield orjson.loads(item) if isinstance(item, str) else item


def _normalised(message: Row, place: str) -> Row:
    if not isinstance(cast("object", message), Mapping):
        raise DataCorrupt(f"{place}: a message is {message!r:.60}; it must be an object with role and content")
    kept = {name: value for name, value in message.items() if value is not None or name == "content"}
    if kept.get("role") != "assistant" and kept.get("content", "") is None:
        kept["content"] = ""
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [_call(cast("Row", call), number) for number, call in enumerate(calls)]
    return kept


def _call(call: Row, number: int) -> Row:
    """A call in the OpenAI form; TRL's examples omit id and type and give arguments as objects."""
    function = cast("Row", call.get("function") or {name: call.get(name) for name in ("name", "arguments")})
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": f"c{number}", "type": "function", **call, "function": {**function, "arguments": text}}


def _tools(value: Any, place: str) -> tuple[ToolSpec, ...]:
    if isinstance(value, str):
        value = _json(value.encode(), f"the tools of {place}")
    return tuple(ToolSpec.model_validate(tool) for tool in _unpacked(cast("list[Any]", value or [])))


def _origin(value: Any) -> Origin:
    if isinstance(value, str):
        value = orjson.loads(value)
    if not isinstance(value, Mapping):
        return Origin()
    return Origin.from_json(cast("Row", value))


def zip_members(path: Path) -> zipfile.ZipFile:
    """Open a zip file.

    Raises:
        DataCorrupt: it is not a zip file.
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataCorrupt(f"{path} is damaged or not a zip file ({error}); download it again") from error
