"""What a check of a world finds, and the contract of worlds that can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a world.

    Attributes:
        kind: `file`, `tools`, `solution`, `start`, `goals`, `user` or `play`.
        where: file and line; empty if the problem names them.
        problem: what is wrong, and what to do.
        task: id of the task; empty if it is not about one.
    """

    kind: str
    where: str
    problem: str
    task: str = ""

    def __str__(self) -> str:
        about = f"task `{self.task}`: " if self.task else ""
        return f"{self.where}: {about}{self.problem}" if self.where else f"{about}{self.problem}"


@runtime_checkable
class CheckedWorld(Protocol):
    """A world that knows where its tasks are written, and what is wrong with them."""

    def findings(self) -> list[Finding]:
        """What is wrong with it, as far as can be seen without playing conversations."""
        ...

    def place(self, task: Task, part: str) -> str:
        """File and line of a part of a task."""
        ...

    def described(self) -> Sequence[str]:
        """What it holds, and what was not checked, as lines for people."""
        ...
