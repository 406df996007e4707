"""Reading training examples from files: the one reader of checks, trainings and held-out searches.

It reads the files of `simkit export`, TRL's columns, OpenAI's supervised and preference files, ShareGPT, Alpaca, and
the JOSH release. The columns of a row determine its kind. An answer with weight 0 is context: if learned answers come
before it, the row gives one example for each group of learned answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from simkit.core.messages import AssistantMessage, Message, SystemMessage, UserMessage
from simkit.data.examples import (
    UNREAD,
    DpoExample,
    Example,
    ExampleSet,
    Kind,
    KtoExample,
    SftExample,
    kind_of,
)
from simkit.data.message_forms import MessageReader, tools_of
from simkit.data.origins import NOWHERE, ExampleOrigin, origin_file, origins_of, row_digest
from simkit.data.row_files import FileRow, as_list, file_rows, parsed
from simkit.errors import DataCorrupt, UsageError

Row = Mapping[str, Any]

SHAPES_KNOWN = (
    "messages; prompt and completion (and label); prompt, chosen and rejected; input, preferred_output and "
    "non_preferred_output; conversations; or instruction and output"
)
LABELS = {
    **dict.fromkeys(("true", "yes", "y", "t", "1", "1.0", "good", "desirable", "chosen", "positive"), True),
    **dict.fromkeys(("false", "no", "n", "f", "0", "0.0", "bad", "undesirable", "rejected", "negative"), False),
}
_JUDGING = re.compile(
    r"(^|_)(rewards?|scores?|ratings?|margin|advantages?|weights?|masks?|log_?(p|ps|prob|probs))(_|$)", re.IGNORECASE
)
"""Columns that say how good an answer is, or how much of it counts."""


def read_examples(path: Path | str) -> ExampleSet:
    """Read a `.jsonl`, `.json` (each also `.gz`) or `.parquet` file, a folder saved by `datasets`, or the JOSH release.

    The examples know their location in the file, and what was noticed when they were read (`Finding` names). Their
    origin is in the column `origin`, or in the file of origins beside theirs.

    Raises:
        DataMissing: the file does not exist.
        DataCorrupt: a row cannot be read; the message says which and why.
        UsageError: another kind of file, a file without rows, or with rows of several kinds.
    """
    path = Path(path)
    if path.is_file() and path.suffix in (".zip", ".whl"):
        from simkit.data.release import read_release

        return read_release(path)
    beside = origin_file(path)
    origins = origins_of(row.value for row in file_rows(beside)) if beside.is_file() else {}
    found = [example for row in file_rows(path) for example in _examples(row, f"{row.place} of {path}", origins)]
    return _set_of(found, path)


def _set_of(found: Sequence[Example], path: Path) -> ExampleSet:
    if not found:
        raise UsageError(f"{path} has no rows; give a file with at least one example")
    kinds: list[Kind] = [kind_of(example) for example in found]
    other = next((example.place for example, kind in zip(found, kinds, strict=True) if kind != kinds[0]), None)
    if other is not None:
        raise UsageError(
            f"{other} of {path} is not of the same kind as the rows before ({kinds[0]}); split the file by kind"
        )
    return ExampleSet(kinds[0], tuple(found))


def _examples(row: FileRow, place: str, origins: Mapping[str, ExampleOrigin]) -> Iterator[Example]:
    if not isinstance(cast("object", row.value), Mapping):
        raise DataCorrupt(f"{place} is not a JSON object; each row is an object with the columns {SHAPES_KNOWN}")
    columns = _Columns(cast("Row", row.value), place)
    try:
        found = columns.examples()
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in wrong["loc"])
        raise DataCorrupt(f"{place}: {field or 'a message'} is wrong ({wrong['msg']})") from error
    noticed = [("lone_surrogate", "")] if row.repaired else []
    noticed += [("ignored_rewards", name) for name in columns.unread() if _JUDGING.search(name)]
    noticed += [(name, "") for name in columns.noticed]
    noticed += [(UNREAD, name) for name in columns.unread() if not _JUDGING.search(name)]
    beside = origins.get(row_digest(row.value), NOWHERE) if origins else NOWHERE
    for example in found:
        origin = beside if example.origin == NOWHERE else example.origin
        yield replace(example, place=row.place, noticed=tuple(noticed), origin=origin)


class _Columns:
    """The columns of one row; it remembers which were read."""

    def __init__(self, row: Row, place: str) -> None:
        self._row = row
        self._place = place
        self._read: set[str] = {"parallel_tool_calls", "functions"}
        self._reader = MessageReader(place)

    def has(self, *names: str) -> bool:
        """Whether the row has all these columns."""
        return all(self._row.get(name) is not None for name in names)

    def get(self, name: str) -> Any:
        """One column; None if it is missing."""
        self._read.add(name)
        return self._row.get(name)

    @property
    def noticed(self) -> Iterable[str]:
        """Names of findings about its messages."""
        return self._reader.noticed

    def unread(self) -> tuple[str, ...]:
        """The columns that were not read and are not empty."""
        return tuple(name for name, value in self._row.items() if name not in self._read and value is not None)

    def examples(self) -> list[Example]:
        """The examples of the row; several if answers that are only context come between learned ones.

        Raises:
            DataCorrupt: the columns are not those of an example.
            pydantic.ValidationError: a message or a tool is wrong.
        """
        tools = tools_of(self.get("tools") or self._row.get("functions"), self._place)
        self._reader.tools = tools
        common: dict[str, Any] = {"tools": tools, "origin": _origin(self.get("origin"), self._place)}
        if self.has("preferred_output"):
            return [self._preference()]
        if self.has("chosen", "rejected"):
            return [self._pair(common)]
        if self.has("completion"):
            return self._completion(common)
        for name in ("messages", "conversations", "conversation"):
            if self.has(name):
                return self._conversation(name, common)
        if self.has("instruction", "output"):
            prompt, answer = self._instruction(), AssistantMessage.of(str(self.get("output")))
            if self._label() is not None:
                return self._judged_or_learned(prompt, (answer,), (None,), common)
            return [SftExample(messages=(*prompt, answer), **common)]  # earlier answers of `history` are learned, too
        raise DataCorrupt(f"{self._place} has the columns {', '.join(self._row) or 'none'}; it needs {SHAPES_KNOWN}")

    def _messages(self, name: str) -> tuple[Message, ...]:
        return self._weighed(name)[0]

    def _weighed(self, name: str) -> tuple[tuple[Message, ...], tuple[bool | None, ...]]:
        return self._reader.messages(self.get(name), name)

    def _completion(self, common: Row) -> list[Example]:
        prompt = self._messages("prompt")
        completion, learned = self._weighed("completion")
        return self._judged_or_learned(prompt, completion, learned, common)

    def _conversation(self, name: str, common: Row) -> list[Example]:
        messages, learned = self._weighed(name)
        if self.has("system") and messages and not isinstance(messages[0], SystemMessage):
            messages, learned = (SystemMessage.of(str(self.get("system"))), *messages), (None, *learned)
        if self._label() is None:
            return _learned(messages, learned, 0, common)
        start = next((n for n in reversed(range(len(messages))) if messages[n].role != "assistant"), -1) + 1
        return self._judged_or_learned(messages[:start], messages[start:], learned[start:], common)

    def _judged_or_learned(
        self, prompt: tuple[Message, ...], completion: tuple[Message, ...], learned: Sequence[bool | None], common: Row
    ) -> list[Example]:
        label = self._label()
        if label is None:
            both = (*prompt, *completion)
            return _learned(both, (*(False for _ in prompt), *learned), len(prompt), common)
        if False in learned:
            raise DataCorrupt(f"{self._place}: a judged answer has weight 0; leave the row out")
        return [KtoExample(prompt=prompt, completion=completion, label=label, **common)]

    def _label(self) -> bool | None:
        """The label as a boolean; it may be a number or a word."""
        name = "label" if self.has("label") else "kto_tag"
        value = self.get(name)
        if value is None:
            return None
        known = LABELS.get(str(int(value) if value in (0, 1) else value).strip().lower())
        if known is None:
            raise DataCorrupt(
                f"{self._place}: `{name}` is {value!r:.40}; write true for a desirable answer and false for another "
                "(or remove the column if it says something else)"
            )
        return known

    def _pair(self, common: Row) -> DpoExample:
        """A pair; if it has no prompt, the common beginning of both conversations is the prompt, as in TRL."""
        if self.has("instruction"):
            chosen, rejected = (AssistantMessage.of(str(self.get(name))) for name in ("chosen", "rejected"))
            return DpoExample(prompt=self._instruction(), chosen=(chosen,), rejected=(rejected,), **common)
        named = next((name for name in ("prompt", "conversations") if self.has(name)), None)
        whole = isinstance(self._row.get("prompt"), str) and isinstance(self._row.get("chosen"), list)
        prompt = () if named is None or whole else self._messages(named)
        chosen, rejected = self._answer("chosen"), self._answer("rejected")
        if named is None or whole:  # both begin with the prompt; a text is its last message
            both = zip(chosen, rejected, strict=False)
            prompt = tuple(a for a, _ in takewhile(lambda each: each[0] == each[1], both))
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        if whole and (text := str(self.get("prompt"))) and not prompt:
            prompt = (UserMessage.of(text),)
        return DpoExample(prompt=prompt, chosen=chosen, rejected=rejected, **common)

    def _preference(self) -> DpoExample:
        """A row of OpenAI's preference format."""
        given = self.get("input")
        if not isinstance(given, Mapping):
            raise DataCorrupt(f"{self._place}: `input` is {given!r:.60}; it must be an object with messages")
        asked = cast("Row", given)
        prompt, _ = self._reader.messages(asked.get("messages"), "input.messages")
        chosen, rejected = self._answer("preferred_output"), self._answer("non_preferred_output")
        return DpoExample(
            prompt=prompt, chosen=chosen, rejected=rejected, tools=tools_of(asked.get("tools"), self._place)
        )

    def _answer(self, name: str) -> tuple[Message, ...]:
        messages, learned = self._reader.after().messages(self.get(name), name)
        if False in learned:
            raise DataCorrupt(f"{self._place}: an answer of `{name}` has weight 0; leave the row out")
        return messages

    def _instruction(self) -> tuple[Message, ...]:
        """The prompt of an Alpaca row: `system`, `history` (pairs of texts), `instruction` and `input`."""
        system = [SystemMessage.of(str(self.get("system")))] if self.has("system") else []
        earlier: list[Message] = []
        for pair in as_list(self.get("history")):
            if len(as_list(pair)) != 2:
                raise DataCorrupt(
                    f"{self._place}: `history` holds {pair!r:.60}; write pairs of a question and an answer"
                )
            earlier += [UserMessage.of(str(pair[0])), AssistantMessage.of(str(pair[1]))]
        parts = (str(self.get(name) or "") for name in ("instruction", "input"))
        return (*system, *earlier, UserMessage.of("\n".join(filter(None, parts))))


def _learned(messages: tuple[Message, ...], learned: Sequence[bool | None], start: int, common: Row) -> list[Example]:
    """One example for each group of learned answers that no answer with weight 0 interrupts."""
    answers = [n for n in range(start, len(messages)) if isinstance(messages[n], AssistantMessage)]
    shown = [n for n in answers if learned[n] is False]
    if not shown:
        return [SftExample(messages=messages, context=start, **common)]
    found: list[Example] = []
    for first, last in zip([start - 1, *shown], [*shown, len(messages)], strict=True):
        group = [n for n in answers if first < n < last]
        if group:
            context = start if first < start else group[0]
            found.append(SftExample(messages=messages[: group[-1] + 1], context=context, **common))
    return found or [SftExample(messages=messages, context=len(messages), **common)]


def _origin(value: Any, place: str) -> ExampleOrigin:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parsed(value, f"the origin of {place}")[0]
    return ExampleOrigin.from_json(cast("Row", value)) if isinstance(value, Mapping) else ExampleOrigin()
