"""Redaction of what leaves a store: expressions applied to all its texts before anything is cut or exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import orjson

from simkit.errors import UsageError
from simkit.store import QueryResult, Reader

if TYPE_CHECKING:
    from simkit.store.reader import Parameters

STANDS_FOR = "[redacted]"

IDS = frozenset(
    {
        "run_id", "task_id", "episode_id", "branch_id", "parent_id", "final_branch_id", "part_of", "path",
        "after", "prev", "next", "start", "final", "call_id", "tool_call_id", "answers",
        "id", "hash", "digest", "request_hash",
    }
)  # fmt: skip
"""Columns and fields by which parts of an answer find each other. Names of runs and tasks in them become numbers."""

WORDS = frozenset(
    {
        "author", "role", "status", "outcome", "state", "fate", "supervisor", "kind",
        "unit", "side", "by", "type", "effect_name", "source", "level",
    }
)  # fmt: skip
"""Columns and fields with simkit's own words, which pages compare."""

JSON_COLUMNS = frozenset(
    {
        "config", "summary", "stats", "goals", "message", "tool_calls", "writes", "parts", "request",
        "response", "detail", "result", "tools", "user_tools",
    }
)  # fmt: skip
"""Columns of JSON text, which has to stay JSON."""

FIELDS = frozenset(
    {
        "role", "content", "tool_calls", "function", "name", "arguments", "id", "type",
        "tool_call_id", "key", "detail", "weight", "value", "low", "high", "digest",
        "settings", "messages", "tools", "model", "models", "agent", "user", "judge",
        "world", "split", "reward", "success_rate", "pass_k", "expected_episodes", "outcomes", "seed",
        "stage",
    }
)  # fmt: skip
"""Keys of JSON that the viewer itself looks up."""

_OWN_WORD = re.compile(r"[a-z][a-z_]{0,30}")


@dataclass(frozen=True, slots=True)
class Redaction:
    """Expressions whose matches are replaced, and stand-ins for the names of runs and tasks that match one."""

    expressions: tuple[re.Pattern[str], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, expressions: Iterable[str]) -> Redaction:
        """The redaction of these expressions.

        Raises:
            UsageError: one is not a regular expression, or matches the empty text.
        """
        compiled: list[re.Pattern[str]] = []
        for text in expressions:
            try:
                pattern = re.compile(text)
            except re.error as error:
                raise UsageError(f"--redact {text!r} is not a regular expression: {error}") from error
            if pattern.search("") is not None:
                raise UsageError(f"--redact {text!r} matches the empty text; name what has to go")
            compiled.append(pattern)
        return cls(tuple(compiled))

    def naming(self, runs: Iterable[str], tasks: Iterable[str]) -> Redaction:
        """With stand-ins for the names of runs and tasks that an expression matches: `run-1`, `task-7`."""
        numbered = [("run", n, name) for n, name in enumerate(dict.fromkeys(runs), 1)]
        numbered += [("task", n, name) for n, name in enumerate(dict.fromkeys(tasks), 1)]
        return replace(self, names={name: f"{kind}-{n}" for kind, n, name in numbered if self.hits(name)})

    def hits(self, text: str) -> bool:
        """Whether an expression matches somewhere in a text."""
        return any(pattern.search(text) for pattern in self.expressions)

    def text(self, text: str) -> str:
        """A text without what the expressions match, as it stands and in the strings of JSON that it may be."""
        found = self.json_text(text) if text[:1] in ("{", "[", '"') else text
        for pattern in self.expressions:
            found = pattern.sub(STANDS_FOR, found)
        return found

    def json_text(self, text: str) -> str:
        """A JSON text whose strings are redacted, and which is still JSON; another text as `text` has it."""
        try:
            value = orjson.loads(text)
        except ValueError:
            return self.text(text) if text[:1] not in ("{", "[", '"') else self._plainly(text)
        cleaned = mapped(value, self.text, lambda key: key if key in FIELDS else self._plainly(key))
        return text if cleaned == value else orjson.dumps(cleaned).decode()

    def _plainly(self, text: str) -> str:
        for pattern in self.expressions:
            text = pattern.sub(STANDS_FOR, text)
        return text

    def id(self, text: str) -> str:
        """An id with the stand-ins of the runs and tasks in it."""
        if not self.names:
            return text
        if text in self.names:
            return self.names[text]
        for name, stand_in in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            if name in text:
                text = re.sub(rf"(?<![^/,]){re.escape(name)}(?![^/,])", stand_in, text)
        return text

    def cell(self, column: str, value: Any) -> Any:
        """A value of a column of the store. Ids stay, as queries need them; `answer` gives them their stand-ins."""
        match value:
            case str() if column in IDS or self._is_own(column, value):
                return value
            case str():
                return self.json_text(value) if column in JSON_COLUMNS else self.text(value)
            case list() | tuple() | dict():
                return mapped(value, self.text, self._plainly)
            case _:
                return value

    def answer(self, value: Any, name: str = "") -> Any:
        """An answer of the API from redacted cells: with stand-ins in ids and keys, and no match in any other text."""
        match value:
            case str() if name in IDS or (name == "runs" and value in self.names):
                return self.id(value)
            case str():
                return value if self._is_own(name, value) else self._plainly(value)
            case Mapping():
                known = cast("Mapping[str, Any]", value)
                return {self.id(key): self.answer(each, key) for key, each in known.items()}
            case list() | tuple():
                return [self.answer(each, name) for each in cast("Sequence[Any]", value)]
            case _:
                return value

    @staticmethod
    def _is_own(name: str, value: str) -> bool:
        return name in WORDS and _OWN_WORD.fullmatch(value) is not None


