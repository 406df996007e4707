"""The judged evaluation: every question is answered, graded, and compared with the answers of another model or run.

The scores are stored as three suites named after the question file: `NAME/answers`, `NAME/grades` and `NAME/pairs`. An
item is a question, and a trial is one sample of its answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from simkit.core.cancellation import unasked
from simkit.errors import ModelFault
from simkit.models.base import ChatModel
from simkit.preservation.judge import HIGHEST, LOWEST, Agreement, Grade, Judge, Pair, agreement
from simkit.preservation.questions import Answers, Question, ask
from simkit.statistics.scores import Estimate, mean, mean_of_tasks

if TYPE_CHECKING:
    from simkit.run.run import Run


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
        return _over_questions(self._scores(None), (LOWEST, HIGHEST))

    def score_of_turn(self, turn: int) -> Estimate | None:
        """The mean grade of one turn, counted from 0."""
        return _over_questions(self._scores(turn), (LOWEST, HIGHEST))

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


@dataclass(frozen=True, slots=True)
class Source:
    """Where answers come from: `model` is asked, each question `trials` times, or `kept` has them by question."""

    model: ChatModel | None = None
    kept: Mapping[str, Sequence[Answers]] = field(default_factory=dict[str, Sequence[Answers]])
    trials: int = 1
    role: str = "agent"

    def count(self, question: Question) -> int:
        """How many samples of answers there are to a question."""
        return self.trials if self.model is not None else len(self.kept[question.id])

    async def answers(self, question: Question, trial: int, seed: int) -> Answers:
        """One sample; kept ones come round again where there are fewer."""
        if self.model is None:
            found = self.kept[question.id]
            return found[trial % len(found)]
        return await ask(self.model, question, trial, seed=seed, role=self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is done with a question file: whose answers, who judges them, and whom they are compared with.

    Attributes:
        name: the name of the suites.
        questions: what is asked.
        ours: the answers that are evaluated.
        theirs: the answers they are compared with, None for grades alone.
        judge: grades and compares; None only keeps the answers.
    """

    name: str
    questions: Sequence[Question]
    ours: Source
    theirs: Source | None = None
    judge: Judge | None = None


async def evaluate(run: Run, evaluation: Evaluation) -> Findings:
    """Answer, grade and compare everything, as many questions at once as the run allows.

    A resumed run asks nothing again that was answered: models answer from the journal.

    Raises:
        RunStopped: a budget is used up, or an endpoint is down.
    """
    session = _Session(run, evaluation, anyio.CapacityLimiter(run.concurrency))
    async with anyio.create_task_group() as group:
        for question in evaluation.questions:
            for trial in range(evaluation.ours.count(question)):
                group.start_soon(session.play, question, trial)
    return session.findings


@dataclass(frozen=True, slots=True)
class _Session:
    run: Run
    evaluation: Evaluation
    limiter: anyio.CapacityLimiter
    findings: Findings = field(default_factory=Findings)

    async def play(self, question: Question, trial: int) -> None:
        """One sample of answers to one question, with everything that is judged of it."""
        with unasked(f"question {question.id}"):
            async with self.limiter:
                await self._play(question, trial)

    async def _play(self, question: Question, trial: int) -> None:
        ours = await self._answer(question, trial)
        if self.evaluation.judge is None or ours.problem:
            return
        await self._grade(self.evaluation.judge, question, ours)
        if self.evaluation.theirs is not None:
            theirs = await self.evaluation.theirs.answers(question, trial, self.run.seed)
            await self._compare(self.evaluation.judge, question, ours, theirs)

    async def _answer(self, question: Question, trial: int) -> Answers:
        ours = replace(await self.evaluation.ours.answers(question, trial, self.run.seed), trial=trial)
        _keep_answers(self.run, self.evaluation.name, question, trial, ours)
        self.findings.answered += not ours.problem
        self.findings.unanswered += bool(ours.problem)
        self.findings.note(ours.problem)
        self._tell()
        return ours

    async def _grade(self, judge: Judge, question: Question, ours: Answers) -> None:
        grades = [await judge.grade(question, ours, turn) for turn in range(len(question.turns))]
        self.findings.grades.setdefault(question.id, []).append(grades)
        self.findings.note(*(grade.problem for grade in grades))
        _keep_grades(self.run, self.evaluation, question, ours.trial, grades)
        self._tell()

    async def _compare(self, judge: Judge, question: Question, ours: Answers, theirs: Answers) -> None:
        if theirs.problem:
            detail = _by(self.evaluation, question) | {"problem": f"the other side: {theirs.problem}"}
            suite = f"{self.evaluation.name}/pairs"
            self.run.score_item(suite, question.id, trial=ours.trial, detail=detail, judged=0.0)
            self.findings.unopposed += 1
            self.findings.note(f"the other side: {theirs.problem}")
            return
        pairs = [await judge.pair(question, ours, theirs, turn) for turn in range(len(question.turns))]
        self.findings.pairs.setdefault(question.id, []).append(pairs)
        self.findings.note(*(each.problem for pair in pairs for each in (pair.ours_first, pair.theirs_first)))
        _keep_pairs(self.run, self.evaluation, question, ours.trial, pairs)
        self._tell()

    def _tell(self) -> None:
        found = self.findings
        samples = sum(map(len, found.grades.values()))
        answered = found.answered + found.unanswered
        self.run.tally.note = f"{self.evaluation.name}: {answered} of {self._planned} answered, {samples} graded"

    @property
    def _planned(self) -> int:
        return sum(map(self.evaluation.ours.count, self.evaluation.questions))


