"""Origin of training examples: run, episode, task, model and reward, and the content by which tasks are recognised.

Files for TRL hold it as a column. The fine-tuning API refuses columns that it does not know, so such a file has another
one beside it: `train.origin.jsonl` for `train.jsonl`. Its lines name rows by their digests, so that they stay right
when rows are removed or shuffled, and a row that was edited has no origin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast
from unicodedata import normalize

import orjson

from simkit.core.tasks import Task
from simkit.core.values import without_surrogates
from simkit.data.row_files import as_list, as_object


@dataclass(frozen=True, slots=True)
class TaskContent:
    """Content of a task, by which equal tasks are recognised under any name and in any world.

    Digests of its instructions and of its goals; an empty one if there are none. Letter case, white space and Unicode's
    compatibility forms make no difference, in instructions and in the details of goals.
    """

    instructions: str = ""
    goals: str = ""

    @classmethod
    def of(cls, instructions: str | None, goals: Iterable[Mapping[str, Any]]) -> TaskContent:
        """Content of a task. `goals` have a key and may have a detail; they count only if at least one has a detail."""
        given = [(goal["key"], goal.get("detail")) for goal in goals]
        wanted = sorted(orjson.dumps([plain(key), plain(detail)], option=orjson.OPT_SORT_KEYS) for key, detail in given)
        telling = any(detail for _, detail in given)
        return cls(_digest(plain(instructions or "").encode()), _digest(b"\n".join(wanted)) if telling else "")

    @classmethod
    def of_task(cls, task: Task) -> TaskContent:
        """Content of a task of a world."""
        return cls.of(task.instructions, [{"key": goal.key, "detail": dict(goal.detail)} for goal in task.goals])

    def shares(self, other: TaskContent) -> bool:
        """Whether both have the same instructions, or the same goals."""
        return self.instructions == other.instructions != "" or self.goals == other.goals != ""

    def __bool__(self) -> bool:
        """Whether it identifies a task."""
        return bool(self.instructions or self.goals)


UNKNOWN = TaskContent()


def plain(value: Any) -> Any:
    """A JSON value in which equivalent texts are equal."""
    if isinstance(value, str):
        return " ".join(normalize("NFKC", value).casefold().split())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in cast("Mapping[Any, Any]", value).items()}
    return [plain(each) for each in as_list(value)] if isinstance(value, list | tuple) else value


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest() if data else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOrigin:
    """Origin of an example; fields that a file does not contain are empty.

    Attributes:
        run_id, episode_id, task_id, trial, world, split: the episode, and the task that it played.
        branch_id, seq: location of the example's (last) answer in the table `messages`.
        agent, model: agent of the run, and the model that played it; empty if none was named.
        reward: reward of the episode; None if it is unknown.
        simkit: version of simkit that played it.
        content: content of the task. Ids and worlds are only names, which worlds with different options share.
    """

    run_id: str = ""
    episode_id: str = ""
    branch_id: str = ""
    seq: int = -1
    task_id: str = ""
    trial: int = 0
    world: str = ""
    split: str = ""
    agent: str = ""
    model: str = ""
    reward: float | None = None
    simkit: str = ""
    content: TaskContent = UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """The fields as files contain them, with the digests of the task's instructions and goals."""
        return {name: getattr(self, name) for name in _NAMES} | (asdict(self.content) if self.content else {})

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> ExampleOrigin:
        """Read an origin from a file's fields."""
        given = {name: known[name] for name in _NAMES if known.get(name) is not None}
        content = TaskContent(str(known.get("instructions") or ""), str(known.get("goals") or ""))
        return cls(**given, content=content)


_NAMES = tuple(each.name for each in fields(ExampleOrigin) if each.name != "content")
NOWHERE = ExampleOrigin()


def origin_file(path: Path) -> Path:
    """The file with the origins of the rows of another file."""
    return path.with_name(f"{path.name.removesuffix(''.join(path.suffixes[-1:]))}.origin.jsonl")


def origin_line(row: Mapping[str, Any], origin: ExampleOrigin) -> dict[str, Any]:
    """The line of that file for one row."""
    return {"row": row_digest(row), "origin": origin.to_json()}


def origins_of(lines: Iterable[Any]) -> dict[str, ExampleOrigin]:
    """Origins by the digests of their rows, from the lines of such a file; other lines are skipped."""
    found: dict[str, ExampleOrigin] = {}
    for line in lines:
        known = as_object(line)
        if origin := as_object(known.get("origin")):
            found[str(known.get("row"))] = ExampleOrigin.from_json(origin)
    return found


def row_digest(row: Mapping[str, Any]) -> str:
    """Digest of a row's JSON value, whatever the order of its fields."""
    text = json.dumps(without_surrogates(row), sort_keys=True, separators=(",", ":"))  # orjson has no long integers
    return blake2b(text.encode(), digest_size=12).hexdigest()
