"""A model as a judge: its prompts, its verdicts, and how far it agrees with itself.

Each pair of answers is judged in both orders, because a judge may prefer the answer that it reads first. Only a
preference that holds in both orders counts as a win; everything else is a tie (the conservative rule of arXiv
2306.05685, section 3.4).

A verdict is never guessed. The last line decides if it is a verdict; otherwise all verdicts in the text must agree. The
accepted forms are those of simkit's prompts (`SCORE: 7`, `VERDICT: A`) and the bracketed ones of MT-Bench's prompts
(`[[7]]`, `[[A]]`, `[[C]]` for a tie), so that a user's own prompts may ask for either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from simkit.core.ids import TurnKey
from simkit.core.messages import UserMessage, text_of
from simkit.core.reasoning import without_reasoning
from simkit.errors import ModelFault
from simkit.models.base import CallKey, ChatModel, ChatRequest
from simkit.plugins.prompts import Prompt, read_prompt, shipped_prompt
from simkit.preservation.questions import Answers, Question
from simkit.statistics.scores import Estimate, mean_of_tasks

Choice: TypeAlias = Literal["first", "second", "tie"]
"""Preferred answer, in the order in which the judge was shown the two."""

LOWEST, HIGHEST = 1.0, 10.0

_MARKS = r"[ \t*_`\"'(\[{}\])#>]*"
_SCORE = re.compile(
    rf"^(?:- )?{_MARKS}(?:the )?(?:final )?(?:score|rating|grade){_MARKS}[:=]{_MARKS}(?P<plain>[-+]?\d+(?:\.\d+)?)"
    rf"(?:{_MARKS}(?:/|out of) ?10)?{_MARKS}\.?{_MARKS}$|\[\[(?P<brackets>[-+]?\d+(?:\.\d+)?)\]\]",
    re.I | re.M,
)
_CHOICE = re.compile(
    rf"^(?:- )?{_MARKS}(?:the )?(?:final )?(?:verdict|winner|decision){_MARKS}[:=]{_MARKS}(?:answer |assistant )?"
    rf"(?P<plain>A|B|TIE){_MARKS}\.?{_MARKS}$|\[\[(?P<brackets>A|B|C)\]\]",
    re.I | re.M,
)
_CHOICES: dict[str, Choice] = {"A": "first", "B": "second", "TIE": "tie", "C": "tie"}


@dataclass(frozen=True, slots=True)
class Grade:
    """A grade from 1 to 10, or None and the problem; `text` is the judge's reply."""

    score: float | None
    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """The preferred answer, or None and the problem; `text` is the judge's reply."""

    choice: Choice | None
    text: str = ""
    problem: str = ""


def read_grade(text: str) -> Grade:
    """Read the grade from a judge's reply."""
    found = _decided(text, _SCORE)
    if isinstance(found, str):
        return Grade(None, text, found)
    score = float(found[0])
    if not LOWEST <= score <= HIGHEST:
        return Grade(None, text, f"the grade {found[0]} is not between {LOWEST:g} and {HIGHEST:g}")
    return Grade(score, text)


def read_preference(text: str) -> Preference:
    """Read the preference from a judge's reply."""
    found = _decided(text, _CHOICE)
    if isinstance(found, str):
        return Preference(None, text, found)
    return Preference(_CHOICES[found[0].upper()], text)


def _decided(text: str, verdict: re.Pattern[str]) -> tuple[str] | str:
    """The verdict of a text, or the reason why it has no verdict."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "the judge wrote nothing"
    found = _values(lines[-1], verdict) or _values(text, verdict)
    distinct = {value.upper() for value in found}
    if not distinct:
        return "the judge wrote no verdict"
    if len(distinct) > 1:
        return f"the judge wrote several verdicts: {', '.join(found)}"
    return (found[0],)


def _values(text: str, verdict: re.Pattern[str]) -> Sequence[str]:
    return [match["plain"] or match["brackets"] for match in verdict.finditer(text)]


Side: TypeAlias = Literal["ours", "theirs", "tie"]

_VALUES: dict[Side, float] = {"ours": 1.0, "tie": 0.5, "theirs": 0.0}


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One pair of answers, judged with ours shown first and with theirs shown first."""

    ours_first: Preference
    theirs_first: Preference

    @property
    def sides(self) -> tuple[Side, Side] | None:
        """Winner in each order; None if a verdict is missing."""
        one, two = self.ours_first.choice, self.theirs_first.choice
        return None if one is None or two is None else (_side(one, "first"), _side(two, "second"))

    @property
    def winner(self) -> Side | None:
        """Winner in both orders, otherwise a tie; None if a verdict is missing."""
        if self.sides is None:
            return None
        one, two = self.sides
        return one if one == two else "tie"

    @property
    def value(self) -> float | None:
        """1 for a win of ours, 0.5 for a tie, 0 for a loss; None if a verdict is missing."""
        return None if self.winner is None else _VALUES[self.winner]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of a judge's verdicts in the two orders.

    Attributes:
        pairs: number of pairs with a verdict in both orders; `missing` counts the others.
        same: share of pairs with the same winner in both orders, with its 95% interval over questions.
        kappa: Cohen's kappa of the two orders over win, loss and tie: 0 for chance, 1 for full agreement; None if all
            verdicts are the same, for which it is undefined.
        ties: share of single verdicts that were ties.
        first: share of decided verdicts for the answer shown first: 0.5 without position bias; None if nothing was
            decided.
    """

    pairs: int
    missing: int
    same: Estimate | None
    kappa: float | None
    ties: float | None
    first: float | None


def agreement(questions: Sequence[Sequence[JudgedPair]]) -> Agreement:
    """Agreement of the judge over the pairs of each question, which are not independent of each other."""
    pairs = [pair for question in questions for pair in question]
    same = [
        [float(one == two) for one, two in filter(None, (pair.sides for pair in question))] for question in questions
    ]
    sides = [each.sides for each in pairs if each.sides is not None]
    verdicts = [side for both in sides for side in both]
    decided = [(place, side) for both in sides for place, side in enumerate(both) if side != "tie"]
    first = sum((side == "ours") == (place == 0) for place, side in decided)
    return Agreement(
        pairs=len(sides),
        missing=len(pairs) - len(sides),
        same=mean_of_tasks(same) if sides else None,
        kappa=cohens_kappa(sides),
        ties=verdicts.count("tie") / len(verdicts) if verdicts else None,
        first=first / len(decided) if decided else None,
    )


def cohens_kappa(ratings: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two ratings beyond chance (Cohen 1960); None without ratings, or if all are the same."""
    if not ratings:
        return None
    count = len(ratings)
    ones, twos = Counter(one for one, _ in ratings), Counter(two for _, two in ratings)
    observed = sum(one == two for one, two in ratings) / count
    expected = sum(ones[label] * twos[label] for label in ones) / count**2
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def _side(choice: Choice, ours: Choice) -> Side:
    if choice == "tie":
        return "tie"
    return "ours" if choice == ours else "theirs"


