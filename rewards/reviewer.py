"""A judge of failures: whose fault it was that an episode failed, with a quote from the conversation as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.plugins.prompts import Prompt
from simkit.rewards.judge import Ballot, Judge, Unread, most_common, object_schema, reason_of
from simkit.rewards.numbered import Line, as_text, numbered, quoted

Party: TypeAlias = Literal["agent", "user", "tool", "reward"]

PARTIES: tuple[Party, ...] = get_args(Party)

_FORM = '{"reason": "...", "at_fault": "agent" or "user" or "tool" or "reward", "quote": "..."}'
_SCHEMA = object_schema(
    {
        "reason": {"type": "string"},
        "at_fault": {"type": "string", "enum": list(PARTIES)},
        "quote": {"type": "string"},
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about a failed episode before anybody reviews it.

    Attributes:
        instructions: what the user was told.
        outcome: how it ended; see `simkit.core.events.Outcome`.
        missed: the goals that were not reached, described in words.
        parts: the parts of the reward that were not full, with their evidence.
    """

    instructions: str
    conversation: Conversation
    outcome: str
    missed: Sequence[str] = ()
    parts: Sequence[str] = ()

    def __str__(self) -> str:
        return "\n".join(
            [
                f"- outcome: {self.outcome}",
                *(f"- goal not reached: {each}" for each in self.missed),
                *(f"- part of the reward: {each}" for each in self.parts),
            ]
        )


@dataclass(frozen=True, slots=True)
class Review:
    """Whose fault a failure was, with the line that shows it."""

    at_fault: Party
    reason: str
    quote: str
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Reviewer:
    """A judge with the prompt for failures."""

    judge: Judge
    prompt: Prompt

    async def ask(self, failure: Failure, key: TurnKey) -> Review:
        """The party that most votes name, with the first of their reasons.

        Raises:
            ModelFault: the model did not answer.
            NoVerdict: no answer named a party and quoted the conversation.
        """
        lines = numbered(failure.conversation)
        prompt = self.prompt.fill(
            task=failure.instructions, failure=str(failure), conversation=as_text(lines), form=_FORM
        )
        votes = await self.judge.ask(Ballot(prompt, _SCHEMA, "review"), partial(_read, lines), key)
        party = most_common([vote.at_fault for vote in votes])
        return next(vote for vote in votes if vote.at_fault == party)


def _read(lines: Sequence[Line], fields: Mapping[str, Any]) -> Review | Unread:
    """The review in an answer, unless it names no party, or quotes what is not in the conversation."""
    party, quote = str(fields.get("at_fault")).strip().lower(), str(fields.get("quote") or "")
    line = quoted(lines, quote)
    if party not in PARTIES:
        return Unread(f"its `at_fault` is none of {', '.join(PARTIES)}")
    if line is None:
        return Unread("its quote is not in the conversation" if quote else "it quotes nothing")
    return Review(party, reason_of(fields), quote, line)
