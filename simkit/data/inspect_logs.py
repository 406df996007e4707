"""Logs of inspect_ai (`.eval` and `.json`), read without the package.

An `.eval` file is a zip archive of JSON: `header.json` (in an unfinished log `_journal/start.json`), and one file for
each sample and epoch. Newer versions compress the members with Zstandard.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from simkit.components.reward import RewardPart
from simkit.core.events import Outcome
from simkit.core.messages import Message, ToolSpec
from simkit.data.imported import ImportedConversation, ImportedFile
from simkit.data.message_forms import MessageReader, tools_of
from simkit.data.row_files import as_list, as_number, as_object, as_objects, parsed, utf8
from simkit.errors import DataCorrupt, UsageError
from simkit.store.archive import zstd

if sys.version_info >= (3, 14):
    import zipfile
else:
    from backports.zstd import zipfile

Row = Mapping[str, Any]

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
            names = dict.fromkeys(archive.namelist())
            header = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
            if header is None:
                raise DataCorrupt(f"{path} is not a log of inspect_ai: it has neither header.json nor a journal")
            log = _member(archive, header, path)
            samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
            return read_log({**log, "samples": [_member(archive, name, path) for name in samples]}, path, score)
    except zipfile.BadZipFile as error:
        raise DataCorrupt(f"{path} is damaged or not an .eval file ({error}); copy it again") from error


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> Row:
    place = f"{name} of {path}"
    try:
        data = utf8(archive.read(name), path)
    except (NotImplementedError, zipfile.BadZipFile, EOFError, OSError, zlib.error, zstd().ZstdError) as error:
        raise DataCorrupt(f"{place} cannot be unpacked ({error}); copy the file again") from error
    value, _ = parsed(data, place)
    if not isinstance(value, Mapping):
        raise DataCorrupt(f"{place} is not a JSON object")
    return cast("Row", value)


def read_log(log: Row, path: Path, score: str | None) -> ImportedFile:
    """Read a log that was parsed; `score` names the scorer that gives the rewards.

    Raises:
        DataCorrupt: a sample is not one of inspect_ai.
        UsageError: there is no such scorer, or there are no samples.
    """
    samples = as_objects(log.get("samples"))
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
    headline = as_object(log, "results", "headline").get("scorer")
    return headline if headline in names else next(iter(names), "")


def _conversation(sample: Row, scorer: str, place: str) -> ImportedConversation:
    messages, tools = _messages(sample, place)
    scores = {name: as_object(score) for name, score in as_object(sample, "scores").items()}
    values = {name: _number(score.get("value")) for name, score in scores.items()}
    error, limit, epoch = sample.get("error"), as_object(sample, "limit").get("type"), sample.get("epoch")
    return ImportedConversation(
        task_id=str(sample.get("id")),
        messages=messages,
        tools=tools,
        instructions=_instructions(sample.get("input")),
        trial=epoch - 1 if isinstance(epoch, int) and epoch > 0 else None,
        reward=values.get(scorer),
        parts=tuple(
            RewardPart(name, value, float(name == scorer), str(scores[name].get("answer") or "")[:500])
            for name, value in values.items()
            if value is not None
        ),
        outcome=None if error or limit is None else _LIMITS.get(str(limit), "turn_limit"),
        error=None if not error else str(as_object(error).get("message") or error)[:2000],
    )


def _messages(sample: Row, place: str) -> tuple[tuple[Message, ...], tuple[ToolSpec, ...]]:
    given = [_message(message) for message in as_objects(sample.get("messages"))]
    attached = as_object(sample, "attachments")
    messages, _ = MessageReader(place).messages(_attached(given, attached) if attached else given, "messages")
    events = as_objects(sample.get("events"))
    offered = next((event["tools"] for event in events if event.get("event") == "model" and event.get("tools")), ())
    return messages, tools_of(offered, place)


def _message(message: Row) -> dict[str, Any]:
    """A message in the OpenAI chat form; reasoning that stands in the content becomes a field."""
    kept: dict[str, Any] = {"role": message.get("role"), "content": message.get("content", "")}
    if isinstance(kept["content"], list):
        parts = as_objects(kept["content"])
        thinking = [part for part in parts if part.get("type") == "reasoning"]
        reasoning = [str(part.get("reasoning") or part.get("summary") or "") for part in thinking]
        rest = [{"type": part.get("type"), **part} for part in parts if part not in thinking]
        kept["content"] = _text(rest) if all(part["type"] == "text" for part in rest) else rest
        kept |= {"reasoning_content": "\n".join(reasoning)} if any(reasoning) else {}
    if calls := as_objects(message.get("tool_calls")):
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
    users = [message for message in as_objects(given) if message.get("role") == "user"]
    return given if isinstance(given, str) else "\n".join(_text(message.get("content")) for message in users)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in as_objects(content))


def _number(value: Any) -> float | None:
    """The value of a score as a number; None if it is not a number. The average of the values of a mapping."""
    if isinstance(value, str):
        word = value.strip().lower()
        with suppress(ValueError):
            return _GRADES[word] if word in _GRADES else as_number(float(word))
        return None
    if isinstance(value, Mapping | list):
        numbers = [_number(each) for each in (*as_object(value).values(), *as_list(value))]
        known = [number for number in numbers if number is not None]
        return sum(known) / len(known) if known and len(known) == len(numbers) else None
    return as_number(value)
