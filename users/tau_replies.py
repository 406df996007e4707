"""How replies of tau-bench's simulated user are read: as the release does, and with its defects repaired."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from simkit.core.ids import TurnKey
from simkit.core.messages import Message, text_of
from simkit.core.reasoning import without_reasoning
from simkit.models.base import CallKey, ChatModel, ChatRequest, Usage

Variant: TypeAlias = Literal["paper", "fixed"]

STOP: Final = "###STOP###"
"""The marker that ends a conversation."""

THOUGHT, RESPONSE, PROPOSAL = "Thought:", "User Response:", "Response:"

_ENDS: Final = re.compile(rf"^[^\w\n]*{STOP}[^\w\n]*$|{STOP}\W*\Z", re.MULTILINE)
_VERDICT: Final = re.compile(r"\b(true|false)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TauReply:
    """A message of the user: its text, whether it ends the conversation, and doubts about it."""

    text: str
    end: bool = False
    flags: tuple[str, ...] = ()


class Questions:
    """The calls of the model within one turn of the user, each with a key of its own, and what they used."""

    def __init__(self, model: ChatModel, key: TurnKey) -> None:
        self._model = model
        self._key = key
        self._asked = 0
        self.used = Usage()

    async def ask(self, messages: Sequence[Message]) -> str:
        """The text of the model's reply.

        Raises:
            ModelFault: the call failed.
        """
        key = CallKey(self._key, "user", self._asked)
        self._asked += 1
        response = await self._model.complete(ChatRequest(messages=messages, seed=key.seed), key)
        self.used = self.used.plus(response.usage)
        return text_of(response.message)


class Replies(ABC):
    """One way to read the replies of the user's model and of its judge.

    Attributes:
        attempts: maximum number of replies asked for until one can be read.
        remembers: whether the model remembers what was said, and nothing else.
        cued: whether the opening is cued by a stage direction instead of the release's greeting.
    """

    attempts: ClassVar[int]
    remembers: ClassVar[bool]
    cued: ClassVar[bool]
    labels: ClassVar[dict[str, str]]

    @abstractmethod
    def response(self, written: str) -> str | None:
        """What the agent hears of a reply with a thought; None if the reply does not have this form."""

    @abstractmethod
    def reply(self, said: str, flags: tuple[str, ...] = ()) -> TauReply:
        """A message, and whether it ends the conversation."""

    @abstractmethod
    def shown(self, written: str) -> str:
        """A message as the judge of `verify` sees it."""

    @abstractmethod
    def is_true(self, verdict: str) -> bool:
        """Whether a verdict lets a message pass."""

    @abstractmethod
    def proposal(self, reflection: str) -> str | None:
        """The better message that a reflection proposes; None if it does not have this form."""

    def transcript(self, messages: Sequence[Message]) -> str:
        """The conversation as the judge reads it."""
        return "\n".join(f"{self.labels[message.role]}: {text_of(message)}" for message in messages)


class PaperReplies(Replies):
    """As the release does it.

    A reply with `Thought:` is heard from there on, so that the agent hears the thought, too. In transcripts the
    customer is called agent and the agent customer. The judge of `verify` sees the notation of an object.
    """

    attempts: ClassVar[int] = 1
    remembers: ClassVar[bool] = False
    cued: ClassVar[bool] = False
    labels: ClassVar[dict[str, str]] = {"system": "System", "user": "Customer", "assistant": "Agent"}

    def response(self, written: str) -> str | None:
        """Everything behind the only `Thought:`, else behind the only `User Response:`; the marker alone with it."""
        if STOP in written:
            return STOP
        parts = written.split(THOUGHT if THOUGHT in written else RESPONSE)
        return parts[1].strip() if len(parts) == 2 else None

    def reply(self, said: str, flags: tuple[str, ...] = ()) -> TauReply:
        """The text as it is; the marker ends the conversation wherever it stands."""
        return TauReply(said, STOP in said, flags)

    def shown(self, written: str) -> str:
        """The notation of the release's message object."""
        return f"Message(content={written!r}, role='assistant', tool_calls=None, function_call=None)"

    def is_true(self, verdict: str) -> bool:
        """Whether the verdict contains `true` anywhere."""
        return "true" in verdict.lower()

    def proposal(self, reflection: str) -> str | None:
        """Everything behind the only `Response:`."""
        parts = reflection.split(PROPOSAL)
        return parts[1].strip() if len(parts) == 2 else None


class RepairedReplies(Replies):
    """With the release's defects repaired."""

    attempts: ClassVar[int] = 3
    remembers: ClassVar[bool] = True
    cued: ClassVar[bool] = True
    labels: ClassVar[dict[str, str]] = {"system": "System", "user": "Agent", "assistant": "Customer"}

    def response(self, written: str) -> str | None:
        """The text behind the last `User Response:`; None if there is none."""
        _, found, response = without_reasoning(written).rpartition(RESPONSE)
        return response.strip() or None if found else None

    def reply(self, said: str, flags: tuple[str, ...] = ()) -> TauReply:
        """The text without markers; one that stands alone on its line or at the end ends the conversation."""
        text = without_reasoning(said).strip()
        end = _ENDS.search(text) is not None
        if STOP in text and not end:
            flags = (*flags, "marker_inside")
        return TauReply(text.replace(STOP, "").strip(), end, flags)

    def shown(self, written: str) -> str:
        """The message itself."""
        return without_reasoning(written).strip()

    def is_true(self, verdict: str) -> bool:
        """Whether the first `true` or `false` of the verdict is `true`."""
        found = _VERDICT.search(without_reasoning(verdict))
        return found is not None and found[0].lower() == "true"

    def proposal(self, reflection: str) -> str | None:
        """The text behind the last `Response:`, otherwise all of it."""
        return without_reasoning(reflection).rpartition(PROPOSAL)[2].strip() or None
