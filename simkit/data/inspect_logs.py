"""Logs of inspect_ai (`.eval` and `.json`), read without the package.

An `.eval` file is a zip archive of JSON: `header.json` (in an unfinished log `_journal/start.json`), and one file for
each sample and epoch. Newer versions compress the members with Zstandard, which DuckDB unpacks.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import duckdb

from simkit.components.reward import RewardPart
from simkit.core.events import Outcome
from simkit.core.messages import ToolSpec
from simkit.data.export import MAX_ROW_BYTES
from simkit.data.imported import ImportedConversation, ImportedFile
from simkit.data.message_forms import MessageReader, tools_of
from simkit.data.row_files import as_list, as_number, as_object, parsed, utf8
from simkit.errors import DataCorrupt, UsageError
from simkit.store.files import scratch_folder

Row = Mapping[str, Any]

_ZSTANDARD = 93
_GRADES = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Values of inspect_ai's scores that are no numbers: correct, incorrect, partially correct, no answer."""

_LIMITS: Mapping[str, Outcome] = {
    "message": "turn_limit",
    "turn": "turn_limit",
    "token": "token_limit",
    "context": "context_limit",
    "cost": "cost_limit",
    "time": "time_limit",
    "working": "time_limit",
}


def is_inspect_log(value: object) -> bool:
    """Whether a JSON value is a log of inspect_ai."""
    return isinstance(value, Mapping) and "eval" in value and ("samples" in value or "plan" in value)


def read_eval_file(path: Path, score: str | None) -> ImportedFile:
    """Read an `.eval` file; `score` names the scorer that gives the rewards.

    Raises:
        DataCorrupt: the file is damaged, or not such a log.
        UsageError: there is no such scorer, or there are no samples.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            header = next((members[name] for name in ("header.json", "_journal/start.json") if name in members), None)
            if header is None:
                raise DataCorrupt(f"{path} is not a log of inspect_ai: it has neither header.json nor a journal")
            samples = [members[name] for name in members if name.startswith("samples/") and name.endswith(".json")]
            read = _Members(archive, path)
            log = read.json(header)
            return read_log({**log, "samples": [read.json(info) for info in samples]}, path, score)
    except zipfile.BadZipFile as error:
        raise DataCorrupt(f"{path} is damaged or not an .eval file ({error}); copy it again") from error


def read_log(log: Row, path: Path, score: str | None) -> ImportedFile:
    """Read a log that was parsed; `score` names the scorer that gives the rewards.

    Raises:
        DataCorrupt: a sample is not one of inspect_ai.
        UsageError: there is no such scorer, or there are no samples.
    """
    samples = [as_object(sample) for sample in as_list(log.get("samples"))]
    if not samples:
        raise UsageError(f"{path} has no samples; logs that were written without them cannot be imported")
    spec = as_object(log.get("eval"))
    names = list(dict.fromkeys(name for sample in samples for name in as_object(sample.get("scores"))))
    chosen = _chosen(log, names, score, path)
    found = [_conversation(sample, chosen, f"sample {sample.get('id')} of {path}") for sample in samples]
    found.sort(key=lambda each: each.trial or 0)
    status = log.get("status")
    notes = () if status in ("success", None) else (f"the evaluation ended with the status {status!r}",)
    details = {name: spec[name] for name in ("created", "task_version", "eval_id") if spec.get(name) is not None}
    return ImportedFile(
        format="inspect_ai",
        world=str(spec.get("task") or path.stem),
        model=spec.get("model"),
        conversations=tuple(found),
        score=chosen,
        details=details,
        notes=notes,
    )


def _chosen(log: Row, names: list[str], score: str | None, path: Path) -> str:
    """The scorer that gives the rewards: the one named, else the log's headline, else the first."""
    if score is not None:
        if score not in names:
            raise UsageError(f"{path} has no scorer {score!r}; it has {', '.join(names) or 'none'}")
        return score
    headline = as_object(as_object(log.get("results")).get("headline")).get("scorer")
    return next((name for name in names if name == headline), next(iter(names), ""))


def _conversation(sample: Row, scorer: str, place: str) -> ImportedConversation:
    messages, tools = _messages(sample, place)
    scores = {name: as_object(score) for name, score in as_object(sample.get("scores")).items()}
    values = {name: _number(score.get("value")) for name, score in scores.items()}
    parts = [
        RewardPart(name, value, float(name == scorer), _evidence(scores[name]))
        for name, value in values.items()
        if value is not None
    ]
    error = sample.get("error")
    limit = as_object(sample.get("limit")).get("type")
    return ImportedConversation(
        task_id=str(sample.get("id")),
        messages=messages,
        tools=tools,
        instructions=_instructions(sample.get("input")),
        trial=epoch - 1 if isinstance(epoch := sample.get("epoch"), int) and epoch > 0 else None,
        reward=values.get(scorer),
        parts=tuple(parts),
        outcome=None if error or limit is None else _LIMITS.get(str(limit), "turn_limit"),
        error=None if not error else str(as_object(error).get("message") or error)[:2000],
    )


