"""A judge: a model with a prompt, that grades one answer or compares two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simkit.core.ids import TurnKey
from simkit.core.messages import UserMessage, text_of, without_reasoning
from simkit.errors import ModelFault
from simkit.models.base import CallKey, ChatModel, ChatRequest
from simkit.plugins.prompts import Prompt, read_prompt, shipped_prompt
from simkit.preservation.agreement import Pair
from simkit.preservation.answers import Answers
from simkit.preservation.questions import Question
from simkit.preservation.verdicts import Grade, Preference, read_grade, read_preference

ROLE = "judge"
GRADING, OURS_FIRST, THEIRS_FIRST = 0, 1, 2
"""Numbers of the calls that a judge makes about one turn of one question."""


@dataclass(frozen=True, slots=True)
class JudgePrompts:
    """What a judge is told.

    Attributes:
        grade: fills `{{conversation}}` and `{{reference}}`.
        pair: fills `{{first}}`, `{{second}}` and `{{reference}}`.
    """

    grade: Prompt
    pair: Prompt

    @classmethod
    def choose(cls, grade: Path | None = None, pair: Path | None = None) -> JudgePrompts:
        """The user's own files, and the prompts that come with simkit where none is given.

        Raises:
            UsageError: a file cannot be read or lacks a place.
        """
        package = "simkit.preservation"
        return cls(
            read_prompt(grade, ("conversation",)) if grade else shipped_prompt(package, "grade-1.txt"),
            read_prompt(pair, ("first", "second")) if pair else shipped_prompt(package, "pair-1.txt"),
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges answers; `seed` is the run's, from which the seeds of its calls follow."""

    model: ChatModel
    prompts: JudgePrompts
    seed: int

    async def grade(self, question: Question, answers: Answers, turn: int) -> Grade:
        """The grade of the answer to a turn, counted from 0."""
        prompt = self.prompts.grade.fill(
            conversation=dialogue(question.turns, answers.texts, turn), reference=_reference(question, turn)
        )
        said = await self._ask(prompt, self._key(question, answers.trial, turn, GRADING))
        return Grade(None, "", said.problem) if isinstance(said, _Silent) else read_grade(said)

    async def pair(self, question: Question, ours: Answers, theirs: Answers, turn: int) -> Pair:
        """The two answers to a turn, counted from 0, compared in both orders."""
        one = dialogue(question.turns, ours.texts, turn)
        two = dialogue(question.turns, theirs.texts, turn)
        reference = _reference(question, turn)
        forth, back = (self._key(question, ours.trial, turn, number) for number in (OURS_FIRST, THEIRS_FIRST))
        return Pair(
            await self._prefer(self.prompts.pair.fill(first=one, second=two, reference=reference), forth),
            await self._prefer(self.prompts.pair.fill(first=two, second=one, reference=reference), back),
        )

    async def _prefer(self, prompt: str, key: CallKey) -> Preference:
        said = await self._ask(prompt, key)
        return Preference(None, "", said.problem) if isinstance(said, _Silent) else read_preference(said)

    async def _ask(self, prompt: str, key: CallKey) -> str | _Silent:
        try:
            response = await self.model.complete(ChatRequest(messages=(UserMessage.of(prompt),), seed=key.seed), key)
        except ModelFault as fault:
            return _Silent(f"the judge did not answer: {fault}")
        return without_reasoning(text_of(response.message))

    def _key(self, question: Question, trial: int, turn: int, number: int) -> CallKey:
        return CallKey(TurnKey(self.seed, question.id, trial, "", turn + 1), ROLE, number)


@dataclass(frozen=True, slots=True)
class _Silent:
    problem: str


def dialogue(turns: Sequence[str], answers: Sequence[str], last: int) -> str:
    """A conversation up to and with the answer to turn `last`, counted from 0, as a judge reads it."""
    pairs = zip(turns[: last + 1], answers[: last + 1], strict=True)
    return "\n\n".join(f"User:\n{said}\n\nAssistant:\n{answered}" for said, answered in pairs)


def _reference(question: Question, turn: int) -> str:
    if not question.reference or not question.reference[turn].strip():
        return ""
    return (
        "Somebody who knows has answered the last question as follows. Where an answer contradicts it, the answer is "
        f"wrong.\n\n<<<known answer\n{question.reference[turn]}\nknown answer>>>"
    )