def _keep_answers(run: Run, name: str, question: Question, trial: int, answers: Answers) -> None:
    suite = f"{name}/answers"
    run.score_item(
        suite, question.id, trial=trial, detail=answers.to_json(question), answered=float(not answers.problem)
    )
    run.score_item(suite, question.id, trial=trial, words=float(answers.words))


def _keep_grades(run: Run, evaluation: Evaluation, question: Question, trial: int, grades: Sequence[Grade]) -> None:
    verdicts = [{"score": each.score, "problem": each.problem, "text": each.text} for each in grades]
    detail = _by(evaluation, question) | {"verdicts": verdicts}
    given = [each.score for each in grades]
    _keep(run, f"{evaluation.name}/grades", question, trial, detail, "score", given)


def _keep_pairs(run: Run, evaluation: Evaluation, question: Question, trial: int, pairs: Sequence[Pair]) -> None:
    verdicts = [_pair_json(each) for each in pairs]
    detail = _by(evaluation, question) | {"verdicts": verdicts}
    _keep(run, f"{evaluation.name}/pairs", question, trial, detail, "win", [each.value for each in pairs])


def _keep(
    run: Run,
    suite: str,
    question: Question,
    trial: int,
    detail: Mapping[str, Any],
    metric: str,
    values: Sequence[float | None],
) -> None:
    """The mean over turns as `metric`, where every turn has a verdict, and each turn's own as `metric_turn_N`."""
    run.score_item(suite, question.id, trial=trial, detail=detail, judged=float(None not in values))
    turns = {f"{metric}_turn_{number}": value for number, value in enumerate(values, 1) if value is not None}
    whole = {metric: mean(list(turns.values()))} if len(turns) == len(values) else {}
    run.score_item(suite, question.id, trial=trial, detail=None, **whole, **turns)


def _by(evaluation: Evaluation, question: Question) -> dict[str, Any]:
    assert evaluation.judge is not None
    prompts = evaluation.judge.prompts
    return {
        "category": question.category,
        "judge": evaluation.judge.model.name,
        "prompts": [prompts.grade.name, prompts.pair.name],
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    orders = {"ours_first": pair.ours_first, "theirs_first": pair.theirs_first}
    told = {name: {"choice": each.choice, "problem": each.problem, "text": each.text} for name, each in orders.items()}
    return {"winner": pair.winner, **told}


def judged_figures(name: str, findings: Findings, turns: int) -> dict[str, Any]:
    """Grades, win rate and the judge's agreement with itself."""
    found: dict[str, Any] = {f"{name} answered": findings.answered}
    if findings.unanswered:
        found[f"{name} not answered"] = findings.unanswered
    if findings.score is not None:
        found[f"{name} grade of 10"] = findings.score.to_json()
        by_turn = [findings.score_of_turn(turn) for turn in range(turns)] if turns > 1 else []
        found |= {f"{name} grade turn {n}": each.to_json() for n, each in enumerate(by_turn, 1) if each is not None}
    if findings.ungraded:
        found[f"{name} answers without a grade"] = findings.ungraded
    found |= _comparison(name, findings)
    return found | ({f"{name} first problem": findings.problem} if findings.problem else {})


def _comparison(name: str, findings: Findings) -> dict[str, Any]:
    agreement = findings.agreement
    found: dict[str, Any] = {}
    if agreement is not None:
        winners = [pair.winner for samples in findings.pairs.values() for sample in samples for pair in sample]
        counts = {"wins": "ours", "ties": "tie", "losses": "theirs"}
        if findings.win_rate is not None:
            found[f"{name} win rate"] = findings.win_rate.to_json()
        found[f"{name} pairs"] = ", ".join(f"{winners.count(side)} {word}" for word, side in counts.items())  # pyright: ignore[reportArgumentType]
        found[f"{name} judge agrees"] = None if agreement.same is None else agreement.same.to_json()
        found[f"{name} judge kappa"] = agreement.kappa
        found[f"{name} judge ties"] = agreement.ties
        found[f"{name} judge prefers the first"] = agreement.first
        if agreement.missing:
            found[f"{name} pairs without a verdict"] = agreement.missing
    if findings.unopposed:
        found[f"{name} answers without an opponent"] = findings.unopposed
    return {key: value for key, value in found.items() if value is not None}
