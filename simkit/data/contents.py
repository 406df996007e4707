"""What a task contains, as digests: the same task is the same under any name, in any world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast
from unicodedata import normalize

import orjson

from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class Content:
    """What makes a task the same as another: digests of its instructions and of its goals; empty for none of them.

    Letter case, spaces and Unicode's compatible forms make no difference, in instructions as in the details of goals.
    """

    instructions: str = ""
    goals: str = ""

    @classmethod
    def of(cls, instructions: str | None, goals: Iterable[Mapping[str, Any]]) -> Content:
        """The content of a task; `goals` have a key and perhaps a detail, and count only where some has one."""
        given = [(goal["key"], goal.get("detail")) for goal in goals]
        wanted = sorted(orjson.dumps([plain(key), plain(detail)], option=orjson.OPT_SORT_KEYS) for key, detail in given)
        telling = any(detail for _, detail in given)
        return cls(_digest(plain(instructions or "").encode()), _digest(b"\n".join(wanted)) if telling else "")

    @classmethod
    def of_task(cls, task: Task) -> Content:
        """The content of a task of a world."""
        return cls.of(task.instructions, [{"key": goal.key, "detail": dict(goal.detail)} for goal in task.goals])

    def shares(self, other: Content) -> bool:
        """Whether both have the same instructions, or the same goals."""
        same = (self.instructions == other.instructions != "", self.goals == other.goals != "")
        return any(same)

    def __bool__(self) -> bool:
        """Whether it tells one task from another."""
        return bool(self.instructions or self.goals)


UNKNOWN = Content()


def plain(value: Any) -> Any:
    """A value of JSON in which texts that say the same are equal."""
    match value:
        case str():
            return " ".join(normalize("NFKC", value).casefold().split())
        case Mapping():
            return {str(key): plain(each) for key, each in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple():
            return [plain(each) for each in cast("list[Any]", value)]
        case _:
            return value


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest() if data else ""