ROLE = "judge"
GRADING, OURS_FIRST, THEIRS_FIRST = 0, 1, 2
"""Step numbers of a judge's calls for one turn of one question."""


@dataclass(frozen=True, slots=True)
class JudgePrompts:
    """Prompts of a judge.

    Attributes:
        grade: prompt for grades, with the places `{{conversation}}` and `{{reference}}`.
        pair: prompt for comparisons, with the places `{{first}}`, `{{second}}` and `{{reference}}`.
    """

    grade: Prompt
    pair: Prompt

    @classmethod
    def choose(cls, grade: Path | None = None, pair: Path | None = None) -> JudgePrompts:
        """The given prompt files; the prompts of simkit by default.

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
    """A model that grades and compares answers; the seeds of its calls follow from `seed`, that of the run."""

    model: ChatModel
    prompts: JudgePrompts
    seed: int

    async def grade(self, question: Question, answers: Answers, turn: int) -> Grade:
        """The grade of the answer to a turn, counted from 0."""
        prompt = self.prompts.grade.fill(
            conversation=dialogue(question.turns, answers.texts, turn), reference=_reference(question, turn)
        )
        said = await self._ask(prompt, self._key(question, answers.trial, turn, GRADING))
        return Grade(None, "", said.problem) if isinstance(said, _NoReply) else read_grade(said)

    async def pair(self, question: Question, ours: Answers, theirs: Answers, turn: int) -> JudgedPair:
        """Comparison of the two answers to a turn, counted from 0, in both orders."""
        one = dialogue(question.turns, ours.texts, turn)
        two = dialogue(question.turns, theirs.texts, turn)
        reference = _reference(question, turn)
        forth, back = (self._key(question, ours.trial, turn, number) for number in (OURS_FIRST, THEIRS_FIRST))
        return JudgedPair(
            await self._prefer(self.prompts.pair.fill(first=one, second=two, reference=reference), forth),
            await self._prefer(self.prompts.pair.fill(first=two, second=one, reference=reference), back),
        )

    async def _prefer(self, prompt: str, key: CallKey) -> Preference:
        said = await self._ask(prompt, key)
        return Preference(None, "", said.problem) if isinstance(said, _NoReply) else read_preference(said)

    async def _ask(self, prompt: str, key: CallKey) -> str | _NoReply:
        try:
            response = await self.model.complete(ChatRequest(messages=(UserMessage.of(prompt),), seed=key.seed), key)
        except ModelFault as fault:
            return _NoReply(f"the judge did not answer: {fault}")
        return without_reasoning(text_of(response.message))

    def _key(self, question: Question, trial: int, turn: int, number: int) -> CallKey:
        return CallKey(TurnKey(self.seed, question.id, trial, "", turn + 1), ROLE, number)


@dataclass(frozen=True, slots=True)
class _NoReply:
    problem: str


def dialogue(turns: Sequence[str], answers: Sequence[str], last: int) -> str:
    """The conversation up to and including the answer to turn `last`, counted from 0, as a judge reads it."""
    pairs = zip(turns[: last + 1], answers[: last + 1], strict=True)
    return "\n\n".join(f"User:\n{said}\n\nAssistant:\n{answered}" for said, answered in pairs)


def _reference(question: Question, turn: int) -> str:
    if not question.reference or not question.reference[turn].strip():
        return ""
    return (
        "Somebody who knows has answered the last question as follows. Where an answer contradicts it, the answer is "
        f"wrong.\n\n<<<known answer\n{question.reference[turn]}\nknown answer>>>"
    )
