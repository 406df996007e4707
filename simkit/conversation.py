"""The conversation: an immutable sequence that shares its history, so that a fork is one reference.

Each appended entry is one small cell that points at the conversation before it. Ten thousand branches of one history
hold that history once, whatever its length; a branch pays only for what it adds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, final, overload

import orjson

from simkit.messages import AssistantMessage, JsonObject, Message, SystemMessage, UserMessage

Author: TypeAlias = Literal["system", "user", "agent", "tool", "runtime"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a conversation, with who wrote it and what the user hears of it.

    `message` is what the agent's model sees. `heard` is the text the other party hears, None for what stays inside the
    agent (plans, calls, returns). `turn` counts agent turns from 1; the system prompt and the opening belong to turn 0,
    a user's answer to the turn it answers. `step` counts the agent's decisions within a turn, from 0. Text written by
    the runtime ("the agent did not answer") has the author `runtime`: the user hears it, the agent's view leaves it
    out, and nothing is trained on it.
    """

    message: Message
    author: Author
    turn: int
    step: int = 0
    heard: str | None = None

    @classmethod
    def system(cls, text: str) -> Entry:
        """The agent's system prompt."""
        return cls(SystemMessage.of(text), "system", turn=0)

    @classmethod
    def user(cls, text: str, turn: int) -> Entry:
        """Something the user said."""
        return cls(UserMessage.of(text), "user", turn=turn, heard=text)

    @classmethod
    def agent(cls, text: str, turn: int, step: int = 0) -> Entry:
        """Something the agent said aloud."""
        return cls(AssistantMessage.of(text), "agent", turn=turn, step=step, heard=text)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One thing said aloud: the user's view of a conversation is a sequence of these."""

    speaker: Literal["user", "agent"]
    text: str


@final
class Conversation(Sequence[Entry]):
    """An immutable sequence of entries; `append` and `extend` return a new one and share the old."""

    __slots__ = ("_before", "_digest", "_last", "_length")

    _before: Conversation | None
    _last: Entry | None
    _length: int
    _digest: bytes | None

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        before: Conversation | None = None
        last: Entry | None = None
        length = 0
        for entry in entries:
            if last is not None:
                before = Conversation._cell(before, last, length)
            last, length = entry, length + 1
        self._before, self._last, self._length, self._digest = before, last, length, None

    @staticmethod
    def _cell(before: Conversation | None, last: Entry, length: int) -> Conversation:
        cell = object.__new__(Conversation)
        cell._before, cell._last, cell._length, cell._digest = before, last, length, None
        return cell

    def append(self, entry: Entry, *, wire: JsonObject | None = None) -> Conversation:
        """A conversation with one more entry; `wire` is its message's `to_openai()` where that is at hand already."""
        cell = object.__new__(Conversation)
        length = self._length
        cell._before = self if length else None
        cell._last = entry
        cell._length = length + 1
        cell._digest = None if wire is None else _digest_after(self.digest, entry, wire)
        return cell

    def extend(self, entries: Iterable[Entry]) -> Conversation:
        """A conversation with more entries."""
        grown = self
        for entry in entries:
            grown = grown.append(entry)
        return grown

    def tail(self, start: int) -> tuple[Entry, ...]:
        """The entries from index `start` on, at the cost of those entries alone."""
        found: list[Entry] = []
        cell: Conversation | None = self
        while cell is not None and cell._last is not None and cell._length > start:
            found.append(cell._last)
            cell = cell._before
        found.reverse()
        return tuple(found)

    def messages(self) -> tuple[Message, ...]:
        """The agent's view: every message, as its model sees them; the runtime's words are for the user alone."""
        return tuple(entry.message for entry in self.tail(0) if entry.author != "runtime")

    def heard(self) -> tuple[Utterance, ...]:
        """The user's view: what was said aloud."""
        return tuple(
            Utterance("user" if entry.author == "user" else "agent", entry.heard)
            for entry in self.tail(0)
            if entry.heard is not None
        )

    @property
    def last(self) -> Entry | None:
        """The last entry, None when nothing has been said."""
        return self._last

    @property
    def digest(self) -> bytes:
        """16 bytes that are equal exactly when the agent's views are the same JSON; computed once per entry."""
        pending: list[Conversation] = []
        cell: Conversation | None = self
        while cell is not None and cell._digest is None and cell._last is not None:
            pending.append(cell)
            cell = cell._before
        digest = b"" if cell is None or cell._digest is None else cell._digest
        for cell in reversed(pending):
            assert cell._last is not None
            digest = _digest_after(digest, cell._last, cell._last.message.to_openai())
            cell._digest = digest
        return digest

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.tail(0))

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        if isinstance(index, slice):
            return self.tail(0)[index]
        position = index + self._length if index < 0 else index
        if not 0 <= position < self._length:
            raise IndexError(f"entry {index} of a conversation of {self._length}")
        return self.tail(position)[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conversation):
            return NotImplemented
        return self is other or (self._length == other._length and self.tail(0) == other.tail(0))

    def __hash__(self) -> int:
        return hash((self._length, self._last))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Conversation, (self.tail(0),))

    def __repr__(self) -> str:
        return f"Conversation({self._length} entries)"


def _digest_after(before: bytes, entry: Entry, wire: JsonObject) -> bytes:
    if entry.author == "runtime":
        return before
    return blake2b(_canonical(wire), key=before, digest_size=16).digest()


def _canonical(data: JsonObject) -> bytes:
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # a provider's own field may hold an integer of more than 64 bits
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
