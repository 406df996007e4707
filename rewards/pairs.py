"""Comparison of two conversations by a judge, in both orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.plugins.prompts import Prompt
from simkit.rewards.judge import Ballot, Judge, Unread, object_schema, reason_of
from simkit.rewards.numbered import as_text, numbered

Side: TypeAlias = Literal["first", "second", "neither"]

VALUES: Mapping[Side, float] = {"first": 1.0, "neither": 0.5, "second": 0.0}
"""What a comparison is worth to the first of the two."""

_TURNED: Mapping[Side, Side] = {"first": "second", "second": "first", "neither": "neither"}
_FORM = '{"reason": "...", "better": "first" or "second" or "neither"}'
_SCHEMA = object_schema({"reason": {"type": "string"}, "better": {"type": "string", "enum": list(get_args(Side))}})


@dataclass(frozen=True, slots=True)
class Preference:
    """One verdict on a pair, as the pair was shown."""

    better: Side
    reason: str


@dataclass(frozen=True, slots=True)
class PairVote:
    """One vote on a pair: shown as it is, and with its sides swapped (`swapped` is as it was shown)."""

    straight: Preference
    swapped: Preference

    @property
    def better(self) -> Side:
        """The side that is preferred in both orders; `neither` for everything else."""
        turned = _TURNED[self.swapped.better]
        return self.straight.better if self.straight.better == turned else "neither"


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """The votes on a pair.

    Attributes:
        value: 1 if the first conversation is better, 0 for the second, 0.5 for neither; the mean over votes.
        consistent: share of votes with the same winner in both orders.
    """

    votes: tuple[PairVote, ...]

    @property
    def value(self) -> float:
        """What the comparison is worth to the first conversation."""
        return sum(VALUES[vote.better] for vote in self.votes) / len(self.votes)

    @property
    def better(self) -> Side:
        """The side that most votes prefer."""
        return "first" if self.value > 0.5 else "second" if self.value < 0.5 else "neither"

    @property
    def consistent(self) -> float:
        """Share of votes with the same winner in both orders."""
        same = [vote.straight.better == _TURNED[vote.swapped.better] for vote in self.votes]
        return sum(same) / len(same)

    @property
    def shown_first(self) -> float | None:
        """Share of decided verdicts for the conversation that was shown first: 0.5 for a judge that does not mind."""
        sides = [each.better for vote in self.votes for each in (vote.straight, vote.swapped)]
        decided = [side for side in sides if side != "neither"]
        return decided.count("first") / len(decided) if decided else None

    @property
    def reason(self) -> str:
        """The reason of the first vote, in both orders if they disagree."""
        vote = self.votes[0]
        if vote.straight.better == _TURNED[vote.swapped.better]:
            return vote.straight.reason
        return f"undecided. Shown first: {vote.straight.reason} Shown second: {vote.swapped.reason}"


@dataclass(frozen=True, slots=True)
class PairJudge:
    """A judge with the prompt for pairs; `criteria` says in words what counts."""

    judge: Judge
    prompt: Prompt
    criteria: str = ""

    async def ask(
        self, instructions: str, first: Conversation, second: Conversation, key: TurnKey | None
    ) -> PairVerdict:
        """The verdict on two conversations of one task.

        Raises:
            ModelFault, RewardFault: see `Judge.ask`.
        """
        one, two = as_text(numbered(first)), as_text(numbered(second))
        straight = await self.judge.ask(self._ballot(instructions, one, two), _read, key, 0)
        swapped = await self.judge.ask(self._ballot(instructions, two, one), _read, key, 1)
        return PairVerdict(tuple(map(PairVote, straight, swapped)))

    def _ballot(self, instructions: str, first: str, second: str) -> Ballot:
        said = self.prompt.fill(task=instructions, first=first, second=second, criteria=self.criteria, form=_FORM)
        return Ballot(said, _SCHEMA, "preference")


def _read(fields: Mapping[str, Any]) -> Preference | Unread:
    side = str(fields.get("better")).strip().lower()
    if side not in VALUES:
        return Unread(f"its `better` is none of {', '.join(VALUES)}")
    return Preference(cast("Side", side), reason_of(fields))