def mapped(value: Any, text: Callable[[str], str], key: Callable[[str], str]) -> Any:
    """A JSON value with all its strings and keys changed."""
    match value:
        case str():
            return text(value)
        case Mapping():
            known = cast("Mapping[str, Any]", value)
            return {key(str(name)): mapped(each, text, key) for name, each in known.items()}
        case list() | tuple():
            return [mapped(each, text, key) for each in cast("Sequence[Any]", value)]
        case _:
            return value


class RedactedReader(Reader):
    """A reader whose answers are redacted as they come from the store, before any text is cut."""

    def __init__(self, reader: Reader, redaction: Redaction) -> None:
        super().__init__(
            reader.path,
            reader._connection,  # pyright: ignore[reportPrivateUsage]
            reader._database,  # pyright: ignore[reportPrivateUsage]
            reader.state,
            allow_incomplete=reader.allow_incomplete,
        )
        self._redaction = redaction

    def query(
        self, sql: str, parameters: Parameters | None = None, *, runs: Sequence[str] | None = None
    ) -> QueryResult:
        """Run SQL; see `Reader.query`."""
        found = super().query(sql, parameters, runs=runs)
        cell = self._redaction.cell
        rows = [tuple(cell(name, value) for name, value in zip(found.columns, row, strict=True)) for row in found.rows]
        return replace(found, rows=rows)

    @contextmanager
    def reading(self, runs: Sequence[str] | None = None, *, allow_incomplete: bool = False) -> Generator[Reader]:
        """A redacted reader of the same state; see `Reader.reading`."""
        with super().reading(runs, allow_incomplete=allow_incomplete) as own:
            yield self if own is self else RedactedReader(own, self._redaction)

    @contextmanager
    def scoped(self, runs: Sequence[str], *, copy: bool = True) -> Generator[Reader]:
        """A redacted reader of some runs alone; see `Reader.scoped`."""
        with super().scoped(runs, copy=copy) as own:
            yield RedactedReader(own, self._redaction)


# --- keys in configurations -------------------------------------------------------------------------------------------

_KEY_NAME = re.compile(r"key|token|secret|passw|credential|authori[sz]ation|cookie|bearer", re.IGNORECASE)
_KEY_VALUE = re.compile(
    r"\b(?:sk|pk|rk|hf|gh[pousr]|glpat|xox[abprs])[-_][-_A-Za-z0-9]{8,}|\b(?:AKIA|AIza|eyJ)[-_.A-Za-z0-9]{12,}"
)


def without_keys(config: Any) -> Any:
    """A configuration without what looks like a key: texts in fields named like one, and texts that begin like one."""
    match config:
        case Mapping():
            known = cast("Mapping[str, Any]", config)
            return {
                name: "[key]" if isinstance(each, str) and each and _KEY_NAME.search(name) else without_keys(each)
                for name, each in known.items()
            }
        case list() | tuple():
            return [without_keys(each) for each in cast("Sequence[Any]", config)]
        case str():
            return _KEY_VALUE.sub("[key]", _IN_ADDRESS.sub(r"\1[key]@", config))
        case _:
            return config


_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
