"""What a judged evaluation came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simkit.errors import ModelFault
from simkit.preservation.agreement import Agreement, Pair, agreement
from simkit.preservation.verdicts import Grade
from simkit.statistics.scores import Estimate, mean_of_tasks

GRADES = (1.0, 10.0)
"""The lowest and the highest grade."""


@dataclass(slots=True)
class Findings:
    """What came of an evaluation so far.

    Attributes:
        answered: samples of answers that are whole; `unanswered` are not, and nobody judges them.
        unopposed: whole samples that could not be compared, because the other side's are not whole.
        problem: why the first answer or verdict that is missing is missing.
        grades: by question, a list of grades for each sample: one grade a turn.
        pairs: by question, a list of pairs for each sample: one pair a turn.
    """

    answered: int = 0
    problem: str = ""
    unanswered: int = 0
    unopposed: int = 0
    grades: dict[str, list[Sequence[Grade]]] = field(default_factory=dict[str, list[Sequence[Grade]]])
    pairs: dict[str, list[Sequence[Pair]]] = field(default_factory=dict[str, list[Sequence[Pair]]])

    def note(self, *problems: str) -> None:
        """Remember the first problem."""
        self.problem = self.problem or next((problem for problem in problems if problem), "")

    @property
    def agreement(self) -> Agreement | None:
        """How the judge agrees with itself when answers change places; None when nothing was compared."""
        questions = [[pair for sample in samples for pair in sample] for samples in self.pairs.values()]
        return agreement(questions) if any(questions) else None

    @property
    def win_rate(self) -> Estimate | None:
        """The share of wins, a tie counting half, with an interval over questions."""
        values = {name: [[each.value for each in sample] for sample in samples] for name, samples in self.pairs.items()}
        return _over_questions(values, (0.0, 1.0))

    @property
    def score(self) -> Estimate | None:
        """The mean grade from 1 to 10, with an interval over questions."""
        return _over_questions(self._scores(None), GRADES)

    def score_of_turn(self, turn: int) -> Estimate | None:
        """The mean grade of one turn, counted from 0."""
        return _over_questions(self._scores(turn), GRADES)

    @property
    def ungraded(self) -> int:
        """Answers whose judge gave no grade."""
        return sum(each.score is None for samples in self.grades.values() for sample in samples for each in sample)

    @property
    def verdicts(self) -> int:
        """Verdicts that were given, grades and preferences alike."""
        graded = sum(len(sample) for samples in self.grades.values() for sample in samples) - self.ungraded
        return graded + (self.agreement.pairs if self.agreement else 0)

    def check(self) -> None:
        """Make sure that something came of it.

        Raises:
            ModelFault: no question was answered, or no judge gave a verdict on any answer.
        """
        if not self.answered:
            raise ModelFault(f"none of the questions was answered; the first failure: {self.problem}")
        if self.grades and not self.verdicts:
            raise ModelFault(f"the judge gave no verdict on any of {self.ungraded} answers; the first: {self.problem}")

    def _scores(self, turn: int | None) -> dict[str, list[list[float | None]]]:
        return {
            name: [[each.score for each in (sample if turn is None else sample[turn : turn + 1])] for sample in samples]
            for name, samples in self.grades.items()
        }


def _over_questions(
    values: Mapping[str, Sequence[Sequence[float | None]]], bounds: tuple[float, float]
) -> Estimate | None:
    groups = [[each for sample in values[name] for each in sample if each is not None] for name in sorted(values)]
    known = [group for group in groups if group]
    return mean_of_tasks(known, bounds=bounds) if known else None
