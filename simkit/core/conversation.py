"""The conversation: an immutable sequence that shares its history, so that a fork is one reference."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias, final

from simkit.core.messages import AssistantMessage, Message, SystemMessage, UserMessage
from simkit.core.persistent_list import PersistentList

Author: TypeAlias = Literal["system", "user", "agent", "tool", "runtime", "user_tool"]

HIDDEN_FROM_AGENT: frozenset[Author] = frozenset({"runtime", "user_tool"})
"""Authors of entries that the agent's view leaves out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a conversation, with its author and the text that the other party hears.

    `message` is what the agent's model sees. `heard` is the text that the other party hears, None for messages internal
    to the agent (plans, calls, returns). `turn` counts agent turns from 1; the system prompt and the opening belong to
    turn 0, a user's answer to the turn it answers. `step` counts the agent's decisions within a turn, from 0. Text
    written by the runtime ("the agent did not answer") has the author `runtime`: the user hears it, the agent's view
    leaves it out, and nothing is trained on it. Calls of the user's own tools and their results have the author
    `user_tool`: only the record has them, with the number of the user's decision as `step`.
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
    def user(cls, text: str, turn: int, step: int = 0) -> Entry:
        """An utterance of the user."""
        return cls(UserMessage.of(text), "user", turn=turn, step=step, heard=text)

    @classmethod
    def agent(cls, text: str, turn: int, step: int = 0) -> Entry:
        """An utterance of the agent."""
        return cls(AssistantMessage.of(text), "agent", turn=turn, step=step, heard=text)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance; the user's view of a conversation is a sequence of utterances."""

    speaker: Literal["user", "agent"]
    text: str


@final
class Conversation(PersistentList[Entry]):
    """An immutable sequence of entries; `append` and `extend` return a new one that shares the old.

    Its digest is equal exactly when the agent's views are the same JSON.
    """

    __slots__ = ()

    def messages(self) -> tuple[Message, ...]:
        """The agent's view: all messages as its model sees them, without the runtime's and the user's own calls."""
        return tuple(entry.message for entry in self.tail(0) if entry.author not in HIDDEN_FROM_AGENT)

    def heard(self) -> tuple[Utterance, ...]:
        """The user's view: all utterances."""
        return tuple(
            Utterance("user" if entry.author == "user" else "agent", entry.heard)
            for entry in self.tail(0)
            if entry.heard is not None
        )

    def _after(self, digest: bytes, item: Entry) -> bytes:
        if item.author in HIDDEN_FROM_AGENT:
            return digest
        return blake2b(item.message.canonical(), key=digest, digest_size=16).digest()

    def __repr__(self) -> str:
        return f"Conversation({self._length} entries)"
