"""Reading training examples from files: the one reader of checks, trainings and held-out searches.

It reads the files of `simkit export`, TRL's columns, OpenAI's supervised and preference files, ShareGPT, Alpaca, and
the JOSH release. The columns of a row determine its kind. An answer with weight 0 is context: if learned answers come
before it, the row gives one example for each group of learned answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from simkit.core.messages import AssistantMessage, Message, SystemMessage, UserMessage
from simkit.data.examples import UNREAD, DpoExample, Example, ExampleSet, KtoExample, Messages, SftExample
from simkit.data.message_forms import MessageReader, tools_of
from simkit.data.origins import NOWHERE, ExampleOrigin, origin_file, origins_of, row_digest
from simkit.data.row_files import FileRow, as_list, as_object, file_rows, unpacked
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
    if not found:
        raise UsageError(f"{path} has no rows; give a file with at least one example")
    kind = found[0].kind
    if (other := next((each for each in found if each.kind != kind), None)) is not None:
        raise UsageError(
            f"{other.place} of {path} is not of the same kind as the rows before ({kind}); split the file by kind"
        )
    return ExampleSet(kind, tuple(found))


def _examples(row: FileRow, place: str, origins: Mapping[str, ExampleOrigin]) -> Iterator[Example]:
    if not isinstance(cast("object", row.value), Mapping):
        raise DataCorrupt(f"{place} is not a JSON object; each row is an object with the columns {SHAPES_KNOWN}")
    columns = _Columns(cast("Row", row.value), place)
    found = columns.examples()
    unread = columns.unread()
    noticed = [("lone_surrogate", "")] if row.repaired else []
    noticed += [("ignored_rewards", name) for name in unread if _JUDGING.search(name)]
    noticed += [(name, "") for name in columns.noticed]
    noticed += [(UNREAD, name) for name in unread if not _JUDGING.search(name)]
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
        self.noticed = self._reader.noticed

    def has(self, *names: str) -> bool:
        """Whether the row has all these columns."""
        return all(self._row.get(name) is not None for name in names)

    def get(self, name: str) -> Any:
        """One column; None if it is missing."""
        self._read.add(name)
        return self._row.get(name)

    def unread(self) -> tuple[str, ...]:
        """The columns that were not read and are not empty."""
        return tuple(name for name, value in self._row.items() if name not in self._read and value is not None)

    def examples(self) -> list[Example]:
        """The examples of the row; several if answers that are only context come between learned ones.

        Raises:
            DataCorrupt: the columns are not those of an example, or a message or a tool is wrong.
        """
        self._reader.tools = tools_of(self.get("tools") or self._row.get("functions"), self._place)
        origin = unpacked(self.get("origin"), f"the origin of {self._place}", "{")
        common: dict[str, Any] = {"tools": self._reader.tools, "origin": ExampleOrigin.from_json(as_object(origin))}
        if self.has("preferred_output"):
            return [self._preference()]
        if self.has("chosen", "rejected"):
            return [self._pair(common)]
        if self.has("completion"):
            prompt, _ = self._messages("prompt")
            return self._judged_or_learned(prompt, *self._messages("completion"), common)
        for name in ("messages", "conversations", "conversation"):
            if self.has(name):
                return self._conversation(name, common)
        if self.has("instruction", "output"):
            prompt, answer = self._instruction(), AssistantMessage.of(str(self.get("output")))
            if self._label() is not None:
                return self._judged_or_learned(prompt, (answer,), (None,), common)
            return [SftExample(messages=(*prompt, answer), **common)]  # earlier answers of `history` are learned, too
        raise DataCorrupt(f"{self._place} has the columns {', '.join(self._row) or 'none'}; it needs {SHAPES_KNOWN}")

    def _messages(self, name: str) -> tuple[Messages, tuple[bool | None, ...]]:
        return self._reader.messages(self.get(name), name)

    def _conversation(self, name: str, common: Row) -> list[Example]:
        messages, learned = self._messages(name)
        if self.has("system") and messages and not isinstance(messages[0], SystemMessage):
            messages, learned = (SystemMessage.of(str(self.get("system"))), *messages), (None, *learned)
        if self._label() is None:
            return _learned(messages, learned, 0, common)
        start = next((n for n in reversed(range(len(messages))) if messages[n].role != "assistant"), -1) + 1
        return self._judged_or_learned(messages[:start], messages[start:], learned[start:], common)

    def _judged_or_learned(
        self, prompt: Messages, completion: Messages, learned: Sequence[bool | None], common: Row
    ) -> list[Example]:
        label = self._label()
        if label is None:
            return _learned((*prompt, *completion), (*(False for _ in prompt), *learned), len(prompt), common)
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
        prompt = () if named is None or whole else self._messages(named)[0]
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
        asked = as_object(self.get("input"))
        prompt, _ = self._reader.messages(asked.get("messages"), "input.messages")
        chosen, rejected = self._answer("preferred_output"), self._answer("non_preferred_output")
        tools = tools_of(asked.get("tools"), self._place)
        return DpoExample(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools)

    def _answer(self, name: str) -> Messages:
        messages, learned = self._reader.after().messages(self.get(name), name)
        if False in learned:
            raise DataCorrupt(f"{self._place}: an answer of `{name}` has weight 0; leave the row out")
        return messages

    def _instruction(self) -> Messages:
        """The prompt of an Alpaca row: `system`, `history` (pairs of texts), `instruction` and `input`."""
        system = [SystemMessage.of(str(self.get("system")))] if self.has("system") else []
        earlier: list[Message] = []
        for pair in as_list(self.get("history")):
            if len(as_list(pair)) != 2:
                what = f"`history` holds {pair!r:.60}"
                raise DataCorrupt(f"{self._place}: {what}; write pairs of a question and an answer")
            earlier += [UserMessage.of(str(pair[0])), AssistantMessage.of(str(pair[1]))]
        parts = (str(self.get(name) or "") for name in ("instruction", "input"))
        return (*system, *earlier, UserMessage.of("\n".join(filter(None, parts))))


def _learned(messages: Messages, learned: Sequence[bool | None], start: int, common: Row) -> list[Example]:
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
