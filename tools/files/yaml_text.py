"""YAML with the line of each value. As in YAML 1.2, `no`, `12:30` and `2026-11-28` are texts; so is `007`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from simkit.errors import UsageError, reason

Place: TypeAlias = tuple[str | int, ...]
"""Keys and numbers that lead to a value."""

DEEPEST: Final = 50
"""Levels of nesting."""

MOST: Final = 1_000_000
"""Values of a file; aliases count each time."""

LONGEST_NUMBER: Final = 100
"""Digits of a whole number."""

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_STANDARD: Final = "tag:yaml.org,2002:"
_KINDS: Final = frozenset({"str", "int", "float", "bool", "null", "timestamp", "merge", "value"})
_WORDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class YamlText:
    """The value of a YAML text, and the lines of its parts, counted from 1."""

    name: str
    value: Any
    lines: Mapping[Place, int] = field(repr=False)

    def at(self, place: Place) -> str:
        """File and line of a part: `shop/tasks.yaml:12`."""
        return f"{self.name}:{self.line(place)}"

    def line(self, place: Place) -> int:
        """Line of a part, or of what it would be in if it is missing."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_yaml(path: Path, name: str) -> YamlText:
    """Read a file; `name` stands for it in messages.

    Raises:
        UsageError: it cannot be read, or is not YAML; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {reason(error)}") from error
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> YamlText:
    """Parse a text; `name` stands for its file in messages.

    Raises:
        UsageError: it is not YAML, has a key twice, or is nested too deeply; the message names file and line.
    """
    import yaml

    library: Any = yaml
    try:
        root = library.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"
        raise UsageError(f"{where} is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # characters that YAML does not allow
        raise UsageError(f"{name} is not YAML: {str(error).splitlines()[0]}") from error
    reader = _Reader(name)
    return YamlText(name, None if root is None else reader.value(root, ()), reader.lines)


class _Reader:
    """Builds the values of nodes, and notes their lines."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = MOST
        self.lines: dict[Place, int] = {}

    def value(self, node: Any, place: Place) -> Any:
        """The value of a node."""
        self.lines.setdefault(place, node.start_mark.line + 1)
        self._left -= 1
        if len(place) > DEEPEST or self._left < 0:
            raise self._error(node, "it is nested too deeply, or too large")
        match node.id:
            case "mapping":
                return dict(self._items(node, place))
            case "sequence":
                return [self.value(each, (*place, number)) for number, each in enumerate(node.value)]
            case _:
                return self._scalar(node)

    def _items(self, node: Any, place: Place) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            if key.id != "scalar":
                raise self._error(key, "a key must be a text")
            if key.value in seen:
                raise self._error(key, f"the key `{key.value}` occurs twice; remove one")
            seen.add(key.value)
            self.lines[(*place, key.value)] = key.start_mark.line + 1
            yield key.value, self.value(value, (*place, key.value))

    def _scalar(self, node: Any) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_STANDARD)
        if kind not in _KINDS:
            raise self._error(node, f"the tag `{node.tag.replace(_STANDARD, '!!')}` is not known here; leave it out")
        if node.style or (kind == "str" and _INT.fullmatch(text)):  # quoted, or said to be a text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text) if len(text) <= LONGEST_NUMBER else text
        return float(text) if _FLOAT.fullmatch(text) else text

    def _error(self, node: Any, what: str) -> UsageError:
        return UsageError(f"{self._name}:{node.start_mark.line + 1}: {what}")
