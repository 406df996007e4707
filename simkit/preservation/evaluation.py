"""The judged evaluation: every question is answered, graded, and compared with the answers of another model or run.

The scores are stored as three suites named after the question file: `NAME/answers`, `NAME/grades` and `NAME/pairs`. An
item is a question, and a trial is one sample of its answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from simkit.core.cancellation import require_results, unasked
from simkit.errors import ModelFault
from simkit.models.base import ChatModel
from simkit.preservation.judge import HIGHEST, LOWEST, Agreement, Grade, Judge, JudgedPair, agreement
from simkit.preservation.questions import Answers, Question, ask
from simkit.statistics.scores import Estimate, mean, mean_of_tasks

if TYPE_CHECKING:
    from simkit.run.run import Run


@dataclass(slots=True)
class JudgedResults:
    """Results of a judged evaluation, collected while it runs.

    Attributes:
        answered: number of complete samples of answers; `unanswered` counts incomplete ones, which are not judged.
        uncompared: complete samples that were not compared, because the other side's answers are incomplete.
        problem: the first problem that an answer or a verdict had.
        grades: by question, a list of samples with one grade per turn.
        pairs: by question, a list of samples with one pair per turn.
    """

    answered: int = 0
    problem: str = ""
    unanswered: int = 0
    uncompared: int = 0
    grades: dict[str, list[Sequence[Grade]]] = field(default_factory=dict[str, list[Sequence[Grade]]])
    pairs: dict[str, list[Sequence[JudgedPair]]] = field(default_factory=dict[str, list[Sequence[JudgedPair]]])

    def note_problems(self, *problems: str) -> None:
        """Keep the first problem."""
        self.problem = self.problem or next((problem for problem in problems if problem), "")

    @property
    def agreement(self) -> Agreement | None:
        """Agreement of the judge with itself in the two orders; None if nothing was compared."""
        questions = [[pair for sample in samples for pair in sample] for samples in self.pairs.values()]
        return agreement(questions) if any(questions) else None

    @property
    def win_rate(self) -> Estimate | None:
        """Share of wins, with ties counted as half, with an interval over questions."""
        values = {name: [[each.value for each in sample] for sample in samples] for name, samples in self.pairs.items()}
        return _over_questions(values, (0.0, 1.0))

    @property
    def score(self) -> Estimate | None:
        """Mean grade from 1 to 10, with an interval over questions."""
        return _over_questions(self._scores(None), (LOWEST, HIGHEST))

    def score_of_turn(self, turn: int) -> Estimate | None:
        """Mean grade of one turn, counted from 0."""
        return _over_questions(self._scores(turn), (LOWEST, HIGHEST))

    @property
    def ungraded(self) -> int:
        """Number of answers without a grade."""
        return sum(each.score is None for samples in self.grades.values() for sample in samples for each in sample)

    @property
    def verdicts(self) -> int:
        """Number of verdicts, grades and preferences together."""
        graded = sum(len(sample) for samples in self.grades.values() for sample in samples) - self.ungraded
        return graded + (self.agreement.pairs if self.agreement else 0)

    def check(self) -> None:
        """Check that the evaluation has a result.

        Raises:
            ModelFault: no question was answered, or the judge gave no verdict on any answer.
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
class AnswerSource:
    """Source of answers: `model`, asked each question `trials` times, or `stored` answers by question."""

    model: ChatModel | None = None
    stored: Mapping[str, Sequence[Answers]] = field(default_factory=dict[str, Sequence[Answers]])
    trials: int = 1
    role: str = "agent"

    def count(self, question: Question) -> int:
        """Number of samples of answers to a question."""
        return self.trials if self.model is not None else len(self.stored[question.id])

    async def answers(self, question: Question, trial: int, seed: int) -> Answers:
        """One sample; stored samples are reused in turn if there are fewer than trials."""
        if self.model is None:
            found = self.stored[question.id]
            return found[trial % len(found)]
        return await ask(self.model, question, trial, seed=seed, role=self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A judged evaluation of a question file.

    Attributes:
        name: first part of the suites' names.
        questions: the questions.
        ours: the answers that are evaluated.
        theirs: the answers that they are compared with; None for grades only.
        judge: the judge; None to store the answers without judging them.
    """

    name: str
    questions: Sequence[Question]
    ours: AnswerSource
    theirs: AnswerSource | None = None
    judge: Judge | None = None


async def evaluate(run: Run, evaluation: Evaluation) -> JudgedResults:
    """Answer, grade and compare all questions, as many at once as the run's concurrency allows.

    A resumed run repeats no call that was answered: its answers are read from the journal.

    Raises:
        RunStopped: a budget is used up, or an endpoint is unavailable.
    """
    session = _Session(run, evaluation, anyio.CapacityLimiter(run.concurrency))
    async with anyio.create_task_group() as group:
        for question in evaluation.questions:
            for trial in range(evaluation.ours.count(question)):
                group.start_soon(session.play, question, trial)
    planned = sum(evaluation.ours.count(question) for question in evaluation.questions)
    await require_results(session.results.answered + session.results.unanswered, planned, "questions")
    return session.results


@dataclass(frozen=True, slots=True)
class _Session:
    run: Run
    evaluation: Evaluation
    limiter: anyio.CapacityLimiter
    results: JudgedResults = field(default_factory=JudgedResults)

    async def play(self, question: Question, trial: int) -> None:
        """Answer one question once, and have the answers judged."""
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
        _record_answers(self.run, self.evaluation.name, question, trial, ours)
        self.results.answered += not ours.problem
        self.results.unanswered += bool(ours.problem)
        self.results.note_problems(ours.problem)
        self._show_progress()
        return ours

    async def _grade(self, judge: Judge, question: Question, ours: Answers) -> None:
        grades = [await judge.grade(question, ours, turn) for turn in range(len(question.turns))]
        self.results.grades.setdefault(question.id, []).append(grades)
        self.results.note_problems(*(grade.problem for grade in grades))
        _record_grades(self.run, self.evaluation, question, ours.trial, grades)
        self._show_progress()

    async def _compare(self, judge: Judge, question: Question, ours: Answers, theirs: Answers) -> None:
        if theirs.problem:
            detail = _judge_detail(self.evaluation, question) | {"problem": f"the other side: {theirs.problem}"}
            suite = f"{self.evaluation.name}/pairs"
            self.run.score_item(suite, question.id, trial=ours.trial, detail=detail, judged=0.0)
            self.results.uncompared += 1
            self.results.note_problems(f"the other side: {theirs.problem}")
            return
        pairs = [await judge.pair(question, ours, theirs, turn) for turn in range(len(question.turns))]
        self.results.pairs.setdefault(question.id, []).append(pairs)
        self.results.note_problems(*(each.problem for pair in pairs for each in (pair.ours_first, pair.theirs_first)))
        _record_pairs(self.run, self.evaluation, question, ours.trial, pairs)
        self._show_progress()

    def _show_progress(self) -> None:
        found = self.results
        samples = sum(map(len, found.grades.values()))
        answered = found.answered + found.unanswered
        self.run.progress.note = f"{self.evaluation.name}: {answered} of {self._planned} answered, {samples} graded"

    @property
    def _planned(self) -> int:
        return sum(map(self.evaluation.ours.count, self.evaluation.questions))


def _record_answers(run: Run, name: str, question: Question, trial: int, answers: Answers) -> None:
    suite = f"{name}/answers"
    run.score_item(
        suite, question.id, trial=trial, detail=answers.to_json(question), answered=float(not answers.problem)
    )
    run.score_item(suite, question.id, trial=trial, words=float(answers.words))


def _record_grades(run: Run, evaluation: Evaluation, question: Question, trial: int, grades: Sequence[Grade]) -> None:
    verdicts = [{"score": each.score, "problem": each.problem, "text": each.text} for each in grades]
    detail = _judge_detail(evaluation, question) | {"verdicts": verdicts}
    given = [each.score for each in grades]
    _record_verdicts(run, f"{evaluation.name}/grades", question, trial, detail, "score", given)


def _record_pairs(
    run: Run, evaluation: Evaluation, question: Question, trial: int, pairs: Sequence[JudgedPair]
) -> None:
    verdicts = [_pair_json(each) for each in pairs]
    detail = _judge_detail(evaluation, question) | {"verdicts": verdicts}
    _record_verdicts(run, f"{evaluation.name}/pairs", question, trial, detail, "win", [each.value for each in pairs])


def _record_verdicts(
    run: Run,
    suite: str,
    question: Question,
    trial: int,
    detail: Mapping[str, Any],
    metric: str,
    values: Sequence[float | None],
) -> None:
    """Record `metric_turn_N` for each turn, and their mean as `metric` if every turn has a verdict."""
    run.score_item(suite, question.id, trial=trial, detail=detail, judged=float(None not in values))
    turns = {f"{metric}_turn_{number}": value for number, value in enumerate(values, 1) if value is not None}
    whole = {metric: mean(list(turns.values()))} if len(turns) == len(values) else {}
    run.score_item(suite, question.id, trial=trial, detail=None, **whole, **turns)


def _judge_detail(evaluation: Evaluation, question: Question) -> dict[str, Any]:
    assert evaluation.judge is not None
    prompts = evaluation.judge.prompts
    return {
        "category": question.category,
        "judge": evaluation.judge.model.name,
        "prompts": [prompts.grade.name, prompts.pair.name],
    }


def _pair_json(pair: JudgedPair) -> dict[str, Any]:
    orders = {"ours_first": pair.ours_first, "theirs_first": pair.theirs_first}
    verdicts = {
        name: {"choice": each.choice, "problem": each.problem, "text": each.text} for name, each in orders.items()
    }
    return {"winner": pair.winner, **verdicts}


def judged_figures(name: str, results: JudgedResults, turns: int) -> dict[str, Any]:
    """Summary figures: grades, win rate, and the judge's agreement with itself."""
    found: dict[str, Any] = {f"{name} answered": results.answered}
    if results.unanswered:
        found[f"{name} not answered"] = results.unanswered
    if results.score is not None:
        found[f"{name} grade of 10"] = results.score.to_json()
        by_turn = [results.score_of_turn(turn) for turn in range(turns)] if turns > 1 else []
        found |= {f"{name} grade turn {n}": each.to_json() for n, each in enumerate(by_turn, 1) if each is not None}
    if results.ungraded:
        found[f"{name} answers without a grade"] = results.ungraded
    found |= _comparison(name, results)
    return found | ({f"{name} first problem": results.problem} if results.problem else {})


def _comparison(name: str, results: JudgedResults) -> dict[str, Any]:
    agreement = results.agreement
    found: dict[str, Any] = {}
    if agreement is not None:
        winners = [pair.winner for samples in results.pairs.values() for sample in samples for pair in sample]
        counts = {"wins": "ours", "ties": "tie", "losses": "theirs"}
        if results.win_rate is not None:
            found[f"{name} win rate"] = results.win_rate.to_json()
        found[f"{name} pairs"] = ", ".join(f"{winners.count(side)} {word}" for word, side in counts.items())  # pyright: ignore[reportArgumentType]
        found[f"{name} judge agrees"] = None if agreement.same is None else agreement.same.to_json()
        found[f"{name} judge kappa"] = agreement.kappa
        found[f"{name} judge ties"] = agreement.ties
        found[f"{name} judge prefers the first"] = agreement.first
        if agreement.missing:
            found[f"{name} pairs without a verdict"] = agreement.missing
    if results.uncompared:
        found[f"{name} answers without an opponent"] = results.uncompared
    return {key: value for key, value in found.items() if value is not None}
