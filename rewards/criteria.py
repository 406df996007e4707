"""Rubrics: criteria for conversations, written as text, one on a line.

resolved (2): The customer got everything they asked for.
polite: The agent was polite throughout.
clear [1-5]: How easy the agent's answers were to follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simkit.errors import UsageError, reason
from simkit.rewards.judge import Unread, object_schema, reason_of, truth

_LINE = re.compile(
    r"(?P<name>[A-Za-z][\w-]*)\s*(?:\[(?P<low>-?\d+)\s*-\s*(?P<high>-?\d+)\])?\s*(?:\((?P<weight>\d+(?:\.\d+)?)\))?"
    r"\s*:\s*(?P<text>.+)"
)
_HEAVIEST = 1e9
_FORM = "name: text, name (weight): text, or name [1-5]: text"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The value of one criterion, from 0 to 1, with the judge's reason."""

    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion: met or not, or a grade on a scale.

    Attributes:
        name: unique within its rubric: a letter, then letters, digits, `_` or `-`.
        text: the statement to judge.
        weight: its share of the reward.
        scale: the lowest and the highest grade; None for a criterion that is met or not.
    """

    name: str
    text: str
    weight: float = 1.0
    scale: tuple[int, int] | None = None

    def __str__(self) -> str:
        asked = "met or not" if self.scale is None else f"a whole number from {self.scale[0]} to {self.scale[1]}"
        return f"- {self.name} ({asked}): {self.text}"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a verdict on it: the reason first, then `met` or `grade`."""
        if self.scale is None:
            return object_schema({"reason": {"type": "string"}, "met": {"type": "boolean"}})
        grades = list(range(self.scale[0], self.scale[1] + 1))
        return object_schema({"reason": {"type": "string"}, "grade": {"type": "integer", "enum": grades}})

    @property
    def example(self) -> str:
        """A verdict on it as it has to be written."""
        value = '"met": true or false' if self.scale is None else f'"grade": {self.scale[0]} to {self.scale[1]}'
        return f'"{self.name}": {{"reason": "...", {value}}}'

    def read(self, fields: object) -> Verdict | None:
        """The verdict in the JSON of an answer; None if it is not in the asked form."""
        if not isinstance(fields, Mapping):
            return None
        given: Mapping[str, Any] = fields  # pyright: ignore[reportUnknownVariableType]
        value = self.value(given.get("met" if self.scale is None else "grade"))
        return None if value is None else Verdict(value, reason_of(given))

    def value(self, given: object) -> float | None:
        """The value from 0 to 1 of a verdict or a label: yes or no, or a grade; None if it is neither."""
        if self.scale is None:
            met = truth(given)
            return None if met is None else float(met)
        low, high = self.scale
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not low <= given <= high:
            return None
        return (given - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Rubric:
    """Criteria for a conversation, at least one."""

    criteria: tuple[Criterion, ...]

    @classmethod
    def of(cls, text: str, where: str = "the rubric") -> Rubric:
        """Read a rubric; empty lines and lines that begin with # are ignored. `where` names it in messages.

        Raises:
            UsageError: a line is not a criterion, a name occurs twice, or there are none.
        """
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
        found = tuple(_criterion(line, f"{where}, line {n}") for n, line in lines if line and not line.startswith("#"))
        if not found:
            raise UsageError(f"{where} has no criterion; write one on a line: {_FORM}")
        names = [each.name for each in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{where} has two criteria called `{twice}`; give each a name of its own")
        return cls(found)

    @classmethod
    def read(cls, file: Path) -> Rubric:
        """The rubric in a file.

        Raises:
            UsageError: the file cannot be read as text, or is not a rubric.
        """
        try:
            return cls.of(file.read_text(encoding="utf-8-sig"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the rubric {file} cannot be read: {reason(error)}; give a text file in UTF-8") from error

    def plus(self, other: Rubric) -> Rubric:
        """The criteria of both; of two with one name, that of this rubric."""
        known = {each.name for each in self.criteria}
        return Rubric(self.criteria + tuple(each for each in other.criteria if each.name not in known))

    def only(self, names: frozenset[str]) -> Rubric:
        """Those of its criteria that have one of these names."""
        return Rubric(tuple(each for each in self.criteria if each.name in names))

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of verdicts on all criteria."""
        return object_schema({each.name: each.schema for each in self.criteria})

    @property
    def example(self) -> str:
        """Verdicts on all criteria as they have to be written."""
        return f"{{{', '.join(each.example for each in self.criteria)}}}"

    def verdicts(self, fields: Mapping[str, Any]) -> tuple[Verdict, ...] | Unread:
        """The verdicts in the JSON of an answer, in the order of the criteria, or which of them are missing."""
        found = {each.name: each.read(fields.get(each.name)) for each in self.criteria}
        known = tuple(each for each in found.values() if each is not None)
        missing = ", ".join(f"`{name}`" for name, each in found.items() if each is None)
        return Unread(f"it has no verdict in the asked form on {missing}") if missing else known

    def __iter__(self) -> Iterator[Criterion]:
        return iter(self.criteria)

    def __str__(self) -> str:
        return "\n".join(map(str, self.criteria))


def _criterion(line: str, where: str) -> Criterion:
    found = _LINE.fullmatch(line)
    if found is None:
        raise UsageError(f"{where}: `{line[:60]}` is not a criterion; write {_FORM}")
    scale = None if found["low"] is None else (int(found["low"]), int(found["high"]))
    if scale is not None and not 0 < scale[1] - scale[0] <= 100:
        raise UsageError(f"{where}: a scale goes from a lower to a higher number, such as [1-5]; not {scale}")
    weight = 1.0 if found["weight"] is None else float(found["weight"])
    if not 0 < weight <= _HEAVIEST:
        said = f"the weight of `{found['name']}` is {weight:g}"
        raise UsageError(f"{where}: {said}; give one above 0, at most {_HEAVIEST:g}, or leave it out")
    return Criterion(found["name"], found["text"].strip(), weight, scale)