def _messages(sample: Row, place: str) -> tuple[Any, tuple[ToolSpec, ...]]:
    given = [_message(as_object(message)) for message in as_list(sample.get("messages"))]
    attached = as_object(sample.get("attachments"))
    messages, _ = MessageReader(place).messages(_attached(given, attached) if attached else given, "messages")
    events = map(as_object, as_list(sample.get("events")))
    offered = next((event["tools"] for event in events if event.get("event") == "model" and event.get("tools")), ())
    return messages, tools_of(offered, place)


def _message(message: Row) -> dict[str, Any]:
    """A message in the OpenAI chat form; reasoning that stands in the content becomes a field."""
    kept: dict[str, Any] = {"role": message.get("role"), "content": message.get("content", "")}
    if isinstance(kept["content"], list):
        parts = [as_object(part) for part in as_list(kept["content"])]
        reasoning = [str(part.get("reasoning") or part.get("summary") or "") for part in parts if _is_reasoning(part)]
        texts = [part for part in parts if not _is_reasoning(part)]
        kept["content"] = (
            "".join(str(part.get("text", "")) for part in texts)
            if all(part.get("type") == "text" for part in texts)
            else [{"type": part.get("type"), **part} for part in texts]
        )
        kept |= {"reasoning_content": "\n".join(reasoning)} if any(reasoning) else {}
    if calls := [as_object(call) for call in as_list(message.get("tool_calls"))]:
        kept["tool_calls"] = [
            {"id": call.get("id"), "function": {"name": call.get("function"), "arguments": call.get("arguments")}}
            for call in calls
        ]
    if message.get("role") == "tool":
        error = message.get("error")
        kept |= {"tool_call_id": message.get("tool_call_id"), "name": message.get("function"), "error": error}
        if error and not kept["content"]:
            kept["content"] = str(as_object(error).get("message") or error)
    return kept


def _is_reasoning(part: Row) -> bool:
    return part.get("type") == "reasoning"


def _attached(value: Any, attachments: Mapping[str, str]) -> Any:
    """The value with long texts, which the log keeps once, in their places."""
    match value:
        case str() if value.startswith("attachment://"):
            return attachments.get(value.removeprefix("attachment://"), value)
        case list():
            return [_attached(each, attachments) for each in cast("list[Any]", value)]
        case dict():
            return {name: _attached(each, attachments) for name, each in cast("dict[str, Any]", value).items()}
        case _:
            return value


def _instructions(given: Any) -> str:
    """The user's words of a sample's input, by which equal tasks are recognised."""
    if isinstance(given, str):
        return given
    users = (message for message in map(as_object, as_list(given)) if message.get("role") == "user")
    return "\n".join(_text(message.get("content")) for message in users)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(as_object(part).get("text", "")) for part in as_list(content))


def _number(value: Any) -> float | None:
    """The value of a score as a number; None if it is not a number. The average of the values of a mapping."""
    match value:
        case bool() | int() | float():
            return as_number(value)
        case str():
            try:
                word = value.strip().lower()
                return _GRADES[word] if word in _GRADES else as_number(float(word))
            except ValueError:
                return None
        case Mapping() | list():
            given = [*as_object(cast("Any", value)).values(), *as_list(cast("Any", value))]
            numbers = [_number(each) for each in given]
            known = [number for number in numbers if number is not None]
            return sum(known) / len(known) if known and len(known) == len(numbers) else None
        case _:
            return None


def _evidence(score: Row) -> str:
    return str(score.get("answer") or "")[:500]


class _Members:
    """Members of a zip archive as JSON."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive = archive
        self._path = path

    def json(self, info: zipfile.ZipInfo) -> Row:
        """One member.

        Raises:
            DataCorrupt: it is damaged.
        """
        place = f"{info.filename} of {self._path}"
        if info.compress_type == _ZSTANDARD:
            data: bytes | str = self._unpacked(info, place)
        else:
            try:
                data = utf8(self._archive.read(info), self._path)
            except (NotImplementedError, zipfile.BadZipFile, EOFError, OSError) as error:
                raise DataCorrupt(f"{place} cannot be unpacked ({error}); copy the file again") from error
        value, _ = parsed(data, place)
        if not isinstance(value, Mapping):
            raise DataCorrupt(f"{place} is not a JSON object")
        return cast("Row", value)

    def _unpacked(self, info: zipfile.ZipInfo, place: str) -> str:
        """The text of a member that is compressed with Zstandard, which this Python's zipfile cannot unpack."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            file.seek(info.header_offset + 30 + name + extra)
            packed = file.read(info.compress_size)
        with scratch_folder() as scratch, duckdb.connect() as connection:
            (scratch / "member").write_bytes(packed)
            options = f"compression='zstd', format='unstructured', maximum_object_size={MAX_ROW_BYTES}"
            try:
                query = f"SELECT json::VARCHAR FROM read_json_objects(?, {options})"
                found = connection.execute(query, [str(scratch / "member")]).fetchall()
            except duckdb.Error as error:
                raise DataCorrupt(f"{place} cannot be unpacked ({str(error).splitlines()[0]})") from error
        return "".join(text for (text,) in found)
