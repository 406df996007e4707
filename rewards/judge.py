"""A model as a judge: verdicts as JSON, several votes, and seeds that follow from what is judged.

The seed of a vote is derived from the run's seed and the judge's prompt, not from the place in the conversation. Equal
contents are therefore equal requests, which a run makes once (`ChatRequest.reusable`), and the order in which
conversations are judged changes no verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, TypeVar, cast

from simkit.core.ids import TurnKey, derive_seed
from simkit.core.messages import JsonObject, UserMessage, text_of
from simkit.core.reasoning import without_reasoning
from simkit.errors import NoVerdict, RewardFault, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, is_deterministic

V = TypeVar("V")

ROLE = "judge"
ATTEMPTS = 3
"""Answers that the judge is asked for until one is a verdict."""

Form: TypeAlias = Literal["schema", "text"]
"""How JSON is asked for: by `response_format` and in words, or in words alone, for endpoints that refuse the former."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A question to a judge: the prompt, and the JSON schema of a verdict."""

    prompt: str
    schema: JsonObject
    name: str = "verdict"


@dataclass(frozen=True, slots=True)
class Unread:
    """An answer that is no verdict; `why` says what it lacks, as a clause."""

    why: str


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that gives verdicts.

    Args:
        model: the model, such as that of `--judge-model`.
        votes: verdicts on each question, each with a seed of its own; odd, so that a majority decides.
        form: how JSON is asked for.

    Raises:
        UsageError: the number of votes is even or below 1, or the model would vote the same each time.
    """

    model: ChatModel
    votes: int = 1
    form: Form = "schema"

    def __post_init__(self) -> None:
        if self.votes < 1 or self.votes % 2 == 0:
            raise UsageError(f"votes is {self.votes}; give an odd number, so that there is always a majority")
        if self.votes > 1 and is_deterministic(self.model):
            raise UsageError(
                f"the judge `{self.model.name}` answers equal questions alike (temperature 0), so its {self.votes} "
                "votes would be one; give it a temperature (--judge-temperature 0.7), or leave votes at 1"
            )

    async def ask(
        self, ballot: Ballot, read: Callable[[Mapping[str, Any]], V | Unread], key: TurnKey | None, place: int = 0
    ) -> tuple[V, ...]:
        """The votes on a question.

        Args:
            ballot: the question.
            read: turns the JSON of an answer into a verdict, or says why it is not one.
            key: the turn that is judged, for records.
            place: number of the question within that turn.

        Raises:
            ModelFault: the model did not answer.
            NoVerdict: none of its answers was a verdict.
            RewardFault: there is no key.
        """
        if key is None:
            raise RewardFault(
                "a judge needs the key of the turn (`ScoreTurn.key`, `ScoreEpisode.key`); give one in the request"
            )
        return tuple([await self._vote(ballot, read, key, place, vote) for vote in range(self.votes)])

    async def _vote(
        self, ballot: Ballot, read: Callable[[Mapping[str, Any]], V | Unread], key: TurnKey, place: int, vote: int
    ) -> V:
        said, verdict = "", Unread("")
        for attempt in range(ATTEMPTS):
            number = (place * self.votes + vote) * ATTEMPTS + attempt
            request = self._request(ballot, key.run_seed, vote, attempt)
            response = await self.model.complete(request, CallKey(key, ROLE, number))
            said = without_reasoning(text_of(response.message))
            fields = read_json(said)
            verdict = Unread("it has no JSON object") if fields is None else read(fields)
            if not isinstance(verdict, Unread):
                return verdict
        raise NoVerdict(
            f"the judge `{self.model.name}` was asked {ATTEMPTS} times and gave no verdict in the asked form; its last "
            f"answer begins {said[:80]!r}: {verdict.why}. Choose another judge, or a shorter question",
            why=verdict.why,
            answer=said,
        )

    def _request(self, ballot: Ballot, run_seed: int, vote: int, attempt: int) -> ChatRequest:
        digest = blake2b(ballot.prompt.encode(), digest_size=16).hexdigest()
        named = {"name": ballot.name, "strict": True, "schema": dict(ballot.schema)}
        return ChatRequest(
            messages=(UserMessage.of(ballot.prompt),),
            response_format={"type": "json_schema", "json_schema": named} if self.form == "schema" else None,
            seed=derive_seed(run_seed, ROLE, digest, vote, attempt),
            reusable=True,
        )


def read_json(text: str) -> dict[str, Any] | None:
    """The JSON object in an answer, which may stand between other words or in a fence; None if there is none."""
    told = text[text.find("{") : text.rfind("}") + 1]  # without a pair of braces nothing, or "}": no JSON either way
    try:
        return cast("dict[str, Any]", json.loads(told, strict=False, object_pairs_hook=_object))
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ.

    Raises:
        ValueError: a key occurs twice, so that the answer says two things.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key occurs twice")
    return made


def object_schema(properties: Mapping[str, JsonObject]) -> dict[str, Any]:
    """The schema of an object with exactly these fields."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def truth(value: object) -> bool | None:
    """A verdict of yes or no, also as a word; None for anything else."""
    if isinstance(value, bool):
        return value
    words = {"yes": True, "true": True, "no": False, "false": False}
    return words.get(value.strip().lower()) if isinstance(value, str) else None


def reason_of(fields: Mapping[str, Any]) -> str:
    """The reason of a verdict, on one line."""
    return " ".join(str(fields.get("reason") or "").split())[:500]


def most_common(votes: Sequence[V]) -> V:
    """The value with the most votes, the earliest of equals."""
    return max(votes, key=votes.count)
